//! Text for people: texts of others cut short, spans of time. Pure.

pub(crate) use celeriac_actors::time::{span, when};

use super::output::{plain, short};

/// Returns the start of a text of others, on one line, with `…` where something is missing.
pub(crate) fn brief(text: &str, max: usize) -> String {
    plain(&short(text, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_still_harmless() {
        assert_eq!(brief("a\x1bbcd", 3), "a\\u{1b}…");
        assert_eq!(brief("größer", 9), "größer");
    }
}
