//! A sweep: the script decides; what it cannot know, which processes of this machine are gone, is looked up here.

use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::fence::{KEEP_CLOSED, MAX_HELD_BACK};
use celeriac_actors::frame::encode_value;
use celeriac_actors::ids::{IncarnationId, QueueName, WorkerId};
use celeriac_actors::lease::{ClosedIncarnation, MAX_BATCH, Swept, WANTED_TTL};
use celeriac_actors::ports::{MAX_DELIVERIES, MAX_STRIKES};
use redis::Value;

use super::decode::{self, Parts};
use super::encode::ms;
use super::keys::slot;
use super::proof::Proof;
use super::script::SWEEP;
use super::{RedisBroker, Reply};

/// What the sweep of one queue did, and the incarnations it left with the proofs of their processes' lives.
pub(super) type Step = (Swept, Vec<Value>);

/// Sweeps a queue; once more if the first time showed incarnations of processes that are dead for certain.
pub(super) async fn sweep(broker: &RedisBroker, queue: &QueueName, limit: u32) -> Reply<Swept> {
    let limit = limit.min(MAX_BATCH);
    let root = broker.keys.root(queue);
    // Which queues a call may sweep together is a matter of where they are.
    let (mut swept, left) = if broker.links.is_one_server() {
        let all = |roots: Vec<String>| async move { step(broker, &roots, limit, &[]).await };
        broker.sweeps.ask(root.clone(), all).await?
    } else {
        only(step(broker, std::slice::from_ref(&root), limit, &[]).await?)?
    };
    let dead = proven_dead(broker, left)?;
    if !dead.is_empty() {
        let room = limit.saturating_sub(swept.rescued + swept.buried);
        let (second, _) = only(step(broker, &[root], room, &dead).await?)?;
        swept.closed.extend(second.closed);
        swept.rescued += second.rescued;
        swept.buried += second.buried;
        swept.more = second.more;
    }
    Ok(swept)
}

/// Returns the incarnations, of those that are left, whose process is dead.
fn proven_dead(broker: &RedisBroker, left: Vec<Value>) -> Reply<Vec<String>> {
    let Some(own) = &broker.proof else {
        return Ok(Vec::new());
    };
    let mut dead = Vec::new();
    let mut left = left.into_iter();
    while let (Some(incarnation), Some(proof)) = (left.next(), left.next()) {
        let proof = decode::text(proof)?;
        if proof.parse().is_ok_and(|proof: Proof| proof.is_dead(own)) {
            dead.push(decode::text(incarnation)?);
        }
    }
    Ok(dead)
}

fn only<T>(mut all: Vec<T>) -> Reply<T> {
    all.pop().ok_or_else(|| decode::strange("it is empty"))
}

/// Sweeps queues one after the other, with a limit for all of them.
async fn step(
    broker: &RedisBroker,
    roots: &[String],
    limit: u32,
    dead: &[String],
) -> Reply<Vec<Step>> {
    let poison = format!("seen running at {MAX_STRIKES} crashes");
    let often = format!("taken back from {MAX_DELIVERIES} consumers that died");
    let body = |note| encode_value(&Failure::new(FailureKind::Crash, note)).unwrap_or_default();
    let Some(first) = roots.first() else {
        return Ok(Vec::new());
    };
    let mut call = SWEEP.call_of_all(roots);
    call.arg(limit)
        .arg(ms(KEEP_CLOSED))
        .arg(body(poison.as_str()))
        .arg(body(often.as_str()))
        .arg(ms(WANTED_TTL))
        .arg(u8::from(broker.elsewhere.is_some()))
        .arg(MAX_HELD_BACK)
        .arg(dead);
    let reply = broker.links.run(slot(first), &SWEEP, &call).await?;
    Parts::of(reply)?.rest().into_iter().map(read).collect()
}

fn read(reply: Value) -> Reply<Step> {
    let mut parts = Parts::of(reply)?;
    let mut swept = Swept {
        held_back: parts.number::<u64>()? == 1,
        rescued: parts.number()?,
        buried: parts.number()?,
        more: parts.number::<u64>()? == 1,
        closed: Vec::new(),
    };
    let mut closed = parts.list()?.into_iter();
    while let (Some(id), Some(worker), Some(proven)) = (closed.next(), closed.next(), closed.next())
    {
        swept.closed.push(ClosedIncarnation {
            id: incarnation(&decode::text(id)?)?,
            worker: worker_of(&decode::text(worker)?)?,
            proven_dead: decode::number::<u64>(proven)? == 1,
        });
    }
    Ok((swept, parts.list()?))
}

/// Reads an identity as the keys have it.
pub(super) fn incarnation(hex: &str) -> Reply<IncarnationId> {
    let id = uuid::Uuid::parse_str(hex).map_err(|_| decode::strange(hex))?;
    Ok(IncarnationId::from_bytes(id.into_bytes()))
}

pub(super) fn worker_of(name: &str) -> Reply<WorkerId> {
    WorkerId::new(name).map_err(|error| decode::strange(&error.to_string()))
}
