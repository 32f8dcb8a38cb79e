//! Arguments of a command line: fixed text, with placeholders for single arguments of the task.
//!
//! Pure. A value is put in as one piece of one argument, and no shell ever sees it. What could be taken for an option is
//! refused: a value that begins an argument must not begin with `-`.

use serde_json::Value;

/// One argument of a command line, perhaps with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Key(String),
}

/// A placeholder is not written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a placeholder is written `{{{{key}}}}`, with letters, digits and `_` in it; found `{0}`")]
pub struct PlaceholderError(pub String);

/// A task's arguments cannot be put into a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FillError {
    #[error("the command line needs the argument `{0}`, which the task does not have")]
    Missing(String),
    #[error(
        "the argument `{0}` is no text, number or truth value, and cannot be in a command line"
    )]
    NoScalar(String),
    #[error("the argument `{0}` begins with `-` and would be taken for an option")]
    Dash(String),
    #[error("the argument `{0}` has a zero byte")]
    Zero(String),
}

impl Template {
    /// Reads an argument as it is written in a configuration.
    ///
    /// # Errors
    /// [`PlaceholderError`] when a placeholder does not end or names nothing.
    pub fn new(text: &str) -> Result<Self, PlaceholderError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let wrong = || PlaceholderError(text.to_owned());
            let (key, behind) = behind.split_once("}}").ok_or_else(wrong)?;
            let key = key.trim();
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if key.is_empty() || !key.chars().all(is_word) {
                return Err(wrong());
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Key(key.to_owned()));
            rest = behind;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Puts the task's arguments in.
    pub(super) fn fill(&self, args: &Value) -> Result<String, FillError> {
        let mut filled = String::new();
        for piece in &self.pieces {
            let key = match piece {
                Piece::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Piece::Key(key) => key,
            };
            let value = match args.get(key) {
                None | Some(Value::Null) => return Err(FillError::Missing(key.clone())),
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Bool(truth)) => truth.to_string(),
                Some(_) => return Err(FillError::NoScalar(key.clone())),
            };
            if value.contains('\0') {
                return Err(FillError::Zero(key.clone()));
            }
            if filled.is_empty() && value.starts_with('-') {
                return Err(FillError::Dash(key.clone()));
            }
            filled.push_str(&value);
        }
        Ok(filled)
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Key(key) => write!(f, "{{{{{key}}}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, args: &Value) -> Result<String, FillError> {
        Template::new(template).unwrap().fill(args)
    }

    #[test]
    fn values_are_put_in_as_they_are() {
        let args = json!({ "id": 7, "name": "a b; rm -rf $HOME", "on": true });
        assert_eq!(fill("--id={{id}}", &args).unwrap(), "--id=7");
        assert_eq!(fill("{{ name }}", &args).unwrap(), "a b; rm -rf $HOME");
        assert_eq!(fill("{{id}}-{{on}}", &args).unwrap(), "7-true");
        assert_eq!(fill("", &args).unwrap(), "");
        assert_eq!(fill("{plain}", &args).unwrap(), "{plain}");
    }

    #[test]
    fn what_does_not_belong_into_a_command_line_is_refused() {
        let args = json!({ "dash": "-rf", "minus": -1, "list": [1], "zero": "a\0b", "no": null });
        let missing = |key: &str| Err(FillError::Missing(key.to_owned()));
        assert_eq!(fill("{{other}}", &args), missing("other"));
        assert_eq!(fill("{{no}}", &args), missing("no"));
        assert_eq!(fill("{{dash}}", &args), Err(FillError::Dash("dash".into())));
        assert_eq!(
            fill("{{minus}}", &args),
            Err(FillError::Dash("minus".into()))
        );
        assert_eq!(fill("--by={{minus}}", &args).unwrap(), "--by=-1");
        assert_eq!(
            fill("{{list}}", &args),
            Err(FillError::NoScalar("list".into()))
        );
        assert_eq!(fill("{{zero}}", &args), Err(FillError::Zero("zero".into())));
        assert_eq!(fill("{{id}}", &json!(["not", "named"])), missing("id"));
    }

    #[test]
    fn placeholders_have_a_form() {
        for wrong in ["{{", "a {{id", "{{}}", "{{a b}}", "{{a.b}}"] {
            assert!(Template::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Template::new("x{{ id }}y").unwrap().to_string(), "x{{id}}y");
    }
}
