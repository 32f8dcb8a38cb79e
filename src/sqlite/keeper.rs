//! The thread beside the writer: it moves the log into the database, looks for what no bell told, and whether the
//! database is still where it was.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::{BrokerError, Wake};
use diesel::result::QueryResult;

use super::board::Board;
use super::place::Place;
use super::sql::{Db, Value};

/// How much is written before the log is moved into the database.
const CHECKPOINT_AFTER: usize = 16 << 20;
/// How much is written before an idle process moves it.
const IDLE_CHECKPOINT_AFTER: usize = 512 << 10;
/// How much a process that has only beats to write writes at most between two looks.
const IDLE_GROWTH: usize = 512 << 10;
/// How much is written before the writer itself empties the log.
const OVERDUE_AFTER: usize = 64 << 20;
/// How often to look.
const TICK: Duration = Duration::from_secs(1);
/// How many looks without any change make a database idle.
const IDLE_LOOKS: u32 = 5;
/// How many looks pass between two searches for lock files of the dead.
const TIDY_LOOKS: u32 = 60;

const READY: &str = "SELECT name FROM queues WHERE ready > 0 AND paused = 0";
const WAITING: &str = "SELECT name FROM queues WHERE scheduled > 0 OR retrying > 0";
const GUARDED: &str = "SELECT DISTINCT worker FROM incarnations WHERE state <> ?1 AND guarded = 1";

/// What writer and keeper know of each other.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Roughly how many bytes the log grew since it was last moved.
    since_checkpoint: AtomicUsize,
    /// Roughly how many since it was last emptied.
    since_restart: AtomicUsize,
    stop: AtomicBool,
    /// The database was removed or replaced. For good: whoever has it open writes where nobody reads.
    lost: AtomicBool,
    /// The disk has only the room left that settling needs.
    tight: AtomicBool,
    /// Somebody wants everything looked at.
    look: AtomicBool,
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Keeping {
    /// Notes that a commit wrote about `bytes`.
    pub(super) fn wrote(&self, bytes: usize) {
        // A commit writes whole pages: the ends of lists, counters, the pages above them.
        let bytes = bytes * 2 + 24 * 1024;
        self.since_restart.fetch_add(bytes, Ordering::Relaxed);
        let before = self.since_checkpoint.fetch_add(bytes, Ordering::Relaxed);
        if before < CHECKPOINT_AFTER && before + bytes >= CHECKPOINT_AFTER {
            self.ring();
        }
    }

    /// Returns whether the log has grown so far that the writer must empty it.
    pub(super) fn is_overdue(&self) -> bool {
        self.since_restart.load(Ordering::Relaxed) > OVERDUE_AFTER
    }

    /// Notes that the log was emptied.
    pub(super) fn emptied(&self) {
        self.since_restart.store(0, Ordering::Relaxed);
    }

    /// Refuses every step once the database is known to be lost.
    pub(super) fn ensure_present(&self) -> Result<(), BrokerError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(BrokerError::Away(
                "broker.db was removed or replaced while it was open; restart the workers"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Notes whether the disk is nearly full.
    pub(super) fn set_tight(&self, tight: bool) {
        self.tight.store(tight, Ordering::Relaxed);
    }

    /// Refuses new tasks while the disk is nearly full, so that those that are here can still be fetched and settled.
    pub(super) fn ensure_room(&self) -> Result<(), BrokerError> {
        if self.tight.load(Ordering::Relaxed) {
            return Err(BrokerError::Refused(
                "the disk is nearly full; free some room on the data directory's".to_owned(),
            ));
        }
        Ok(())
    }

    /// Asks for a look at everything, at the next tick: somebody else wrote, and bells may have told it already.
    pub(super) fn look_later(&self) {
        self.look.store(true, Ordering::Relaxed);
    }

    /// Asks for a look at everything at once.
    pub(super) fn look_everywhere(&self) {
        self.look_later();
        self.ring();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.ring();
    }

    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    /// Waits for the next look; returns whether a whole tick passed until then.
    fn wait(&self) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.bell.wait_timeout_while(rung, TICK, |rung| !*rung);
        let (mut rung, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
        timeout.timed_out()
    }
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) db: Db,
    pub(super) place: Place,
    pub(super) board: Arc<Board>,
    pub(super) keeping: Arc<Keeping>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn spawn(self) -> std::io::Result<std::thread::JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("celeriac-keep".to_owned());
        thread.spawn(move || self.serve())
    }

    fn serve(mut self) {
        let (mut last, mut quiet, mut looks) = (0, 0, 0_u32);
        while !self.keeping.stop.load(Ordering::Relaxed) {
            let whole_tick = self.keeping.wait();
            if self.place.is_lost() {
                // Its log and its locks may be another database's by now: hands off.
                self.keeping.lost.store(true, Ordering::Relaxed);
                return;
            }
            self.keeping
                .tight
                .store(self.place.is_tight(), Ordering::Relaxed);
            looks = looks.wrapping_add(1);
            if self.keeping.look.swap(false, Ordering::Relaxed) {
                // What cannot be read now is read at the next look.
                drop(self.tell());
            }
            let grown = self.keeping.since_checkpoint.load(Ordering::Relaxed);
            quiet = if grown == last { quiet + 1 } else { 0 };
            let is_idle = whole_tick && grown.saturating_sub(last) <= IDLE_GROWTH;
            let has_pile = is_idle && grown >= IDLE_CHECKPOINT_AFTER;
            last = grown;
            if grown >= CHECKPOINT_AFTER {
                self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
                last = 0;
            } else if has_pile || (quiet == IDLE_LOOKS && grown > 0) {
                self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)");
                self.keeping.emptied();
                last = 0;
            }
            if looks % TIDY_LOOKS == 1 {
                drop(self.tidy());
            }
        }
    }

    fn checkpoint(&mut self, text: &'static str) {
        self.keeping.since_checkpoint.store(0, Ordering::Relaxed);
        // Whoever holds it up is done sooner or later; the next one moves what this one could not.
        drop(self.db.number(text));
    }

    /// Puts up the tokens that the state of the database calls for.
    fn tell(&mut self) -> QueryResult<()> {
        let mut wakes = Vec::new();
        for (text, wake) in [
            (READY, Wake::Ready as fn(_) -> _),
            (WAITING, Wake::Due as fn(_) -> _),
        ] {
            self.db.each(text, &[], |row| {
                wakes.extend(row.text(0).parse().ok().map(wake));
                ControlFlow::Continue(())
            })?;
        }
        if self.db.number("SELECT 1 FROM dead_outbox LIMIT 1")? == 1 {
            wakes.push(Wake::Dead);
        }
        self.board.ring(wakes);
        self.board.finished_somewhere();
        Ok(())
    }

    fn tidy(&mut self) -> QueryResult<()> {
        let closed = Value::Int(super::lives::CLOSED);
        let needed = self.db.all(GUARDED, &[closed], |row| row.text(0))?;
        // A file that cannot be removed is tried again.
        drop(super::alive::tidy(&self.place.locks(), &needed));
        Ok(())
    }
}
