//! Text for people: values of users made harmless, spans and counts made short. Pure.

use std::time::Duration;

use celeriac_actors::time::Timestamp;

/// Returns `text` with everything escaped that could end a line, start another, or steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns the first `max` characters of a text, on one line, with `…` where something is missing.
pub(crate) fn brief(text: &str, max: usize) -> String {
    let mut short: String = text.chars().take(max).collect();
    if short.len() < text.len() {
        short.pop();
        short.push('…');
    }
    plain(&short)
}

/// Returns a span by its two largest units: `12ms`, `3.4s`, `5m 12s`, `2h 5m`, `3d 4h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..=9 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Returns how long ago `then` was, or how far ahead it is.
pub(crate) fn when(then: Timestamp, now: Timestamp) -> String {
    if then > now {
        format!("in {}", span(then.since(now)))
    } else {
        format!("{} ago", span(now.since(then)))
    }
}

/// Returns `1 task`, `2 tasks`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_show_two_units() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (3_450, "3.4s"),
            (59_999, "59s"),
            (312_000, "5m 12s"),
            (7_500_000, "2h 5m"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        let now = Timestamp::from_millis(10_000);
        assert_eq!(when(Timestamp::from_millis(15_000), now), "in 5.0s");
        assert_eq!(when(Timestamp::from_millis(9_990), now), "10ms ago");
    }

    proptest! {
        #[test]
        fn nothing_steers_the_terminal(text in any::<String>(), max in 0_usize..40) {
            prop_assert!(!plain(&text).chars().any(steers));
            prop_assert!(!brief(&text, max).chars().any(steers));
        }
    }
}
