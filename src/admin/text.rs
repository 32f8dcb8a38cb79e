//! Text for people: texts of others cut short, spans of time. Pure.

use std::time::Duration;

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
    }

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
}
