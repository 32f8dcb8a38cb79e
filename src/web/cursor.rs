//! Places to go on from, as callers see them: opaque texts.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Writes a place as a text that fits into an address.
pub(super) fn write<T: Serialize>(place: &T) -> String {
    let bytes = serde_json::to_vec(place).unwrap_or_default();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a place that an earlier page named.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let wrong =
        || Problem::invalid("`after` is no cursor that an earlier page of this route named");
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    let bytes = bytes.ok_or_else(wrong)?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_nothing_else_is_one() {
        let place = ("billing".to_owned(), 7_u64);
        assert_eq!(read::<(String, u64)>(&write(&place)).unwrap(), place);
        for text in ["", "7", "zz", "7b7d", "\u{e9}\u{e9}", "+1"] {
            assert!(read::<(String, u64)>(text).is_err(), "{text}");
        }
    }
}
