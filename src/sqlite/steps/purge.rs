//! Ending what waits, from outside.

use celeriac_actors::fence::check_purge;
use celeriac_actors::ids::QueueName;
use celeriac_actors::lease::{MAX_BATCH, purged};
use celeriac_actors::ports::BrokerError;
use celeriac_actors::state::TaskState;
use diesel::result::QueryResult;

use super::Step;
use super::exchange::take_ready;
use crate::sqlite::errors::StepError;
use crate::sqlite::sql::Value;
use crate::sqlite::tx::{Q, Tx};

const WAITING: &str = "SELECT due, serial, frame FROM waiting \
    WHERE queue = ?1 AND retrying = ?2 ORDER BY due, serial LIMIT ?3";
const DROP: &str =
    "DELETE FROM waiting WHERE queue = ?1 AND retrying = ?2 AND (due, serial) <= (?3, ?4)";

/// [`Broker::purge`](celeriac_actors::ports::Broker::purge).
#[derive(Debug)]
pub(in crate::sqlite) struct Purge {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) state: TaskState,
    pub(in crate::sqlite) limit: u32,
}

impl Step for Purge {
    type Reply = u32;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u32, StepError> {
        check_purge(self.state).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let Some(queue) = tx.find(&self.queue)? else {
            return Ok(0);
        };
        tx.durable = true;
        let limit = self.limit.min(MAX_BATCH);
        let frames = match self.state {
            _ if limit == 0 => Vec::new(),
            TaskState::Ready => {
                let taken = take_ready(tx, queue, (1, limit as usize))?;
                taken.deliveries.into_iter().map(|it| it.frame).collect()
            }
            state => take_waiting(tx, queue, (state, limit))?,
        };
        for record in frames.iter().filter_map(|frame| purged(frame)) {
            tx.keep(queue, &record)?;
        }
        tx.at(queue).counters.cancelled += frames.len() as u64;
        Ok(u32::try_from(frames.len()).unwrap_or(limit))
    }
}

/// Takes those out that would become due first.
fn take_waiting(
    tx: &mut Tx<'_>,
    queue: Q,
    (state, limit): (TaskState, u32),
) -> QueryResult<Vec<Vec<u8>>> {
    let (id, is_retrying) = (tx.at(queue).id, state == TaskState::Retrying);
    let known = tx.at(queue);
    let left = if is_retrying {
        known.retrying
    } else {
        known.scheduled
    };
    if left == 0 {
        // Both kinds lie among each other: where there is none of one, the other is not searched for it.
        return Ok(Vec::new());
    }
    let (id, kind) = (Value::Int(id), Value::Int(i64::from(is_retrying)));
    let values = [id, kind, Value::Int(i64::from(limit))];
    let mut found = tx.db.all(WAITING, &values, |row| {
        ((row.int(0), row.int(1)), row.blob(2))
    })?;
    if let Some(((due, serial), _)) = found.last() {
        let to = [id, kind, Value::Int(*due), Value::Int(*serial)];
        tx.db.run(DROP, &to)?;
    }
    let gone = found.len() as u64;
    let state = tx.at(queue);
    let left = if is_retrying {
        &mut state.retrying
    } else {
        &mut state.scheduled
    };
    *left = left.saturating_sub(gone);
    Ok(found.drain(..).map(|(_, frame)| frame).collect())
}
