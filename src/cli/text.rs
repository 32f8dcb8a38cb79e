//! Text for people: texts of others cut short, spans of time. Pure.

pub(crate) use celeriac_actors::time::{span, when};

use celeriac_actors::time::Timestamp;

use super::output::{plain, short};

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
    fn what_has_happened_is_never_ahead() {
        let now = Timestamp::from_millis(10_000);
        assert_eq!(ago(Timestamp::from_millis(9_990), now), "10ms ago");
        assert_eq!(ago(Timestamp::from_millis(10_003), now), "now");
    }
}
