//! How calls are carried from the spool to the broker: which is next, and what an answer means for it.
//!
//! Does no I/O but the steps of the ledger it is given, so that a test can end it between any two of them. The ledger is
//! the spool's book, or the outbox of a user's database.

use std::collections::HashMap;

use celeriac_actors::ids::{ChannelId, QueueName};
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::book::{Frozen, Plan};

/// Where tasks wait for a courier. Each step runs inside a transaction of the caller.
pub(crate) trait Ledger {
    /// Returns the next call of a queue: the one that is frozen, else its oldest tasks, frozen as `plan` says.
    fn next(&mut self, queue: &QueueName, plan: &Plan) -> QueryResult<Option<Frozen>>;
    /// Forgets a call and its tasks. Without effect when it is another call by now.
    fn done(&mut self, frozen: &Frozen) -> QueryResult<()>;
    /// Gives a call another name, and of its tasks only the first `tasks`.
    fn rename(&mut self, frozen: &Frozen, name: (ChannelId, u64), tasks: usize) -> QueryResult<()>;
    /// Puts the tasks of a call aside for good.
    fn reject(&mut self, frozen: &Frozen, reason: &str) -> QueryResult<()>;
}

/// The most bytes of frames in one call; a single larger frame travels alone.
const MAX_BYTES: usize = 4 << 20;

/// How long the broker is to remember a call: longer than outages last. In milliseconds.
const REMEMBER: u64 = 7 * 86_400_000;

/// Carries the calls of a ledger. What it knows beside it may be lost at any moment.
#[derive(Debug, Default)]
pub(crate) struct Courier {
    routes: HashMap<QueueName, Route>,
}

/// One queue's line of calls.
#[derive(Clone, Copy, Debug)]
struct Route {
    channel: ChannelId,
    last: u64,
    /// How many tasks a new call takes: fewer while the broker rejects something.
    tasks: usize,
}

impl Route {
    fn fresh(tasks: usize) -> Self {
        Self {
            channel: ChannelId::random(),
            last: 0,
            tasks,
        }
    }
}

/// What an answer of the broker means for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The broker has it: forget it.
    Done,
    /// The broker cannot take it now: the same call again, later.
    Later(String),
    /// The broker will not take it under this name, and certainly has nothing of it: a new name for so many tasks.
    Rename(usize),
    /// The broker will never take it.
    Reject(String),
}

impl Courier {
    /// Returns the next call of a queue, frozen, once `done` is forgotten; `None` when nothing waits.
    pub(crate) fn next(
        &mut self,
        ledger: &mut impl Ledger,
        queue: &QueueName,
        done: Option<&Frozen>,
    ) -> QueryResult<Option<Frozen>> {
        if let Some(done) = done {
            ledger.done(done)?;
        }
        let route = self
            .routes
            .entry(queue.clone())
            .or_insert_with(|| Route::fresh(MAX_BATCH as usize));
        let plan = Plan {
            channel: route.channel,
            number: route.last + 1,
            tasks: route.tasks,
            bytes: MAX_BYTES,
            remember: REMEMBER,
        };
        ledger.next(queue, &plan)
    }

    /// Judges what the broker said of a call.
    pub(crate) fn judge(
        &mut self,
        frozen: &Frozen,
        outcome: Result<Timestamp, BrokerError>,
    ) -> Verdict {
        let call = &frozen.call;
        let route = self.routes.get_mut(&call.queue);
        match outcome {
            Ok(_) => {
                if let Some(route) = route {
                    if route.channel == call.channel {
                        route.last = call.number;
                    }
                    route.tasks = (route.tasks * 2).min(MAX_BATCH as usize);
                }
                Verdict::Done
            }
            Err(BrokerError::Invalid(reason)) => {
                // A first call follows on nothing, so it is the tasks that are wrong; else the broker knows the channel
                // otherwise than we do, because it went back in time, and has nothing of the call.
                let (is_first, count) = (call.number == 1, call.tasks.len());
                match (is_first, count) {
                    (true, 1) => Verdict::Reject(reason),
                    (true, _) => Verdict::Rename(count / 2),
                    (false, _) => Verdict::Rename(count),
                }
            }
            Err(error) => {
                if let Some(route) = route {
                    // The call stays frozen under its name, and whoever finds it may send it: if that is somebody else,
                    // the next one here must not take the number that was used.
                    *route = Route::fresh(route.tasks);
                }
                Verdict::Later(error.to_string())
            }
        }
    }

    /// Applies a verdict other than [`Verdict::Done`], which [`next`](Self::next) applies.
    pub(crate) fn apply(
        &mut self,
        ledger: &mut impl Ledger,
        frozen: &Frozen,
        verdict: &Verdict,
    ) -> QueryResult<()> {
        let queue = &frozen.call.queue;
        match verdict {
            Verdict::Done => ledger.done(frozen),
            Verdict::Later(_) => Ok(()),
            Verdict::Rename(tasks) => {
                let route = Route::fresh(*tasks);
                self.routes.insert(queue.clone(), route);
                ledger.rename(frozen, (route.channel, 1), *tasks)
            }
            Verdict::Reject(reason) => ledger.reject(frozen, reason),
        }
    }
}
