//! How calls are carried from the spool to the broker: which is next, and what an answer means for it.
//!
//! Does no I/O but the steps of the book it is given, so that a test can end it between any two of them.

use std::collections::HashMap;

use celeriac_actors::ids::{ChannelId, QueueName};
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::book::{Book, Frozen, Plan};

/// The most bytes of frames in one call; a single larger frame travels alone.
const MAX_BYTES: usize = 4 << 20;

/// How long the broker is to remember a call: longer than outages last. In milliseconds.
const REMEMBER: u64 = 7 * 86_400_000;

/// Carries the calls of a spool. What it knows beside the book may be lost at any moment.
#[derive(Debug, Default)]
pub(super) struct Courier {
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
pub(super) enum Verdict {
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
    pub(super) fn next(
        &mut self,
        book: &mut Book,
        queue: &QueueName,
        done: Option<&Frozen>,
    ) -> QueryResult<Option<Frozen>> {
        if let Some(done) = done {
            book.done(done)?;
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
        book.next(queue, &plan)
    }

    /// Judges what the broker said of a call.
    pub(super) fn judge(
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
    pub(super) fn apply(
        &mut self,
        book: &mut Book,
        frozen: &Frozen,
        verdict: &Verdict,
    ) -> QueryResult<()> {
        let queue = &frozen.call.queue;
        match verdict {
            Verdict::Done => book.done(frozen),
            Verdict::Later(_) => Ok(()),
            Verdict::Rename(tasks) => {
                let route = Route::fresh(*tasks);
                self.routes.insert(queue.clone(), route);
                book.rename(frozen, (route.channel, 1), *tasks)
            }
            Verdict::Reject(reason) => book.reject(frozen, reason),
        }
    }
}
