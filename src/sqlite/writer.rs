//! The one thread of a process that writes: the steps of many callers in one transaction.
//!
//! It takes what is waiting, begins, runs all, commits, answers. A step that fails in SQLite undoes the transaction; the
//! steps of the group are then run one by one, so that it fails alone. Steps that must survive a power cut are answered
//! by the [`Syncer`] after the log was synced, while this thread goes on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::Clock;

use super::backoff::{Backoff, rest};
use super::bells::Ringer;
use super::board::Board;
use super::errors::{before, from_sql, is_busy};
use super::job::Job;
use super::keeper::Keeping;
use super::sql::Db;
use super::syncer::Syncer;
use super::tx::{Context, Effects, Tx};

/// The most steps of one transaction.
const MAX_STEPS: usize = 256;
/// The weight behind which a transaction takes no further step.
const MAX_WEIGHT: usize = 4 << 20;
/// For how many groups the writer makes room after each, once another process has written.
const CONTENDED: u32 = 64;
/// How much time passes at least between two attempts to win room on a disk that is full.
const RELIEF: Duration = Duration::from_millis(250);
/// How often the writer looks who shares the directory while nothing is to be done.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Everything the thread works with.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) context: Context,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Arc<Board>,
    pub(super) ringer: Ringer,
    pub(super) syncer: Option<Syncer>,
    pub(super) keeping: Arc<Keeping>,
    pub(super) busy_bound: Duration,
    /// Changes whenever another connection has committed.
    pub(super) data_version: i64,
    /// For how many more groups others are let in after each.
    pub(super) contended: u32,
    /// When, since boot, room on a full disk was last sought.
    pub(super) relieved: Option<Duration>,
}

/// What the thread is sent.
#[derive(Debug)]
pub(super) enum Order {
    /// Carry out a step.
    Run(Box<dyn Job>),
    /// Finish what is waiting and end.
    Stop,
}

impl Writer {
    /// Works until told to stop or until nobody can send any more.
    pub(super) fn serve(mut self, orders: &Receiver<Order>) {
        loop {
            let first = match orders.recv_timeout(LOOK_AROUND) {
                Ok(Order::Run(job)) => job,
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.ringer.refresh(true);
                    if self.others_wrote() {
                        self.keeping.look_everywhere();
                    }
                    continue;
                }
            };
            let (group, go_on) = gather(first, orders);
            self.carry_out(group);
            if !go_on {
                break;
            }
            self.make_room();
        }
    }

    /// Lets other processes get at the lock between two groups, and the log be emptied when it has grown too far.
    fn make_room(&mut self) {
        if self.keeping.is_overdue() && self.keeping.ensure_present().is_ok() {
            // Short: the keeper's passive checkpoints have moved nearly everything by now.
            drop(self.db.batch("PRAGMA wal_checkpoint(RESTART)"));
            self.keeping.emptied();
        }
        if self.ringer.has_others() {
            if self.others_wrote() {
                self.keeping.look_later();
                self.contended = CONTENDED;
            }
            self.contended = self.contended.saturating_sub(1);
            if self.contended > 0 || rand::random_ratio(1, 16) {
                rest(Duration::from_micros(50));
            }
        }
    }

    /// Returns whether another process has committed since the last look: the net under the bells.
    fn others_wrote(&mut self) -> bool {
        let found = self.db.number("PRAGMA data_version");
        let found = found.unwrap_or(self.data_version);
        std::mem::replace(&mut self.data_version, found) != found
    }

    fn carry_out(&mut self, mut group: Vec<Box<dyn Job>>) {
        let mut attempt = self.attempt(&mut group);
        if attempt.as_ref().is_err_and(Failure::is_unwritable) && self.relieve() {
            attempt = self.attempt(&mut group);
        }
        match attempt {
            Ok(effects) => self.committed(group, effects),
            Err(Failure::Begin(error)) => fail_all(group, &error),
            Err(Failure::Run(error)) if group.len() == 1 => fail_all(group, &error),
            Err(Failure::Run(_)) => {
                for job in group {
                    self.carry_out(vec![job]);
                }
            }
        }
    }

    /// Moves the log into the database, whose pages mostly have their room already; returns whether it was emptied.
    fn relieve(&mut self) -> bool {
        let now = self.clock.since_boot();
        let is_early = |at| now.saturating_sub(at) < RELIEF;
        if self.relieved.is_some_and(is_early) {
            return false;
        }
        self.relieved = Some(now);
        // What holds it up (a reader, a disk too full for that, too) has passed at a later attempt, or not.
        let emptied = self.db.number("PRAGMA wal_checkpoint(TRUNCATE)") == Ok(0);
        if emptied {
            self.keeping.emptied();
        }
        emptied
    }

    fn attempt(&mut self, group: &mut [Box<dyn Job>]) -> Result<Effects, Failure> {
        self.begin().map_err(Failure::Begin)?;
        let now = (self.clock.now(), self.clock.since_boot());
        let ran = run(&mut self.db, &self.context, now, group);
        let done = ran.and_then(|effects| self.db.run("COMMIT", &[]).map(|_| effects));
        done.map_err(|error| {
            // SQLite may have undone it by itself.
            drop(self.db.batch("ROLLBACK"));
            Failure::Run(from_sql(&error))
        })
    }

    fn begin(&mut self) -> Result<(), BrokerError> {
        self.keeping.ensure_present()?;
        let mut backoff = Backoff::new(self.busy_bound);
        loop {
            match self.db.run("BEGIN IMMEDIATE", &[]) {
                Ok(_) => return Ok(()),
                Err(error) if is_busy(&error) && backoff.pause() => {}
                Err(error) => return Err(before(from_sql(&error))),
            }
        }
    }

    fn committed(&mut self, group: Vec<Box<dyn Job>>, effects: Effects) {
        let finished = !effects.finished.is_empty();
        self.keeping.wrote(effects.written);
        for queue in &effects.silenced {
            self.board.silence(queue);
        }
        self.ringer.ring(&effects.wakes, finished);
        self.board.ring(effects.wakes);
        self.board
            .finished(effects.finished.into_iter().map(|(_, task)| task));
        let Some(syncer) = &self.syncer else {
            group.into_iter().for_each(Job::answer);
            return;
        };
        let (durable, at_once): (Vec<_>, Vec<_>) =
            group.into_iter().partition(|job| job.is_durable());
        at_once.into_iter().for_each(Job::answer);
        if !durable.is_empty() {
            syncer.answer_when_safe(durable);
        }
    }
}

enum Failure {
    /// The transaction did not begin: nobody's fault.
    Begin(BrokerError),
    /// A step or the commit failed.
    Run(BrokerError),
}

impl Failure {
    /// Returns whether the database could not be written, as on a full disk.
    const fn is_unwritable(&self) -> bool {
        let (Self::Begin(error) | Self::Run(error)) = self;
        matches!(error, BrokerError::Refused(_))
    }
}

fn run(
    db: &mut Db,
    context: &Context,
    now: (celeriac_actors::time::Timestamp, Duration),
    group: &mut [Box<dyn Job>],
) -> diesel::result::QueryResult<Effects> {
    let mut tx = Tx::new(db, context, now);
    for job in group {
        job.run(&mut tx)?;
    }
    tx.finish()
}

/// Takes what else is waiting, within bounds. Returns whether to go on afterwards.
fn gather(first: Box<dyn Job>, orders: &Receiver<Order>) -> (Vec<Box<dyn Job>>, bool) {
    let mut weight = first.weight();
    let mut group = vec![first];
    while group.len() < MAX_STEPS && weight < MAX_WEIGHT {
        match orders.try_recv() {
            Ok(Order::Run(job)) if job.is_wanted() => {
                weight += job.weight();
                group.push(job);
            }
            // Its caller went away before anything happened.
            Ok(Order::Run(_)) => {}
            Ok(Order::Stop) => return (group, false),
            Err(_) => break,
        }
    }
    (group, true)
}

fn fail_all(group: Vec<Box<dyn Job>>, error: &BrokerError) {
    for job in group {
        job.fail(error.clone());
    }
}

/// Starts the thread.
pub(super) fn spawn(
    writer: Writer,
    bound: usize,
) -> std::io::Result<(SyncSender<Order>, std::thread::JoinHandle<()>)> {
    let (sender, orders) = std::sync::mpsc::sync_channel(bound);
    let thread = std::thread::Builder::new().name("celeriac-write".to_owned());
    let handle = thread.spawn(move || writer.serve(&orders))?;
    Ok((sender, handle))
}
