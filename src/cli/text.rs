//! Text for people: texts of others cut short, spans of time. Pure.

use std::time::Duration;

use celeriac_actors::time::Timestamp;

use super::output::{plain, short};

/// Returns the start of a text of others, on one line, with `…` where something is missing.
pub(crate) fn brief(text: &str, max: usize) -> String {
    plain(&short(text, max))
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

/// Returns how long ago something was that has happened; a clock that is a little ahead makes it no promise.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    if then >= now {
        "now".to_owned()
    } else {
        when(then, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(ago(Timestamp::from_millis(9_990), now), "10ms ago");
        assert_eq!(ago(Timestamp::from_millis(10_003), now), "now");
    }

    #[test]
    fn what_is_cut_is_still_harmless() {
        assert_eq!(brief("a\x1bbcd", 3), "a\\u{1b}…");
        assert_eq!(brief("größer", 9), "größer");
    }
}
