//! Keys of log lines that are left out where there is nothing to say.

use slog::{KV, Key, Record, Result, Serializer};

/// A key with a text, if there is one: a line without is shorter than one that says `None`.
pub(crate) struct Said<'a>(pub(crate) Key, pub(crate) Option<&'a str>);

impl KV for Said<'_> {
    fn serialize(&self, _: &Record, serializer: &mut dyn Serializer) -> Result {
        match self.1 {
            Some(text) => serializer.emit_str(self.0, text),
            None => Ok(()),
        }
    }
}
