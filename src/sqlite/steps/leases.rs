//! Incarnations: opening, renewing, closing, and ending deliveries outside a numbered call.

use celeriac_actors::fence::{check_open, check_outcome};
use celeriac_actors::ids::{IncarnationId, QueueName};
use celeriac_actors::lease::{Incarnation, Outcome, Place};
use celeriac_actors::ports::BrokerError;
use celeriac_actors::time::millis;
use diesel::result::QueryResult;

use super::Step;
use super::settle::{Settling, contradiction};
use crate::sqlite::alive::{Verdict, verdict};
use crate::sqlite::errors::StepError;
use crate::sqlite::lives::{CLOSED, Holding, LIVING, Life};
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::{Q, Tx};

const OPEN: &str = "INSERT INTO incarnations \
    (identity, queue, worker, lane, guarded, lease, deadline, boot) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const REFUSE: &str = "INSERT INTO incarnations \
    (identity, queue, state, worker, lane, guarded, lease, deadline, boot, closed_at) \
    VALUES (?1, ?2, 2, '', 0, 0, 0, 0, '', ?3)";

static RELEASE: Outcome = Outcome::release();

/// [`Broker::open`](celeriac_actors::ports::Broker::open).
#[derive(Debug)]
pub(in crate::sqlite) struct Open(pub(in crate::sqlite) Incarnation);

impl Step for Open {
    type Reply = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StepError> {
        let incarnation = &self.0;
        check_open(incarnation).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let queue = tx.queue(&incarnation.queue)?;
        let id = tx.at(queue).id;
        if let Some(life) = Life::find(tx.db, incarnation.id)? {
            if life.state != LIVING {
                return Err(BrokerError::Gone.into());
            }
            if life.queue != id || life.worker != incarnation.worker.as_str() {
                let why = "an incarnation was opened again with other words".to_owned();
                return Err(BrokerError::Invalid(why).into());
            }
            return Ok(life.renew(tx.db, tx.boot_now, &tx.context.boot)?);
        }
        let lease = millis(incarnation.lease);
        let guarded = verdict(&tx.context.locks, &incarnation.worker) == Verdict::Alive;
        let values = [
            Value::Blob(incarnation.id.as_bytes()),
            Value::Int(id),
            Value::Text(incarnation.worker.as_str()),
            Value::Int(i64::from(incarnation.lane)),
            Value::Int(i64::from(guarded)),
            int(lease),
            int(tx.boot_now.saturating_add(lease)),
            Value::Text(&tx.context.boot),
        ];
        tx.db.run(OPEN, &values)?;
        Ok(())
    }
}

/// Finds a living incarnation of a queue.
fn living(
    tx: &mut Tx<'_>,
    queue: &QueueName,
    incarnation: IncarnationId,
) -> QueryResult<Option<(Q, Life)>> {
    let Some(queue) = tx.find(queue)? else {
        return Ok(None);
    };
    let id = tx.at(queue).id;
    let life = Life::find(tx.db, incarnation)?;
    let life = life.filter(|life| life.state == LIVING && life.queue == id);
    Ok(life.map(|life| (queue, life)))
}

/// [`Broker::renew`](celeriac_actors::ports::Broker::renew).
#[derive(Debug)]
pub(in crate::sqlite) struct Renew {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) incarnations: Vec<IncarnationId>,
}

impl Step for Renew {
    type Reply = Vec<IncarnationId>;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Vec<IncarnationId>, StepError> {
        let mut gone = Vec::new();
        for id in &self.incarnations {
            match living(tx, &self.queue, *id)? {
                Some((_, life)) => life.renew(tx.db, tx.boot_now, &tx.context.boot)?,
                None => gone.push(*id),
            }
        }
        Ok(gone)
    }
}

/// [`Broker::mark_started`](celeriac_actors::ports::Broker::mark_started).
#[derive(Debug)]
pub(in crate::sqlite) struct MarkStarted(pub(in crate::sqlite) Place);

impl Step for MarkStarted {
    type Reply = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StepError> {
        let found = living(tx, &self.0.queue, self.0.incarnation)?;
        let (_, life) = found.ok_or(BrokerError::Gone)?;
        let mut holding = Holding::new(life.id);
        let held = holding.mark(tx.db, self.0.tag)?;
        holding.store(tx.db)?;
        // A mark that a power cut takes back would spare a task its strike.
        tx.durable |= held;
        Ok(held)
    }
}

/// [`Broker::take`](celeriac_actors::ports::Broker::take).
#[derive(Debug)]
pub(in crate::sqlite) struct Take {
    pub(in crate::sqlite) place: Place,
    pub(in crate::sqlite) outcome: Outcome,
}

impl Step for Take {
    type Reply = bool;

    fn run(&self, tx: &mut Tx<'_>) -> Result<bool, StepError> {
        let invalid = |why: String| StepError::from(BrokerError::Invalid(why));
        check_outcome(&self.outcome).map_err(|error| invalid(error.to_string()))?;
        if let Some(why) = contradiction(&self.outcome) {
            return Err(invalid(why.to_owned()));
        }
        let found = living(tx, &self.place.queue, self.place.incarnation)?;
        let Some((queue, life)) = found else {
            return Ok(false);
        };
        let mut settling = Settling::new(queue, &life);
        let taken = settling.settle(tx, self.place.tag, &self.outcome)?;
        settling.finish(tx)?;
        tx.ring(queue);
        Ok(taken)
    }
}

/// [`Broker::release`](celeriac_actors::ports::Broker::release).
#[derive(Debug)]
pub(in crate::sqlite) struct Release {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) incarnation: IncarnationId,
    pub(in crate::sqlite) tags: Vec<u64>,
}

impl Step for Release {
    type Reply = u32;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u32, StepError> {
        match living(tx, &self.queue, self.incarnation)? {
            Some((queue, life)) => Ok(release(tx, queue, &life, Some(&self.tags))?),
            None => Ok(0),
        }
    }
}

/// Releases some tags of an incarnation, or all.
fn release(tx: &mut Tx<'_>, queue: Q, life: &Life, tags: Option<&[u64]>) -> QueryResult<u32> {
    let mut settling = Settling::new(queue, life);
    let held;
    let tags = match tags {
        Some(tags) => tags,
        None => {
            held = settling.held(tx)?;
            &held
        }
    };
    let mut released = 0;
    for tag in tags {
        released += u32::from(settling.settle(tx, *tag, &RELEASE)?);
    }
    settling.finish(tx)?;
    tx.ring(queue);
    Ok(released)
}

/// [`Broker::close`](celeriac_actors::ports::Broker::close).
#[derive(Debug)]
pub(in crate::sqlite) struct Close {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) incarnation: IncarnationId,
}

impl Step for Close {
    type Reply = u32;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u32, StepError> {
        let wall = tx.now.as_millis();
        if let Some((queue, life)) = living(tx, &self.queue, self.incarnation)? {
            let released = release(tx, queue, &life, None)?;
            Life::end(tx.db, life.id, CLOSED, wall)?;
            return Ok(released);
        }
        if Life::find(tx.db, self.incarnation)?.is_none() {
            // Its `open` may still be on the way: it must not come to life behind its close.
            let queue = tx.queue(&self.queue)?;
            let queue = Value::Int(tx.at(queue).id);
            let identity = Value::Blob(self.incarnation.as_bytes());
            tx.db.run(REFUSE, &[identity, queue, int(wall)])?;
        }
        Ok(0)
    }
}
