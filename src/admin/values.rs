//! Values on their way between people and tasks: JSON to MessagePack, and back.
//!
//! JSON that would not arrive as it was typed is refused: a key given twice, an integer of more than 64 bits. What
//! MessagePack has and JSON has not is shown as an object with one key that starts with `$`, as in dead letters:
//! `{"$bytes": "<base64>"}`, `{"$ext": [type, "<base64>"]}`, `{"$float": "NaN"}`.

use std::fmt;

use celeriac_actors::frame::{FrameError, FrameLimits, decode_value, encode_value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value, json};

use crate::base64::encode as base64;

/// JSON as somebody typed it, no key of an object twice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Typed(pub(crate) Value);

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Reader { strict: true })
            .map(Self)
    }
}

/// MessagePack as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
struct Shown(Value);

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Reader { strict: false })
            .map(Self)
    }
}

/// Reads JSON that somebody typed.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let Typed(value) = serde_json::from_str(text).map_err(|error| error.to_string())?;
    refuse_lossy(text)?;
    Ok(value)
}

/// Refuses integers that do not fit into 64 bits: they would arrive as something else. `text` is valid JSON.
pub(crate) fn refuse_lossy(text: &str) -> Result<(), String> {
    match lossy_integer(text) {
        Some(number) => Err(format!(
            "the integer {} has more than 64 bits; write it as a text",
            super::text::brief(number, 40)
        )),
        None => Ok(()),
    }
}

fn lossy_integer(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let length = bytes[at..].iter().take_while(|b| is_part(b)).count();
                let number = &text[at..at + length];
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(number);
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

/// Encodes typed arguments, within the depth that a worker accepts.
///
/// # Errors
/// [`FrameError`] when they nest too deeply.
pub(crate) fn encode(value: &Value, limits: &FrameLimits) -> Result<Vec<u8>, FrameError> {
    let bytes = encode_value(value)?;
    decode_value::<IgnoredAny>(&bytes, limits)?;
    Ok(bytes)
}

/// Shows MessagePack as JSON; bytes that are none as their base64.
pub(crate) fn show(bytes: &[u8], limits: &FrameLimits) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    match decode_value::<Shown>(bytes, limits) {
        Ok(Shown(value)) => value,
        Err(_) => json!({ "$bytes": base64(bytes) }),
    }
}

#[derive(Clone, Copy)]
struct Reader {
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(match Number::from_f64(value) {
            Some(number) => Value::Number(number),
            None => json!({ "$float": value.to_string() }),
        })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(json!({ "$bytes": base64(value) }))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    /// An extension type of MessagePack: its number and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        let parts: Vec<Value> = match deserializer.deserialize_any(self)? {
            Value::Array(parts) => parts,
            other => vec![other],
        };
        let flat = parts.into_iter().map(|part| match part {
            Value::Object(mut bytes) => bytes.remove("$bytes").unwrap_or(Value::Null),
            other => other,
        });
        Ok(json!({ "$ext": flat.collect::<Vec<_>>() }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key_seed(self)? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            if self.strict && object.contains_key(&key) {
                let message = format!("the key `{}` is given twice", super::text::brief(&key, 80));
                return Err(A::Error::custom(message));
            }
            let value = map.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> FrameLimits {
        FrameLimits::default()
    }

    #[test]
    fn what_would_not_arrive_as_typed_is_refused() {
        for (text, said) in [
            (r#"{"a":1,"a":2}"#, "`a` is given twice"),
            (r#"{"x":{"b":1,"b":1}}"#, "`b` is given twice"),
            ("[18446744073709551616]", "more than 64 bits"),
            ("-9223372036854775809", "more than 64 bits"),
            ("[1", "EOF"),
            ("1e999", "out of range"),
            ("{} {}", "trailing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in [
            "18446744073709551615",
            "-9223372036854775808",
            r#""99999999999999999999999""#,
            r#"{"\"99999999999999999999999":1.5}"#,
            "1e30",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_is_that_of_the_worker() {
        let deep = |levels: usize| parse(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert!(encode(&deep(60).unwrap(), &limits()).is_ok());
        assert!(encode(&deep(100).unwrap(), &limits()).is_err());
        assert!(deep(100_000).is_err());
    }

    #[test]
    fn what_json_cannot_say_is_said_with_a_dollar() {
        for (bytes, expected) in [
            (
                &[0xc4, 4, 0, 1, 2, 255][..],
                json!({ "$bytes": "AAEC/w==" }),
            ),
            (&[0xd4, 5, 0x61], json!({ "$ext": [5, "YQ=="] })),
            (&[0x82, 1, 2, 0xc3, 0xc0], json!({ "1": 2, "true": null })),
            (
                &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
                json!({ "$float": "NaN" }),
            ),
            (&[0xc1], json!({ "$bytes": "wQ==" })),
            (&[], Value::Null),
        ] {
            assert_eq!(show(bytes, &limits()), expected);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300_f64..1e300).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_the_same(value in value()) {
            let text = value.to_string();
            let parsed = parse(&text).unwrap();
            prop_assert_eq!(show(&encode(&parsed, &limits()).unwrap(), &limits()), parsed);
        }

        #[test]
        fn any_bytes_are_shown(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(show(&bytes, &limits()));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in any::<String>()) {
            drop(parse(&text));
            let _seen = lossy_integer(&text);
        }
    }
}
