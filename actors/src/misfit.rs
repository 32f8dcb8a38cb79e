//! Which argument is not what a task takes.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::frame::FrameLimits;
use crate::redact;
use crate::task::Task;

/// An argument that a task does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where it is, such as `items[3].price`; empty when it is the whole, or not known.
    pub place: String,
    /// What is wrong with it, in the words of its type. Says nothing of the value where a task has sensitive arguments.
    pub reason: String,
}

impl fmt::Display for Misfit {
    /// Writes the place, where it is known, and the reason, to follow on what does not fit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place[..] {
            "" => write!(f, ": {}", self.reason),
            place => write!(f, " at `{place}`: {}", self.reason),
        }
    }
}

impl Misfit {
    /// Finds what a kind of task does not take; `None` when it takes everything.
    #[must_use]
    pub fn of<T: Task>(args: &[u8], limits: &FrameLimits) -> Option<Self> {
        let misfit = find::<T>(args, limits)?;
        if T::SENSITIVE.is_empty() {
            return Some(misfit);
        }
        // A decoder quotes what it found.
        Some(Self {
            reason: format!("it does not decode {}", redact::MARK),
            ..misfit
        })
    }
}

fn find<T: DeserializeOwned>(args: &[u8], limits: &FrameLimits) -> Option<Misfit> {
    let mut cursor = std::io::Cursor::new(args);
    let mut deserializer = rmp_serde::Deserializer::new(&mut cursor).with_human_readable();
    deserializer.set_max_depth(limits.max_depth);
    let outcome: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
    let Err(error) = outcome else {
        let end = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
        let more = args.len().saturating_sub(end);
        return (more > 0).then(|| Misfit {
            place: String::new(),
            reason: format!("{more} bytes follow the value"),
        });
    };
    let place = match error.path().to_string() {
        place if place == "." => String::new(),
        place => place,
    };
    let reason = match error.into_inner() {
        // The words of the encoding help nobody.
        rmp_serde::decode::Error::TypeMismatch(_) => {
            "a value of another type is expected".to_owned()
        }
        error => error.to_string(),
    };
    Some(Misfit { place, reason })
}

/// Returns how many letters differ between two names (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_value;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    #[derive(Serialize, Deserialize)]
    struct Order {
        id: u64,
        items: Vec<Item>,
    }

    #[derive(Serialize, Deserialize)]
    struct Item {
        price: f64,
    }

    crate::task!(Order as "shop.order");

    #[derive(Serialize, Deserialize)]
    struct Secret {
        pin: u32,
    }

    impl Task for Secret {
        const NAME: &'static str = "shop.secret";
        const SENSITIVE: &'static [&'static str] = &["pin"];
        type Output = ();
    }

    fn misfit<T: Task>(args: &Value) -> Option<(String, String)> {
        let bytes = encode_value(args).unwrap();
        let misfit = Misfit::of::<T>(&bytes, &FrameLimits::default())?;
        Some((misfit.place, misfit.reason))
    }

    #[test]
    fn the_place_is_named() {
        assert_eq!(misfit::<Order>(&json!({ "id": 1, "items": [] })), None);
        for (args, place) in [
            (json!({ "id": "x", "items": [] }), "id"),
            (
                json!({ "id": 1, "items": [{ "price": 1.0 }, { "price": "2" }] }),
                "items[1].price",
            ),
            (json!({ "id": 1, "items": 7 }), "items"),
            (json!({ "items": [] }), ""),
            (json!("x"), ""),
        ] {
            let (found, reason) = misfit::<Order>(&args).unwrap();
            assert_eq!(found, place, "{args}: {reason}");
            assert!(!reason.contains("marker"), "{reason}");
        }
    }

    #[test]
    fn a_sensitive_value_is_not_quoted() {
        let (place, reason) = misfit::<Secret>(&json!({ "pin": "hunter2" })).unwrap();
        assert_eq!(place, "pin");
        assert!(!reason.contains("hunter2"), "{reason}");
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("a", "b", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
