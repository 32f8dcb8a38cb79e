//! Parameters of requests: which there are, what they may be, and reading them. Unknown ones are refused.

use actix_web::web::Query;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::admin::text::brief;
use crate::admin::when::When;
use crate::suggest::did_you_mean;

/// The longest value, cursors aside.
const MAX_VALUE: usize = 1_024;
/// The longest cursor.
const MAX_CURSOR: usize = 16_384;

/// What a parameter may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A number, clamped to both bounds; the default is the last.
    Count(u32, u32, u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// An instant in RFC 3339, a day, or an age such as `2h`.
    Moment,
    /// `true` or `false`.
    Switch,
    /// What an earlier page named as `next`.
    Cursor,
}

/// One parameter of the query.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
}

/// How many rows a page has.
pub(super) const LIMIT: Param = Param {
    name: "limit",
    kind: Kind::Count(1, 500, 50),
    doc: "How many rows the page has at most; clamped to 1 to 500.",
};

/// Where a page starts.
pub(super) const AFTER: Param = Param {
    name: "after",
    kind: Kind::Cursor,
    doc: "The `next` of the page before.",
};

impl Param {
    /// Returns its schema.
    pub(super) fn schema(&self) -> Value {
        match self.kind {
            Kind::Text | Kind::Moment | Kind::Cursor => json!({ "type": "string" }),
            Kind::Count(min, max, default) => {
                json!({ "type": "integer", "minimum": min, "maximum": max, "default": default })
            }
            Kind::Word(words) => json!({ "type": "string", "enum": words }),
            Kind::Switch => json!({ "type": "boolean", "default": false }),
        }
    }
}

/// The parameters of one request, all of them known.
#[derive(Debug)]
pub(super) struct Params {
    known: &'static [Param],
    given: Vec<(String, String)>,
}

impl Params {
    /// Takes a query apart.
    pub(super) fn read(query: &str, known: &'static [Param]) -> Result<Self, Problem> {
        let given = Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Problem::invalid("the query of the address cannot be read"))?
            .into_inner();
        for (at, (name, value)) in given.iter().enumerate() {
            let shown = brief(name, 60);
            let Some(param) = known.iter().find(|param| param.name == name) else {
                let hint = did_you_mean(&shown, known.iter().map(|param| param.name));
                let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
                let detail = format!("there is no parameter `{shown}` here{hint}");
                return Err(Problem::new(400, "unknown-parameter", detail));
            };
            if given[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::invalid(format!("`{shown}` is given twice")));
            }
            let max = match param.kind {
                Kind::Cursor => MAX_CURSOR,
                _ => MAX_VALUE,
            };
            if value.len() > max {
                return Err(Problem::invalid(format!(
                    "`{shown}` has more than {max} bytes"
                )));
            }
        }
        let params = Self { known, given };
        params
            .known
            .iter()
            .try_for_each(|param| params.check(param))?;
        Ok(params)
    }

    fn check(&self, param: &Param) -> Result<(), Problem> {
        let Some(value) = self.text(param.name) else {
            return Ok(());
        };
        let wrong = |what: &str| {
            let (name, value) = (param.name, brief(value, 60));
            Err(Problem::invalid(format!(
                "`{name}`: found `{value}` instead of {what}"
            )))
        };
        match param.kind {
            Kind::Count(..) if number(value).is_none() => wrong("a whole number"),
            Kind::Word(words) if !words.contains(&value) => wrong(&words.join(", ")),
            Kind::Switch if !matches!(value, "true" | "false") => wrong("true or false"),
            Kind::Moment => match value.parse::<When>() {
                Ok(_) => Ok(()),
                Err(why) => wrong(&why.replace("expected ", "")),
            },
            _ => Ok(()),
        }
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        debug_assert!(self.known.iter().any(|param| param.name == name), "{name}");
        let given = self.given.iter().find(|(key, _)| key == name);
        given.map(|(_, value)| value.as_str())
    }

    /// Returns a number within its bounds.
    pub(super) fn count(&self, name: &str) -> u32 {
        let kind = self.known.iter().find(|param| param.name == name);
        let Some(Kind::Count(min, max, default)) = kind.map(|param| param.kind) else {
            return 0;
        };
        let given = self.text(name).and_then(number);
        given.map_or(default, |number| {
            u32::try_from(number).unwrap_or(u32::MAX).clamp(min, max)
        })
    }

    /// Returns a switch.
    pub(super) fn switch(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Returns an instant, seen from `now`.
    pub(super) fn moment(&self, name: &str, now: Timestamp) -> Option<Timestamp> {
        let when: When = self.text(name)?.parse().ok()?;
        Some(when.instant(now))
    }
}

/// Reads a number of any size, for it is clamped; what is below nothing is nothing.
fn number(text: &str) -> Option<u128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.starts_with('-') {
        Some(0)
    } else {
        digits.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: [Param; 2] = [LIMIT, AFTER];

    #[test]
    fn numbers_are_clamped() {
        for (query, limit) in [
            ("", 50),
            ("limit=7", 7),
            ("limit=0", 1),
            ("limit=-5", 1),
            ("limit=99999999999999999999", 500),
        ] {
            assert_eq!(
                Params::read(query, &KNOWN).unwrap().count("limit"),
                limit,
                "{query}"
            );
        }
    }

    #[test]
    fn what_is_not_known_or_not_clear_is_refused() {
        for (query, said) in [
            ("limti=7", "did you mean `limit`?"),
            ("limit=7&limit=8", "given twice"),
            ("limit=x", "a whole number"),
            ("limit", "a whole number"),
            ("%00=1", "there is no parameter"),
        ] {
            let problem = Params::read(query, &KNOWN).unwrap_err().to_string();
            assert!(problem.contains(said), "{query}: {problem}");
        }
    }
}
