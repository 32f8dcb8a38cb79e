//! What keeps tasks of a queue from being fetched and started, whichever task it is.

use super::{Facts, Reason, ReasonKind, WorkerFacts};
use crate::breaker::{BreakerRecord, BreakerState};
use crate::ids::{QueueName, TaskName};
use crate::time::when;

/// Explains a queue.
pub(super) fn of_queue(facts: &Facts) -> Vec<Reason> {
    let Some(status) = &facts.queue else {
        return vec![Reason::new(
            ReasonKind::Unknown,
            "nobody has heard of this queue",
        )];
    };
    let mut reasons = of_fetching(facts, None);
    for (record, kinds) in &facts.breakers {
        // Those that depend on it may belong to other queues: nobody can tell without opening all of them.
        let kinds: Vec<&str> = kinds.iter().map(TaskName::as_str).collect();
        if !kinds.is_empty() {
            let mut reason = breaker(facts, record);
            reason
                .text
                .push_str(&format!("; needed by {}", kinds.join(", ")));
            reasons.push(reason);
        }
    }
    if status.ready == 0 {
        let waits = status.scheduled + status.retrying;
        let text = match (facts.next_due, waits, status.active) {
            (Some(due), 1.., _) => {
                format!(
                    "nothing is ready; {waits} wait, the first is due {}",
                    when(due, facts.now)
                )
            }
            (_, 0, 0) => "the queue is empty".to_owned(),
            (_, 0, active) => format!("nothing is ready; {active} are in flight"),
            (None, waits, _) => format!("nothing is ready; {waits} wait for their time"),
        };
        let kind = if waits > 0 {
            ReasonKind::DueLater
        } else {
            ReasonKind::Empty
        };
        reasons.push(Reason::new(kind, text));
    } else if reasons.is_empty() {
        let text = format!(
            "nothing hinders it: {} are ready and being fetched",
            status.ready
        );
        reasons.push(Reason::new(ReasonKind::Next, text));
    }
    reasons
}

/// Returns what keeps the queue from being fetched from, and tasks of `kind` from being started.
pub(super) fn of_fetching(facts: &Facts, kind: Option<&TaskName>) -> Vec<Reason> {
    let Some(status) = &facts.queue else {
        return Vec::new();
    };
    let queue = &status.queue;
    let mut reasons = Vec::new();
    if status.paused {
        let text = format!("the queue {queue} is paused: it hands out nothing");
        let resume = format!("celeriac queues resume {queue}");
        reasons.push(Reason::new(ReasonKind::Paused, text).command(resume));
    }
    let consuming: Vec<&WorkerFacts> = facts
        .workers
        .iter()
        .filter(|worker| worker.consumes(queue))
        .collect();
    if consuming.is_empty() {
        reasons.push(no_consumer(facts, queue));
    }
    if let Some(kind) = kind {
        reasons.extend(unknown_kind(&consuming, (kind, queue)));
        reasons.extend(breakers(facts, kind));
    }
    for worker in &consuming {
        if let Some(why) = &worker.broker_away {
            let text = format!("{} cannot reach the broker: {why}", worker.worker);
            reasons.push(Reason::new(ReasonKind::BrokerAway, text).command("celeriac doctor"));
        }
    }
    reasons.extend(consuming.iter().filter_map(|worker| blocked(worker)));
    let full: Vec<Reason> = consuming
        .iter()
        .filter_map(|worker| full(worker, queue))
        .collect();
    // One worker with room is enough.
    if full.len() == consuming.len() {
        reasons.extend(full);
    }
    reasons
}

fn no_consumer(facts: &Facts, queue: &QueueName) -> Reason {
    let of_it = || {
        facts
            .workers
            .iter()
            .filter(|worker| worker.queues.contains(queue))
    };
    let text = if let Some(quiet) = of_it().find(|worker| worker.alive) {
        format!(
            "no worker consumes the queue {queue}: {} is being stopped",
            quiet.worker
        )
    } else if let Some(last) = of_it().max_by_key(|worker| worker.seen_at) {
        let ago = when(last.seen_at, facts.now);
        format!(
            "no worker consumes the queue {queue}: {} was last seen {ago}",
            last.worker
        )
    } else if facts.workers.iter().any(|worker| worker.alive) {
        format!("no worker consumes the queue {queue}; those that run consume others")
    } else {
        format!("no worker consumes the queue {queue}: none runs")
    };
    let run = format!("celeriac run --queues {queue}");
    Reason::new(ReasonKind::NoConsumer, text).command(run)
}

/// Tells that nobody knows a kind: only where every worker says so.
fn unknown_kind(
    consuming: &[&WorkerFacts],
    (kind, queue): (&TaskName, &QueueName),
) -> Option<Reason> {
    let strangers = |worker: &&WorkerFacts| {
        worker.knows.as_ref().and_then(|known| known.knows(kind)) == Some(false)
    };
    let strange = consuming.iter().filter(|worker| strangers(worker)).count();
    if strange == 0 {
        return None;
    }
    let (all, who) = (strange == consuming.len(), consuming.len());
    all.then(|| {
        let text = format!(
            "none of the {who} workers of the queue {queue} knows tasks {kind}: they hand it back until one does, or bury it"
        );
        let run = format!("celeriac run --queues {queue}");
        Reason::new(ReasonKind::UnknownKind, text).command(run)
    })
}

/// Returns the breakers that let none of a kind pass.
pub(super) fn breakers(facts: &Facts, kind: &TaskName) -> Vec<Reason> {
    let needs = |record: &BreakerRecord, kinds: &[TaskName]| {
        kinds.contains(kind) || record.name.as_str() == kind.as_str()
    };
    let shut = facts
        .breakers
        .iter()
        .filter(|(record, kinds)| needs(record, kinds));
    shut.map(|(record, _)| breaker(facts, record)).collect()
}

fn breaker(facts: &Facts, record: &BreakerRecord) -> Reason {
    let name = &record.name;
    let until = match (record.state, record.until) {
        (BreakerState::HalfOpen, _) => "half-open: one task tries".to_owned(),
        (_, None) => "open until somebody closes it".to_owned(),
        (_, Some(until)) if until <= facts.now => "open, and about to be tried".to_owned(),
        (_, Some(until)) => format!("open until {until} ({})", when(until, facts.now)),
    };
    let why = match record.cause.as_str() {
        "" => String::new(),
        cause => format!(": {cause}"),
    };
    let text = format!("the breaker {name} is {until}{why}");
    Reason::new(ReasonKind::BreakerOpen, text).command(format!("celeriac breaker close {name}"))
}

/// Tells which task keeps a thread of a worker, where one does.
pub(super) fn blocked(worker: &WorkerFacts) -> Option<Reason> {
    let by = worker
        .lanes
        .iter()
        .filter(|lane| !lane.retired)
        .find_map(|lane| lane.blocked_by.as_ref())?;
    let text = format!(
        "a thread of {} is blocked by {} {}, which has not given it back: what waits there runs elsewhere or later",
        worker.worker, by.task, by.id
    );
    let show = format!("celeriac tree {}", worker.worker);
    Some(Reason::new(ReasonKind::BlockedThread, text).command(show))
}

/// Tells that a worker has no place left for tasks of a queue.
pub(super) fn full(worker: &WorkerFacts, queue: &QueueName) -> Option<Reason> {
    let cap = worker
        .caps
        .iter()
        .find(|(of, _)| of == queue)
        .map(|(_, cap)| *cap);
    let here = worker
        .listed()
        .filter(|running| running.queue == *queue)
        .count();
    let (id, running) = (&worker.worker, worker.running());
    let (text, key) = match cap {
        Some(cap) if here >= cap => (
            format!("{id} runs {here} tasks of the queue {queue}, its cap there is {cap}"),
            format!("queues.{queue}.concurrency"),
        ),
        _ if running >= worker.concurrency => (
            format!("{id} runs {running} attempts, as many as it may at once"),
            "concurrency".to_owned(),
        ),
        _ => return None,
    };
    let text = format!("{text} (`{key}`)");
    let run = format!("celeriac run --queues {queue}");
    Some(Reason::new(ReasonKind::ConcurrencyFull, text).command(run))
}
