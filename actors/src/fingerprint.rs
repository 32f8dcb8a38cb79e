//! Which dead letters died of the same: a short text that is equal for errors that differ only in their particulars.
//!
//! The message is normalised: quoted text becomes `<q>`, a UUID `<uuid>`, `0x…` and runs of eight or more hexadecimal
//! digits `<hex>`, other digits `#`, white space one blank. Then task, kind and message are hashed (FNV-1a, 64 bits).
//! Fingerprints are stored: a change of the rules starts new clusters, so there is none without need.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::cut;
use crate::ports::DeadLetter;
use crate::state::DeadReason;

/// The longest normalised message that counts, in bytes.
const MAX_NORMALISED: usize = 400;

/// What a dead letter died of; written as sixteen hexadecimal digits.
///
/// ```
/// use celeriac_actors::fingerprint::Fingerprint;
///
/// let fingerprint: Fingerprint = "00000000deadbeef".parse().unwrap();
/// assert_eq!(fingerprint.to_string(), "00000000deadbeef");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

/// A text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has sixteen hexadecimal digits, such as 9f3a01c2deadbeef")]
pub struct FingerprintError;

impl Fingerprint {
    /// Returns the fingerprint of why a letter died.
    #[must_use]
    pub fn of(letter: &DeadLetter) -> Self {
        let task = letter.task.as_ref().map_or("?", |task| task.as_str());
        let by_its_own = matches!(letter.reason, DeadReason::Exhausted | DeadReason::Permanent);
        let (kind, message) = match letter.failures.last() {
            Some(failure) if by_its_own => (failure.kind.as_str(), failure.message.as_str()),
            _ => (letter.reason.as_str(), letter.note.as_str()),
        };
        let text = format!("{task}\n{kind}\n{}", normalised(message));
        Self(fnv1a(text.as_bytes()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = is_hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(FingerprintError)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns a message without its particulars.
fn normalised(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    let mut after_word = false;
    while let Some(first) = rest.chars().next()
        && out.len() < MAX_NORMALISED
    {
        let is_word = |c: char| c.is_ascii_alphanumeric();
        let len = if let Some(len) = quoted(rest, first, after_word) {
            out.push_str("<q>");
            len
        } else if is_word(first) {
            let end = rest
                .find(|c: char| !is_word(c) && c != '-')
                .unwrap_or(rest.len());
            word(&rest[..end], &mut out);
            end
        } else if first.is_whitespace() {
            out.push(' ');
            rest.find(|c: char| !c.is_whitespace())
                .unwrap_or(rest.len())
        } else {
            out.push(first);
            first.len_utf8()
        };
        after_word = rest[..len].ends_with(is_word);
        rest = &rest[len..];
    }
    cut(out, MAX_NORMALISED)
}

/// Returns the length of the quoted text at the front of `rest`, if one starts there. An apostrophe is no quote.
fn quoted(rest: &str, first: char, after_word: bool) -> Option<usize> {
    let opens = matches!(first, '"' | '`') || (first == '\'' && !after_word);
    let closing = opens.then(|| rest[1..].find(first)).flatten()?;
    Some(closing + 2)
}

/// Writes a word: letters, digits and hyphens.
fn word(text: &str, out: &mut String) {
    if is_uuid(text) {
        out.push_str("<uuid>");
        return;
    }
    for (number, part) in text.split('-').enumerate() {
        if number > 0 {
            out.push('-');
        }
        let digits = part.strip_prefix("0x").unwrap_or(part);
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let has_digit = digits.bytes().any(|b| b.is_ascii_digit());
        let long = digits.len() >= 8 && digits.bytes().any(|b| b.is_ascii_alphabetic());
        if is_hex && !digits.is_empty() && (digits.len() < part.len() || (has_digit && long)) {
            out.push_str("<hex>");
        } else {
            let mut in_number = false;
            for c in part.chars() {
                if !c.is_ascii_digit() {
                    out.push(c);
                } else if !in_number {
                    out.push('#');
                }
                in_number = c.is_ascii_digit();
            }
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn particulars_go_and_words_stay() {
        for (message, expected) in [
            (
                "timeout after 30s on host db-17",
                "timeout after #s on host db-#",
            ),
            (
                "user 'anna' isn't known, can't go on",
                "user <q> isn't known, can't go on",
            ),
            ("no file \"/tmp/x\"\n  at `main`", "no file <q> at <q>"),
            ("id 123e4567-e89b-12d3-a456-426614174000!", "id <uuid>!"),
            (
                "ptr 0xdeadbeef sha 9f3a01c2 facade",
                "ptr <hex> sha <hex> facade",
            ),
            ("code 12345678901", "code #"),
            ("an \"open quote and ü", "an \"open quote and ü"),
        ] {
            assert_eq!(normalised(message), expected);
        }
    }

    #[test]
    fn only_sixteen_digits_are_a_fingerprint() {
        let read = |text: &str| text.parse::<Fingerprint>().map(|f| f.to_string());
        assert_eq!(read("00ABcdef01234567"), Ok("00abcdef01234567".to_owned()));
        for text in [
            "",
            "1",
            "+0abcdef01234567",
            "00abcdef0123456g",
            "00abcdef012345678",
        ] {
            assert_eq!(read(text), Err(FingerprintError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_normalised_within_bounds(message in any::<String>()) {
            prop_assert!(normalised(&message.repeat(50)).len() <= MAX_NORMALISED);
        }

        #[test]
        fn numbers_never_matter(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(
                normalised(&format!("row {a} of {b} failed")),
                normalised("row 1 of 2 failed"),
            );
        }
    }
}
