//! Log lines of a child: sent to the worker, which logs them with the attempt's identity.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use slog::{Drain, KV, Key, Level, Logger, OwnedKVList, Record, o};

use super::link::Mouth;
use crate::isolation::wire::{Line, Tag};

/// The longest text that is sent of a line, in bytes.
const MAX_TEXT: usize = 4_000;

/// What the worker adds to each line by itself.
const IDENTITY: [&str; 5] = ["attempt", "id", "task", "queue", "worker"];

/// Returns a logger whose lines go to the worker, those of `level` and more severe ones.
pub(super) fn logger(mouth: Arc<Mouth>, level: usize) -> Logger {
    let level = Level::from_usize(level).unwrap_or(Level::Info);
    let drain = ToWorker { mouth }.filter_level(level).ignore_res();
    Logger::root(drain, o!())
}

#[derive(Debug)]
struct ToWorker {
    mouth: Arc<Mouth>,
}

impl Drain for ToWorker {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        let mut fields = Fields(String::new());
        // A value that cannot be written is left out.
        let _left_out = record.kv().serialize(record, &mut fields);
        let _left_out = values.serialize(record, &mut fields);
        let cut = |text| celeriac_actors::failure::cut(text, MAX_TEXT);
        let line = Line {
            level: record.level().as_usize(),
            message: cut(record.msg().to_string()),
            fields: cut(fields.0),
        };
        self.mouth.mention(Tag::Log, &line);
        Ok(())
    }
}

/// Key and value after one another.
struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        if !IDENTITY.contains(&key) && self.0.len() < MAX_TEXT {
            let gap = if self.0.is_empty() { "" } else { " " };
            write!(self.0, "{gap}{key}={value}")?;
        }
        Ok(())
    }
}
