//! Escaping: no text in a log line can end it, start another, or steer the terminal that shows it.
//!
//! Pure. Besides control characters (C0, DEL, C1) this covers the line and paragraph separators and the marks that
//! turn the direction of text.

/// Tells whether a character must not reach a log's reader as it is.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Appends `text` for people: `\n`, `\t`, `\u{1b}`.
pub(crate) fn push_plain(line: &mut Vec<u8>, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) {
            line.extend(c.escape_default().map(|c| c as u8)); // ASCII by definition.
        } else {
            line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Appends a JSON document, in which such characters can only be part of strings, as `\u001b`.
pub(crate) fn push_json(line: &mut Vec<u8>, json: &str) {
    if !json.chars().any(is_unsafe) {
        line.extend_from_slice(json.as_bytes());
        return;
    }
    for c in json.chars() {
        if is_unsafe(c) {
            // All of them lie in the first plane, so four digits are enough.
            line.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
        } else {
            line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_what_it_hides() {
        let mut line = Vec::new();
        push_plain(&mut line, "a\nb\t\u{1b}[31m\u{9b}ü\u{202e}");
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "a\\nb\\t\\u{1b}[31m\\u{9b}ü\\u{202e}"
        );
    }

    proptest! {
        #[test]
        fn json_means_the_same_afterwards(text in proptest::collection::vec(any::<char>(), 0..20)) {
            let text: String = text.into_iter().collect();
            let mut line = Vec::new();
            push_json(&mut line, &serde_json::to_string(&text).unwrap());
            let line = String::from_utf8(line).unwrap();
            prop_assert!(!line.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }
}
