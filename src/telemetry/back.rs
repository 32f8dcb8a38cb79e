//! The back: the log's own thread, which formats and writes. The only one that a stalled reader can hold up.
//!
//! A line is written in one call, so that processes that share a terminal do not mix theirs. A value that panics while it
//! is formatted costs its line's keys, never the log.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use slog::{Drain, Never, OwnedKVList, Record, RecordStatic, b, o};

use super::format::{Format, Line};

/// The writing side of the log.
pub(super) struct Back<W> {
    format: Format,
    line: Line,
    out: RefCell<W>,
    /// Counts the lines that could not be written.
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Back<W> {
    /// Creates the side behind the channel; `format` leaves its lines in `line`.
    pub(super) fn new(format: Format, line: Line, out: W, dropped: Arc<AtomicU64>) -> Self {
        Self {
            format,
            line,
            out: RefCell::new(out),
            dropped,
        }
    }

    /// Returns the line of a record, or nothing when it cannot be made.
    fn line(&self, record: &Record, values: &OwnedKVList) -> Option<Vec<u8>> {
        let made = catch_unwind(AssertUnwindSafe(|| self.format.log(record, values)));
        let line = self.line.take();
        matches!(made, Ok(Ok(()))).then_some(line)
    }

    /// Returns the line of a record without its keys, one of which panicked.
    fn bare_line(&self, record: &Record) -> Option<Vec<u8>> {
        let head = RecordStatic {
            location: record.location(),
            level: record.level(),
            tag: record.tag(),
        };
        self.line(&Record::new(&head, record.msg(), b!()), &o!().into())
    }
}

impl<W: Write> Drain for Back<W> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), Never> {
        let line = self.line(record, values).or_else(|| self.bare_line(record));
        let written = line.is_some_and(|line| self.out.borrow_mut().write_all(&line).is_ok());
        if !written {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
