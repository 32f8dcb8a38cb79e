//! Rescue: close first, then move what was held.

use std::collections::HashMap;
use std::time::Duration;

use celeriac_actors::fence::{Held, Rescue, cut_deadline, holds_back, rescue};
use celeriac_actors::ids::{IncarnationId, QueueName, WorkerId};
use celeriac_actors::lease::{ClosedIncarnation, MAX_BATCH, Swept};
use diesel::result::QueryResult;

use super::Step;
use crate::sqlite::alive::{Verdict, verdict};
use crate::sqlite::errors::StepError;
use crate::sqlite::lives::{CLOSED, Holding, LIVING, Life, ORPHANED};
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::{Burial, Q, Tx, rank};

const LEASES: &str = "SELECT id, identity, worker, guarded, lease, deadline, boot, held_until, held_times \
    FROM incarnations WHERE queue = ?1 AND state = ?2 ORDER BY id";
const ORPHANS: &str =
    "SELECT id, worker FROM incarnations WHERE queue = ?1 AND state = ?2 ORDER BY id";
const DEADLINE: &str = "UPDATE incarnations SET deadline = ?2, boot = ?3, held_until = ?4, held_times = ?5 \
    WHERE id = ?1";

/// [`Broker::sweep`](celeriac_actors::ports::Broker::sweep).
#[derive(Debug)]
pub(in crate::sqlite) struct Sweep {
    pub(in crate::sqlite) queue: QueueName,
    pub(in crate::sqlite) limit: u32,
}

/// A living incarnation, as a sweep sees it.
struct Lease {
    life: i64,
    identity: IncarnationId,
    worker: Option<WorkerId>,
    guarded: bool,
    lease: Duration,
    deadline: Duration,
    boot: String,
    held: Held,
}

impl Step for Sweep {
    type Reply = Swept;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Swept, StepError> {
        let mut swept = Swept::default();
        let Some(queue) = tx.find(&self.queue)? else {
            return Ok(swept);
        };
        close_lost(tx, queue, &mut swept)?;
        self.move_orphans(tx, queue, &mut swept)?;
        tx.at(queue).counters.rescued += u64::from(swept.rescued);
        if swept.rescued > 0 {
            tx.ring(queue);
        }
        Ok(swept)
    }
}

/// Closes who is proven dead or silent beyond its lease; a sweep that holds back renews all others instead.
fn close_lost(tx: &mut Tx<'_>, queue: Q, swept: &mut Swept) -> QueryResult<()> {
    let now = Duration::from_millis(tx.boot_now);
    let leases = leases(tx, queue)?;
    let mut known = HashMap::new();
    let (dead, living): (Vec<_>, Vec<_>) = leases
        .into_iter()
        .partition(|lease| proven_dead(tx, lease, &mut known));
    let shortest = living.iter().map(|lease| lease.lease).min();
    let boot = tx.context.boot.clone();
    let state = tx.at(queue);
    let last = Some(Duration::from_millis(state.swept_at));
    let last = last.filter(|_| state.swept_boot == boot);
    swept.held_back = holds_back(last, now, shortest);
    state.swept_at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    state.swept_boot.clone_from(&boot);
    for lease in dead {
        close(tx, &lease, true, swept)?;
    }
    for mut lease in living {
        let again = if swept.held_back {
            lease.held.back(lease.deadline, now, lease.lease)
        } else {
            None
        };
        if again.is_none() && lease.deadline <= now {
            close(tx, &lease, false, swept)?;
            continue;
        }
        let deadline = again.unwrap_or_else(|| cut_deadline(lease.deadline, now, lease.lease));
        if deadline != lease.deadline {
            let values = [
                Value::Int(lease.life),
                millis(deadline),
                Value::Text(&boot),
                millis(lease.held.until),
                Value::Int(i64::from(lease.held.times)),
            ];
            tx.db.run(DEADLINE, &values)?;
        }
    }
    Ok(())
}

fn millis(span: Duration) -> Value<'static> {
    int(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn leases(tx: &mut Tx<'_>, queue: Q) -> QueryResult<Vec<Lease>> {
    let values = [Value::Int(tx.at(queue).id), Value::Int(LIVING)];
    tx.db.all(LEASES, &values, |row| Lease {
        life: row.int(0),
        identity: IncarnationId::from_bytes(row.id(1)),
        worker: row.text(2).parse().ok(),
        guarded: row.flag(3),
        lease: Duration::from_millis(row.count(4)),
        deadline: Duration::from_millis(row.count(5)),
        boot: row.text(6),
        held: Held {
            until: Duration::from_millis(row.count(7)),
            times: u32::try_from(row.count(8)).unwrap_or(u32::MAX),
        },
    })
}

/// A lease of another boot is void; a worker whose lock is free is dead. Our own we know to be alive.
/// `known` remembers whose lock was looked at.
fn proven_dead(tx: &Tx<'_>, lease: &Lease, known: &mut HashMap<WorkerId, bool>) -> bool {
    if lease.boot != tx.context.boot {
        return true;
    }
    let Some(worker) = lease.worker.as_ref().filter(|_| lease.guarded) else {
        return false;
    };
    if tx.context.worker.as_ref() == Some(worker) {
        return false;
    }
    let dead = || verdict(&tx.context.locks, worker) == Verdict::Dead;
    *known.entry(worker.clone()).or_insert_with(dead)
}

fn close(tx: &mut Tx<'_>, lease: &Lease, proven_dead: bool, swept: &mut Swept) -> QueryResult<()> {
    let wall = tx.now.as_millis();
    Life::end(tx.db, lease.life, ORPHANED, wall)?;
    if let Some(worker) = lease.worker.clone() {
        swept.closed.push(ClosedIncarnation {
            id: lease.identity,
            worker,
            proven_dead,
        });
    }
    Ok(())
}

impl Sweep {
    /// Moves deliveries of closed incarnations, highest tags first, until the limit is reached.
    fn move_orphans(&self, tx: &mut Tx<'_>, queue: Q, swept: &mut Swept) -> QueryResult<()> {
        let values = [Value::Int(tx.at(queue).id), Value::Int(ORPHANED)];
        let orphans = tx
            .db
            .all(ORPHANS, &values, |row| (row.int(0), row.text(1)))?;
        let limit = self.limit.min(MAX_BATCH);
        for (life, worker) in orphans {
            let room = limit - (swept.rescued + swept.buried).min(limit);
            if !take_back(tx, (queue, life, &worker), room, swept)? {
                swept.more = true;
                break;
            }
            let wall = tx.now.as_millis();
            Life::end(tx.db, life, CLOSED, wall)?;
        }
        Ok(())
    }
}

/// Takes back at most `room` deliveries of a closed incarnation. Returns whether none is left.
fn take_back(
    tx: &mut Tx<'_>,
    (queue, life, worker): (Q, i64, &str),
    room: u32,
    swept: &mut Swept,
) -> QueryResult<bool> {
    let mut holding = Holding::new(life);
    let tags = holding.load_all(tx.db)?;
    let moved = tags.len().min(room as usize);
    let mut front = Vec::with_capacity(moved);
    for tag in tags.iter().rev().take(moved) {
        let mut frame = holding.frame(tx.db, *tag)?.to_vec();
        holding.remove(tx.db, *tag)?;
        match rescue(&mut frame, holding.is_started(*tag)) {
            Rescue::Requeue { priority } => {
                front.push((rank(priority), frame));
                swept.rescued += 1;
            }
            Rescue::Bury {
                reason,
                note,
                result,
            } => {
                if let Some(record) = &result {
                    tx.keep(queue, record)?;
                }
                let burial = Burial {
                    frame: &frame,
                    reason,
                    note: &note,
                    worker,
                };
                tx.bury(queue, &burial)?;
                swept.buried += 1;
            }
        }
    }
    holding.store(tx.db)?;
    let state = tx.at(queue);
    state.active = state.active.saturating_sub(moved as u64);
    front.reverse();
    tx.push_front(queue, &front)?;
    Ok(moved == tags.len())
}
