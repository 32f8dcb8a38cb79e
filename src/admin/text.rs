//! Text for people: texts of others cut short, spans of time. Pure.

pub(crate) use celeriac_actors::time::{span, when};

use celeriac_actors::time::Timestamp;

use crate::telemetry::escape;

/// Returns text of others as it may be shown on a terminal, on one line: control characters are named, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    let mut safe = Vec::with_capacity(text.len());
    escape::push_plain(&mut safe, text);
    String::from_utf8_lossy(&safe).into_owned()
}

/// Returns the start of a text, at most `max` characters of it, with `…` where something is missing.
pub(crate) fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut start: String = text.chars().take(max.saturating_sub(1)).collect();
    start.push('…');
    start
}

/// Returns a count with its noun, such as `1 dead letter` or `2 dead letters`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns bytes in the largest unit that they fill.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => counted(bytes, "byte"),
    }
}

/// Returns the start of a text of others, on one line, with `…` where something is missing.
pub(crate) fn brief(text: &str, max: usize) -> String {
    plain(&short(text, max))
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
    fn what_is_cut_is_still_harmless() {
        assert_eq!(brief("a\x1bbcd", 3), "a\\u{1b}…");
        assert_eq!(brief("größer", 9), "größer");
    }

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2J\nü"), "a\\u{1b}[2J\\nü");
        assert_eq!(short("größer", 4), "grö…");
        assert_eq!(short("groß", 4), "groß");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        for (bytes, text) in [
            (1, "1 byte"),
            (1_023, "1023 bytes"),
            (1_536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(counted(0, "task"), "0 tasks");
    }

    #[test]
    fn what_has_happened_is_never_ahead() {
        let now = Timestamp::from_millis(10_000);
        assert_eq!(ago(Timestamp::from_millis(9_990), now), "10ms ago");
        assert_eq!(ago(Timestamp::from_millis(10_003), now), "now");
    }
}
