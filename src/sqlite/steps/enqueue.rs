//! Adding tasks, and making those ready whose time has come.

use std::ops::ControlFlow;
use std::sync::Arc;

use celeriac_actors::fence::{Numbered, check_enqueue, judge_enqueue};
use celeriac_actors::ids::{ChannelId, QueueName};
use celeriac_actors::lease::{MAX_BATCH, Promoted};
use celeriac_actors::ports::{BrokerError, EnqueueCall, EnqueueKind, When};
use celeriac_actors::time::Timestamp;
use diesel::result::QueryResult;

use super::Step;
use crate::sqlite::errors::StepError;
use crate::sqlite::sql::{Db, Value, int};
use crate::sqlite::tx::{Q, Tx, rank, rank_of};

const CHANNEL: &str = "SELECT queue, number, reply, forget_at FROM channels WHERE identity = ?1";
const USED: &str = "INSERT OR REPLACE INTO channels (identity, queue, number, reply, forget_at) \
    VALUES (?1, ?2, ?3, ?4, ?5)";
const DUE: &str = "SELECT due, serial, retrying, frame FROM waiting \
    WHERE queue = ?1 AND due <= ?2 ORDER BY due, serial LIMIT ?3";
const PROMOTED: &str = "DELETE FROM waiting WHERE queue = ?1 AND (due, serial) <= (?2, ?3)";
const NEXT_DUE: &str = "SELECT due FROM waiting WHERE queue = ?1 ORDER BY due LIMIT 1";

/// [`Broker::enqueue`](celeriac_actors::ports::Broker::enqueue).
#[derive(Debug)]
pub(in crate::sqlite) struct Enqueue(pub(in crate::sqlite) Arc<EnqueueCall>);

impl Step for Enqueue {
    type Reply = Timestamp;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Timestamp, StepError> {
        let call = &*self.0;
        // A repeat, too, is acknowledged only when the first run is safe.
        tx.durable = true;
        let known = Channel::find(tx.db, call.channel)?;
        let known = known.filter(|channel| channel.forget_at > tx.now);
        let last = known.as_ref().map(|channel| channel.number);
        match (judge_enqueue(last, call.number), &known) {
            (Numbered::Repeat, Some(channel)) => {
                channel.used(tx, call, channel.reply)?;
                return Ok(channel.reply);
            }
            (Numbered::Astray, _) => {
                let why = format!("call {} does not follow {last:?}", call.number);
                return Err(BrokerError::Invalid(why).into());
            }
            _ => {}
        }
        let headers = check_enqueue(call).map_err(invalid)?;
        self.check_size(tx.context.max_frame)?;
        let queue = tx.queue(&call.queue)?;
        let id = tx.at(queue).id;
        if known.is_some_and(|channel| channel.queue != id) {
            return Err(invalid("a channel serves one queue").into());
        }
        let ranks = headers.iter().map(|header| rank(header.priority));
        let ready = call.tasks.iter().zip(ranks);
        let ready = ready.filter(|(task, _)| due(task.when, tx.now).is_none());
        let ready: Vec<_> = ready.map(|(task, rank)| (rank, &*task.frame)).collect();
        tx.push_back(queue, ready)?;
        for task in &call.tasks {
            if let Some(due) = due(task.when, tx.now) {
                tx.push_waiting(queue, due, (&task.frame, false))?;
            }
        }
        let counters = &mut tx.at(queue).counters;
        *match call.kind {
            EnqueueKind::New => &mut counters.enqueued,
            EnqueueKind::Revival => &mut counters.revived,
        } += call.tasks.len() as u64;
        let now = tx.now;
        let channel = Channel {
            queue: id,
            number: call.number,
            reply: now,
            forget_at: now,
        };
        channel.used(tx, call, now)?;
        tx.ring(queue);
        Ok(now)
    }

    fn weight(&self) -> usize {
        let tasks = self.0.tasks.iter();
        tasks.map(|task| task.frame.len()).sum()
    }
}

impl Enqueue {
    fn check_size(&self, max: usize) -> Result<(), BrokerError> {
        let mut frames = self.0.tasks.iter().map(|task| task.frame.len());
        match frames.find(|len| *len > max) {
            Some(len) => Err(invalid(format!(
                "a frame of {len} bytes, allowed are {max}"
            ))),
            None => Ok(()),
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> BrokerError {
    BrokerError::Invalid(why.to_string())
}

/// Returns until when a task waits; `None` when it is ready at once.
fn due(when: When, now: Timestamp) -> Option<Timestamp> {
    let at = match when {
        When::Now => now,
        When::After(delay) => now.plus(delay),
        When::At(at) => at,
    };
    (at > now).then_some(at)
}

/// A producer's channel and its last call.
#[derive(Debug)]
struct Channel {
    queue: i64,
    number: u64,
    reply: Timestamp,
    forget_at: Timestamp,
}

impl Channel {
    fn find(db: &mut Db, identity: ChannelId) -> QueryResult<Option<Self>> {
        db.first(CHANNEL, &[Value::Blob(identity.as_bytes())], |row| Self {
            queue: row.int(0),
            number: row.count(1),
            reply: Timestamp::from_millis(row.count(2)),
            forget_at: Timestamp::from_millis(row.count(3)),
        })
    }

    fn used(&self, tx: &mut Tx<'_>, call: &EnqueueCall, reply: Timestamp) -> QueryResult<()> {
        let values = [
            Value::Blob(call.channel.as_bytes()),
            Value::Int(self.queue),
            int(self.number),
            int(reply.as_millis()),
            int(tx.now.plus(call.remember).as_millis()),
        ];
        tx.db.run(USED, &values).map(drop)
    }
}

/// [`Broker::promote_due`](celeriac_actors::ports::Broker::promote_due).
#[derive(Debug)]
pub(in crate::sqlite) struct Promote {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) limit: u32,
}

impl Step for Promote {
    type Reply = Promoted;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Promoted, StepError> {
        let mut promoted = Promoted {
            now: tx.now,
            ..Promoted::default()
        };
        let Some(queue) = tx.find(&self.queue)? else {
            return Ok(promoted);
        };
        promoted.moved = self.promote(tx, queue)?;
        let id = tx.at(queue).id;
        let next = tx
            .db
            .first(NEXT_DUE, &[Value::Int(id)], |row| row.count(0))?;
        promoted.next_due = next.map(Timestamp::from_millis);
        if promoted.moved > 0 {
            tx.ring(queue);
        }
        Ok(promoted)
    }
}

impl Promote {
    fn promote(&self, tx: &mut Tx<'_>, queue: Q) -> QueryResult<u32> {
        let id = tx.at(queue).id;
        let limit = self.limit.min(MAX_BATCH);
        let mut frames = Vec::new();
        let (mut last, mut retrying) = (None, 0);
        let values = [
            Value::Int(id),
            int(tx.now.as_millis()),
            Value::Int(i64::from(limit)),
        ];
        tx.db.each(DUE, &values, |row| {
            last = Some((row.int(0), row.int(1)));
            retrying += u64::from(row.flag(2));
            let frame = row.blob(3);
            frames.push((rank_of(&frame), frame));
            ControlFlow::Continue(())
        })?;
        let Some((due, serial)) = last else {
            return Ok(0);
        };
        tx.db.run(
            PROMOTED,
            &[Value::Int(id), Value::Int(due), Value::Int(serial)],
        )?;
        let moved = frames.len() as u64;
        let state = tx.at(queue);
        state.retrying = state.retrying.saturating_sub(retrying);
        state.scheduled = state.scheduled.saturating_sub(moved - retrying);
        tx.push_back(queue, frames.iter().map(|(rank, frame)| (*rank, &**frame)))?;
        Ok(u32::try_from(moved).unwrap_or(limit))
    }
}
