//! Which part of a value is the one that a task cannot read. Pure.
//!
//! A decoder reads fields in their order and stops at the first that is wrong. So the culprit is the first field with
//! which, and nothing behind it, the decoder says the same as of the whole.

use serde_json::{Map, Value};

/// How deep a culprit is looked for.
const MAX_DEPTH: usize = 8;

/// Returns the place of the part that `fits` complains about, such as `items[3].price`; empty when it is the whole.
pub(crate) fn blame(value: &Value, fits: &dyn Fn(&Value) -> Result<(), String>) -> String {
    let place = locate(value, fits, MAX_DEPTH);
    place.trim_start_matches('.').to_owned()
}

fn locate(value: &Value, fits: &dyn Fn(&Value) -> Result<(), String>, depth: usize) -> String {
    let Err(complaint) = fits(value) else {
        return String::new();
    };
    let parts = length(value);
    if depth == 0 || parts == 0 || fits(&front(value, 0)).err().as_ref() == Some(&complaint) {
        return String::new();
    }
    let counts: Vec<usize> = (1..=parts).collect();
    let is_innocent =
        |count: &usize| fits(&front(value, *count)).err().as_ref() != Some(&complaint);
    let at = counts.partition_point(is_innocent);
    let Some((name, part)) = part(value, at) else {
        return String::new();
    };
    let within = |inner: &Value| {
        let mut whole = front(value, at + 1);
        if let Some(slot) = last(&mut whole, at) {
            *slot = inner.clone();
        }
        fits(&whole)
    };
    name + &locate(part, &within, depth - 1)
}

fn length(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

/// Returns the value with only its first parts.
fn front(value: &Value, count: usize) -> Value {
    match value {
        Value::Object(fields) => {
            let front = fields.iter().take(count);
            Value::Object(
                front
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().take(count).cloned().collect()),
        other => other.clone(),
    }
}

fn part(value: &Value, at: usize) -> Option<(String, &Value)> {
    match value {
        Value::Object(fields) => {
            let (key, part) = fields.iter().nth(at)?;
            Some((format!(".{key}"), part))
        }
        Value::Array(items) => Some((format!("[{at}]"), items.get(at)?)),
        _ => None,
    }
}

fn last(value: &mut Value, at: usize) -> Option<&mut Value> {
    match value {
        Value::Object(fields) => fields.values_mut().nth(at),
        Value::Array(items) => items.get_mut(at),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize)]
    struct Order {
        #[serde(rename = "id")]
        _id: u64,
        #[serde(rename = "items")]
        _items: Vec<Item>,
        #[serde(rename = "note", default)]
        _note: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[serde(rename = "price")]
        _price: f64,
    }

    fn fits(value: &Value) -> Result<(), String> {
        Order::deserialize(value)
            .map(drop)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn the_culprit_is_named() {
        for (value, place) in [
            (json!({ "id": "x", "items": [] }), "id"),
            (json!({ "id": 1, "items": {} }), "items"),
            (
                json!({ "id": 1, "items": [{ "price": 1 }, { "price": "2" }] }),
                "items[1].price",
            ),
            (json!({ "id": 1, "items": [{ "price": 1 }, 7] }), "items[1]"),
            (
                json!({ "id": 1, "items": [{ "price": 1, "vat": 2 }] }),
                "items[0].vat",
            ),
            (json!({ "id": 1, "items": [], "note": 5 }), "note"),
            (json!({ "items": [] }), ""),
            (json!([]), ""),
            (json!(7), ""),
        ] {
            assert_eq!(blame(&value, &fits), place, "{value}");
        }
    }

    #[test]
    fn long_lists_are_searched_in_few_steps() {
        let mut items = vec![json!({ "price": 1 }); 1_000];
        items[777] = json!({ "price": null });
        let looks = std::cell::Cell::new(0);
        let counted = |value: &Value| {
            looks.set(looks.get() + 1);
            fits(value)
        };
        let value = json!({ "id": 1, "items": items });
        assert_eq!(blame(&value, &counted), "items[777].price");
        assert!(looks.get() < 40, "{}", looks.get());
    }
}
