//! The dead outbox, revocations, and pausing.

use celeriac_actors::ids::{BurialId, QueueName, TaskId};
use celeriac_actors::ports::{BrokerError, MAX_REVOCATIONS, Wake};
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::time::Timestamp;

use super::Step;
use crate::sqlite::errors::StepError;
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::Tx;

const OUTBOX: &str = "SELECT q.name FROM dead_outbox d JOIN queues q ON q.id = d.queue \
    WHERE d.number = ?1 AND d.task = ?2";
const DROP: &str = "DELETE FROM dead_outbox WHERE number = ?1";
const FORGET: &str = "DELETE FROM revocations WHERE queue = ?1 AND forget_at <= ?2";
const REMEMBERED: &str = "SELECT count(*) FROM revocations WHERE queue = ?1";
const KNOWN: &str = "SELECT 1 FROM revocations WHERE queue = ?1 AND task = ?2";
const REVOKE: &str = "INSERT INTO revocations (queue, task, forget_at) VALUES (?1, ?2, ?3) \
    ON CONFLICT DO UPDATE SET forget_at = max(forget_at, excluded.forget_at)";

/// [`Broker::drop_dead`](celeriac_actors::ports::Broker::drop_dead).
#[derive(Debug)]
pub(in crate::sqlite) struct DropDead(pub(in crate::sqlite) Vec<BurialId>);

impl Step for DropDead {
    type Reply = u32;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u32, StepError> {
        let mut dropped = 0;
        for burial in &self.0 {
            let values = [int(burial.number), Value::Blob(burial.task.as_bytes())];
            let Some(name) = tx.db.first(OUTBOX, &values, |row| row.text(0))? else {
                continue;
            };
            tx.db.run(DROP, &values[..1])?;
            dropped += 1;
            if let Ok(name) = name.parse()
                && let Some(queue) = tx.find(&name)?
            {
                let state = tx.at(queue);
                state.dead_outbox = state.dead_outbox.saturating_sub(1);
            }
        }
        Ok(dropped)
    }
}

/// [`Broker::revoke`](celeriac_actors::ports::Broker::revoke).
#[derive(Debug)]
pub(in crate::sqlite) struct Revoke {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) revocations: Vec<Revocation>,
    pub(in crate::sqlite) forget_at: Timestamp,
}

impl Step for Revoke {
    type Reply = u64;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u64, StepError> {
        tx.durable = true;
        let queue = tx.queue(&self.queue)?;
        let id = Value::Int(tx.at(queue).id);
        tx.db.run(FORGET, &[id, int(tx.now.as_millis())])?;
        let remembered = tx.db.first(REMEMBERED, &[id], |row| row.count(0))?;
        let mut all = remembered.unwrap_or_default();
        let mut keys: Vec<Vec<u8>> = self.revocations.iter().map(revocation_key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            let values = [id, Value::Blob(key)];
            all += u64::from(tx.db.first(KNOWN, &values, |_| ())?.is_none());
        }
        if all > MAX_REVOCATIONS as u64 {
            let full = format!("more than {MAX_REVOCATIONS} revocations of one queue");
            return Err(BrokerError::Invalid(full).into());
        }
        let until = int(self.forget_at.as_millis());
        for key in &keys {
            tx.db.run(REVOKE, &[id, Value::Blob(key), until])?;
        }
        tx.effects.wake(Wake::Revoked(self.queue.clone()));
        let state = tx.at(queue);
        state.revocations += 1;
        Ok(state.revocations)
    }
}

/// Returns the bytes under which a revocation is kept: a task's id as it is, or text, which is longer.
fn revocation_key(revocation: &Revocation) -> Vec<u8> {
    match revocation {
        Revocation {
            of: Selector::Id(id),
            terminate: false,
        } => id.as_bytes().to_vec(),
        revocation => revocation.key().into_bytes(),
    }
}

/// Reads such bytes; `None` for what this version does not know.
pub(in crate::sqlite) fn revocation_of(key: &[u8]) -> Option<Revocation> {
    match <[u8; 16]>::try_from(key) {
        Ok(id) => Some(Revocation::id(TaskId::from_bytes(id))),
        Err(_) => std::str::from_utf8(key).ok().and_then(Revocation::from_key),
    }
}

/// [`Broker::pause`](celeriac_actors::ports::Broker::pause).
#[derive(Debug)]
pub(in crate::sqlite) struct Pause {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) paused: bool,
}

impl Step for Pause {
    type Reply = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StepError> {
        let queue = tx.queue(&self.queue)?;
        tx.at(queue).paused = self.paused;
        if self.paused {
            tx.effects.silenced.push(self.queue.clone());
        }
        tx.durable = true;
        tx.ring(queue);
        Ok(())
    }
}
