//! Sends packed tasks in batches, tells of what was accepted, and counts.

use std::fmt;

use celeriac_actors::ids::TaskName;
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::producer::{EnqueueError, Prepared, Producer, TaskHandle};
use serde_json::json;
use tokio::time::Instant;

use super::super::exit::{Exit, Failure};
use super::super::output;
use super::wait::Waiting;
use crate::admin::enqueue::order::Parcel;

/// The most bytes of a batch.
const MAX_BYTES: usize = 4 << 20;

/// What is printed of a task that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// Its id.
    Ids,
    /// One JSON object.
    Objects,
    /// Nothing.
    Nothing,
}

/// How many tasks went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Acknowledged, by the broker or by the spool.
    pub(super) accepted: u64,
    /// Of those: acknowledged by the spool.
    pub(super) spooled: u64,
    /// Sent without an answer: there or not.
    pub(super) unknown: u64,
    /// Lines that are no task.
    pub(super) bad: u64,
}

impl Tally {
    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "accepted": self.accepted,
            "spooled": self.spooled,
            "unknown": self.unknown,
            "bad": self.bad,
        })
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted", self.accepted)?;
        if self.spooled > 0 {
            write!(f, ", {} of them spooled", self.spooled)?;
        }
        if self.unknown > 0 {
            write!(f, ", {} unknown", self.unknown)?;
        }
        match self.bad {
            0 => Ok(()),
            1 => f.write_str(", 1 bad line"),
            bad => write!(f, ", {bad} bad lines"),
        }
    }
}

/// The broker took no more.
#[derive(Debug)]
pub(super) struct Stopped(EnqueueError);

impl Stopped {
    /// Says what is certain of what was sent so far.
    pub(super) fn into_failure(self, tally: &Tally) -> Failure {
        let open = self.0.may_have_been_accepted();
        let (exit, what, reason) = match self.0 {
            EnqueueError::Unavailable { reason, .. } => {
                (Exit::Unavailable, "the broker is unavailable", reason)
            }
            EnqueueError::Refused { reason, .. } => {
                (Exit::Unavailable, "the broker refuses new tasks", reason)
            }
            EnqueueError::Rejected { reason, .. } => {
                (Exit::Usage, "the broker rejects the call", reason)
            }
            error => (Exit::Usage, "a task cannot be enqueued", error.to_string()),
        };
        let certain = format!(
            "{} accepted for certain, {} unknown, nothing else was sent",
            tally.accepted, tally.unknown
        );
        let advice = match (open, exit) {
            (true, _) => {
                "; the unknown ones may be there: enqueued again they may run twice, with the same id too, so look first \
                 (`celeriac task show ID`)"
            }
            (false, Exit::Unavailable) => {
                "; what was not accepted is certainly not there: enqueue it again"
            }
            (false, _) => "",
        };
        Failure::new(
            exit,
            anyhow::anyhow!("{what} ({certain}): {reason}{advice}"),
        )
        .detail("may_have_been_accepted", open)
        .detail("accepted", tally.accepted)
        .detail("unknown", tally.unknown)
    }
}

/// Sends tasks in batches.
pub(super) struct Sender<'a> {
    producer: &'a Producer,
    show: Show,
    waiting: Option<&'a Waiting>,
    batch: Vec<(Prepared, TaskName)>,
    bytes: usize,
    pub(super) tally: Tally,
}

impl<'a> Sender<'a> {
    pub(super) fn new(producer: &'a Producer, show: Show, waiting: Option<&'a Waiting>) -> Self {
        Self {
            producer,
            show,
            waiting,
            batch: Vec::new(),
            bytes: 0,
            tally: Tally::default(),
        }
    }

    /// Returns whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Takes a task; sends the batch when it is full.
    ///
    /// # Errors
    /// [`Stopped`] when the broker took no more.
    pub(super) async fn send(&mut self, parcel: Parcel) -> Result<(), Stopped> {
        if self.bytes + parcel.bytes > MAX_BYTES {
            self.flush().await?;
        }
        self.bytes += parcel.bytes;
        self.batch.push((parcel.prepared, parcel.task));
        if self.batch.len() >= MAX_BATCH as usize {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what there is, one queue after the other; returns when the broker has acknowledged it.
    ///
    /// # Errors
    /// [`Stopped`] when the broker took no more.
    pub(super) async fn flush(&mut self) -> Result<(), Stopped> {
        let mut batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        // Stable: the tasks of a queue keep their order, and what is acknowledged is known queue by queue.
        batch.sort_by(|(a, _), (b, _)| a.handle.queue.cmp(&b.handle.queue));
        let mut handles = Vec::with_capacity(batch.len());
        let mut tasks = Vec::with_capacity(batch.len());
        for (prepared, task) in batch {
            handles.push((prepared.handle.clone(), task));
            tasks.push(prepared);
        }
        let since = Instant::now();
        let sent = self.producer.add(tasks).await;
        let (accepted, unknown) = match &sent {
            Ok(added) => (added.total(), 0),
            Err(error) => (error.accepted(), error.unknown()),
        };
        let spooled = sent.as_ref().map_or(0, |added| added.spooled);
        self.tally.spooled += spooled as u64;
        self.tally.accepted += accepted as u64;
        self.tally.unknown += unknown as u64;
        handles.truncate(accepted);
        self.tell(&handles);
        if let Some(waiting) = self.waiting {
            waiting.expect(handles, since).await;
        }
        sent.map(drop).map_err(Stopped)
    }

    fn tell(&self, handles: &[(TaskHandle, TaskName)]) {
        for (handle, task) in handles {
            match self.show {
                Show::Nothing => return,
                Show::Ids => output::line(&handle.id.to_string()),
                Show::Objects => {
                    output::json(&json!({ "id": handle.id, "task": task, "queue": handle.queue }));
                }
            }
        }
    }

    /// Ends it; returns the counts.
    pub(super) fn finish(self) -> Tally {
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_names_only_what_there_is() {
        let mut tally = Tally {
            accepted: 3,
            ..Tally::default()
        };
        assert_eq!(tally.to_string(), "3 accepted");
        (tally.bad, tally.unknown) = (1, 500);
        assert_eq!(tally.to_string(), "3 accepted, 500 unknown, 1 bad line");
        tally.bad = 2;
        assert!(tally.to_string().ends_with("2 bad lines"));
    }
}
