//! Sensitive arguments: what is shown instead of them. The frame keeps them, because it is what is run.

use serde_json::Value;

/// What stands where something is not shown.
pub const MARK: &str = "[redacted]";

/// Redacts the parts of arguments that `paths` name, as [`Task::SENSITIVE`](crate::task::Task::SENSITIVE) does. A path that leads nowhere
/// redacts nothing.
pub fn value(args: &mut Value, paths: &[String]) {
    for path in paths {
        at(args, &steps(path));
    }
}

/// Redacts arguments written as JSON. What is no JSON any more, because it was cut, is redacted whole.
#[must_use]
pub fn text(args: &str, paths: &[String]) -> String {
    match serde_json::from_str::<Value>(args) {
        Ok(mut args) if args.get("$cut").is_none() => {
            value(&mut args, paths);
            args.to_string()
        }
        _ => all(),
    }
}

/// Returns what is shown of arguments that are redacted whole, as JSON.
#[must_use]
pub fn all() -> String {
    Value::from(MARK).to_string()
}

/// One step into a value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step<'a> {
    Field(&'a str),
    EachField,
    Item(usize),
    EachItem,
}

/// Takes a path apart: `a.b[].c[2].*`. What is no number in brackets is the name of a field.
fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (name, brackets) = part.split_at(part.find('[').unwrap_or(part.len()));
        match name {
            "" => {}
            "*" => steps.push(Step::EachField),
            name => steps.push(Step::Field(name)),
        }
        for inside in brackets.split('[').skip(1) {
            let inside = inside.trim_end_matches(']');
            steps.push(match (inside, inside.parse()) {
                ("" | "*", _) => Step::EachItem,
                (_, Ok(index)) => Step::Item(index),
                (name, Err(_)) => Step::Field(name),
            });
        }
    }
    steps
}

fn at(value: &mut Value, steps: &[Step<'_>]) {
    let Some((step, rest)) = steps.split_first() else {
        *value = Value::from(MARK);
        return;
    };
    if steps == [Step::EachField] && !value.is_object() {
        // `*` at the end is everything, whatever it is.
        *value = Value::from(MARK);
        return;
    }
    match (step, value) {
        (Step::Field(name), Value::Object(fields)) => {
            if let Some(field) = fields.get_mut(*name) {
                at(field, rest);
            }
        }
        (Step::EachField, Value::Object(fields)) => {
            fields.values_mut().for_each(|field| at(field, rest));
        }
        (Step::Item(index), Value::Array(items)) => {
            if let Some(item) = items.get_mut(*index) {
                at(item, rest);
            }
        }
        (Step::EachItem, Value::Array(items)) => {
            items.iter_mut().for_each(|item| at(item, rest));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn redacted(args: Value, paths: &[&str]) -> Value {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut args = args;
        value(&mut args, &paths);
        args
    }

    #[test]
    fn paths_lead_to_what_is_redacted() {
        let args =
            || json!({ "card": { "number": "4111", "ok": 1 }, "items": [{ "p": 1 }, { "p": 2 }] });
        for (paths, expected) in [
            (
                &["card.number"][..],
                json!({ "card": { "number": MARK, "ok": 1 }, "items": [{ "p": 1 }, { "p": 2 }] }),
            ),
            (
                &["card"],
                json!({ "card": MARK, "items": [{ "p": 1 }, { "p": 2 }] }),
            ),
            (
                &["card.*", "items[].p"],
                json!({ "card": { "number": MARK, "ok": MARK }, "items": [{ "p": MARK }, { "p": MARK }] }),
            ),
            (
                &["items[1]"],
                json!({ "card": { "number": "4111", "ok": 1 }, "items": [{ "p": 1 }, MARK] }),
            ),
            (&["*"], json!({ "card": MARK, "items": MARK })),
            (&["nowhere", "card[0]", "items.p", "items[7]"], args()),
        ] {
            assert_eq!(redacted(args(), paths), expected, "{paths:?}");
        }
        assert_eq!(redacted(json!(["a", "b"]), &["[0]"]), json!([MARK, "b"]));
        assert_eq!(redacted(json!("a"), &["*"]), json!(MARK));
        assert_eq!(redacted(json!([1, 2]), &["*"]), json!(MARK));
    }

    #[test]
    fn what_was_cut_is_redacted_whole() {
        let paths = ["pin".to_owned()];
        assert_eq!(
            text(r#"{"pin":1,"a":2}"#, &paths),
            json!({ "pin": MARK, "a": 2 }).to_string()
        );
        assert_eq!(text(r#"{"$cut":"{\"pin\":1","bytes":9}"#, &paths), all());
        assert_eq!(text("{", &paths), all());
    }
}
