//! The front: what a log call runs through in the caller's thread. Bounded, and never waits.
//!
//! It stamps the instant (a line that waits for its reader keeps its own time), tries the channel once, and counts what
//! does not fit. The count is reported by the next line that does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use celeriac_actors::time::Clock;
use slog::{BorrowedKV, Drain, Level, Never, OwnedKVList, Record, RecordStatic, b, o};
use slog_async::AsyncCore;

use super::keys::DROPPED;

/// The caller's side of the log.
pub(super) struct Front {
    core: AsyncCore,
    clock: AssertUnwindSafe<Arc<dyn Clock>>,
    /// Dropped since the last report.
    unreported: AtomicU64,
    /// Dropped ever, lines that could not be written included.
    dropped: Arc<AtomicU64>,
}

impl Front {
    /// Creates the side before `core`; `dropped` counts what is lost on both sides.
    pub(super) fn new(core: AsyncCore, clock: Arc<dyn Clock>, dropped: Arc<AtomicU64>) -> Self {
        Self {
            core,
            clock: AssertUnwindSafe(clock),
            unreported: AtomicU64::new(0),
            dropped,
        }
    }

    /// Returns how many lines were lost ever.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Reports what was dropped since the last report, if there is room for it.
    pub(super) fn report(&self) {
        if self.unreported.load(Ordering::Relaxed) == 0 {
            return;
        }
        let count = self.unreported.swap(0, Ordering::Relaxed);
        if count == 0 {
            return; // Another thread reports them.
        }
        let location = slog::RecordLocation {
            file: file!(),
            line: line!(),
            column: column!(),
            function: "",
            module: module_path!(),
        };
        let at = self.clock.now().to_string();
        let head = RecordStatic {
            location: &location,
            level: Level::Warning,
            tag: &at,
        };
        let said = format_args!("log lines were dropped, their reader is too slow");
        let values = b!(DROPPED => count);
        if self
            .core
            .log(&Record::new(&head, &said, values), &o!().into())
            .is_err()
        {
            self.unreported.fetch_add(count, Ordering::Relaxed);
        }
    }
}

impl Drain for Front {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record, values: &OwnedKVList) -> Result<(), Never> {
        self.report();
        let at = self.clock.now().to_string();
        let head = RecordStatic {
            location: record.location(),
            level: record.level(),
            tag: &at,
        };
        let kv = record.kv();
        let stamped = Record::new(&head, record.msg(), BorrowedKV(&kv));
        if self.core.log(&stamped, values).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.unreported.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
