//! MessagePack written as JSON while it is decoded, up to a bound.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::MAX_ARGS;

/// How much of longer arguments is kept. Written as text inside JSON it may double.
const START: usize = MAX_ARGS / 2 - 64;

type Failed = rmp_serde::decode::Error;

/// Writes arguments as JSON; says why when they do not decode.
pub(super) fn args(bytes: &[u8], max_depth: usize) -> Result<String, Failed> {
    let mut out = Bounded(String::new());
    let mut cursor = std::io::Cursor::new(bytes);
    let mut deserializer = rmp_serde::Deserializer::new(&mut cursor).with_human_readable();
    deserializer.set_max_depth(max_depth);
    let outcome = Written(&mut out).deserialize(&mut deserializer);
    let Bounded(text) = out;
    if text.len() > MAX_ARGS {
        // Whatever else is wrong lies behind what is kept.
        let start = quoted(head(&text, START));
        return Ok(format!("{{\"$cut\":{start},\"bytes\":{}}}", bytes.len()));
    }
    outcome?;
    let end = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
    match bytes.len().saturating_sub(end) {
        0 => Ok(text),
        more => Err(Failed::custom(format!("{more} bytes follow the value"))),
    }
}

/// Text that says when it is long enough.
struct Bounded(String);

impl Bounded {
    fn push<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        if self.0.len() > MAX_ARGS {
            return Err(E::custom("long enough"));
        }
        Ok(())
    }
}

/// Writes the value that it is a seed of.
struct Written<'a>(&'a mut Bounded);

impl<'de> DeserializeSeed<'de> for Written<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Written<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { "true" } else { "false" })
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.0.push(&value.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.0.push(&value.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.0.push(&number.to_string()),
            None => self.0.push(&format!("{{\"$float\":\"{value}\"}}")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        // One that is cut here is too long whatever becomes of it.
        self.0.push(&quoted(head(value, MAX_ARGS + 4)))
    }

    fn visit_bytes<E: serde::de::Error>(self, value: &[u8]) -> Result<(), E> {
        self.0
            .push(&format!("{{\"$bytes\":\"{}\"}}", base64(value)))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.push("null")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.0.push("null")
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    /// An extension type: its number and its bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let (number, bytes) = deserializer.deserialize_any(Extension)?;
        self.0
            .push(&format!("{{\"$ext\":[{number},\"{}\"]}}", base64(&bytes)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.push("[")?;
        let mut first = true;
        loop {
            let before = self.0.0.len();
            if !first {
                self.0.push(",")?;
            }
            if seq.next_element_seed(Written(self.0))?.is_none() {
                self.0.0.truncate(before);
                return self.0.push("]");
            }
            first = false;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.push("{")?;
        let mut separator = "";
        while let Some(key) = map.next_key_seed(Key)? {
            self.0.push(separator)?;
            self.0.push(&quoted(&key))?;
            self.0.push(":")?;
            map.next_value_seed(Written(self.0))?;
            separator = ",";
        }
        self.0.push("}")
    }
}

/// Reads a map's key as text: text as it is, another value as its JSON.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let mut out = Bounded(String::new());
        Written(&mut out).deserialize(deserializer)?;
        let text = serde_json::from_str::<String>(&out.0);
        Ok(text.unwrap_or(out.0))
    }
}

/// Reads an extension type.
struct Extension;

impl<'de> Visitor<'de> for Extension {
    type Value = (i8, Vec<u8>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an extension type")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let missing = || A::Error::custom("an extension type has a number and bytes");
        let number = seq.next_element()?.ok_or_else(missing)?;
        let bytes = seq.next_element_seed(Bytes)?.ok_or_else(missing)?;
        Ok((number, bytes))
    }
}

/// Reads bytes.
struct Bytes;

impl<'de> DeserializeSeed<'de> for Bytes {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

/// Returns the front of a text, at most `max` bytes.
fn head(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns text as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing into a `String` cannot fail.
            c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Returns bytes in base64, padded, as far as they may be kept.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let mut out = String::new();
    for chunk in bytes[..bytes.len().min(MAX_ARGS)].chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (at, byte)| {
            group | u32::from(*byte) << (16 - 8 * at)
        });
        for digit in 0..4 {
            let value = (group >> (18 - 6 * digit)) & 63;
            let is_there = digit <= chunk.len();
            out.push(if is_there {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> String {
        args(bytes, 64).unwrap()
    }

    #[test]
    fn what_json_cannot_say_is_said_with_a_dollar() {
        for (bytes, expected) in [
            (&[0xc4, 4, 0, 1, 2, 255][..], r#"{"$bytes":"AAEC/w=="}"#),
            (&[0xd4, 5, 0x61], r#"{"$ext":[5,"YQ=="]}"#),
            (&[0x82, 1, 2, 0xc3, 0xc0], r#"{"1":2,"true":null}"#),
            (&[0x81, 0x91, 0xa1, b'x', 0xff], r#"{"[\"x\"]":-1}"#),
            (&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], r#"{"$float":"NaN"}"#),
            (&[0xa3, b'"', 0, b'\n'], r#""\"\u0000\n""#),
            (&[0x90], "[]"),
            (&[0x92, 0x90, 0x80], "[[],{}]"),
        ] {
            assert_eq!(json(bytes), expected);
        }
    }

    #[test]
    fn long_arguments_are_cut_and_stay_json() {
        for value in [
            serde_json::json!("\"ü\\".repeat(100_000)),
            serde_json::json!(vec!["\u{1}"; 60_000]),
            serde_json::json!({ "k": "v".repeat(MAX_ARGS) }),
        ] {
            let bytes = crate::frame::encode_value(&value).unwrap();
            let text = json(&bytes);
            assert!(text.len() <= MAX_ARGS, "{} bytes", text.len());
            let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(shown["bytes"], bytes.len());
            let start = shown["$cut"].as_str().unwrap();
            assert!(serde_json::to_string(&value).unwrap().starts_with(start));
        }
    }

    #[test]
    fn depth_and_what_follows_are_refused() {
        let mut deep = vec![0x91_u8; 100];
        deep.push(0xc0);
        assert!(args(&deep, 64).is_err());
        assert!(args(&[1, 2], 64).is_err());
        assert!(args(&[], 64).is_err());
    }
}
