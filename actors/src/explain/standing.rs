//! Where one task stands, and what keeps it there.

use super::obstacles::{blocked, breakers, full, of_fetching};
use super::{
    EndFacts, Facts, LetterFacts, Reason, ReasonKind, StoredFacts, TaskFacts, WorkerFacts,
};
use crate::ids::{TaskId, WorkerId};
use crate::ports::DeadStatus;
use crate::state::TaskState;
use crate::time::{span, when};

type Answer = (Option<TaskState>, Vec<Reason>);

/// Explains a task: what lives counts more than how an earlier life ended.
pub(super) fn of_task(facts: &Facts, task: &TaskFacts) -> Answer {
    if let Some(stored) = &task.stored {
        let reasons = match stored.state {
            TaskState::Active => in_flight(facts, task.id, stored),
            _ => waiting(facts, stored),
        };
        return (Some(stored.state), reasons);
    }
    let letter = task.letter.as_ref();
    if let Some(letter) = letter.filter(|letter| letter.status != DeadStatus::Revived) {
        return (Some(TaskState::Dead), vec![dead(facts, letter)]);
    }
    match (&task.end, letter) {
        (Some(end), _) => (Some(end.state), vec![ended(end)]),
        (None, letter) => (None, vec![unknown(facts, task.id, letter)]),
    }
}

fn in_flight(facts: &Facts, id: TaskId, stored: &StoredFacts) -> Vec<Reason> {
    let Some(holder) = &stored.holder else {
        return vec![Reason::new(
            ReasonKind::Prefetched,
            "it is in flight; who holds it cannot be read",
        )];
    };
    let found = facts.workers.iter().find(|worker| worker.worker == *holder);
    let Some(worker) = found.filter(|worker| worker.alive) else {
        return vec![rescue(facts, holder, found)];
    };
    let mut reasons = Vec::new();
    if let Some(running) = worker.listed().find(|running| running.id == id) {
        let since = worker
            .seen_at
            .minus(std::time::Duration::from_millis(running.elapsed_ms));
        let child = worker.children.iter().find(|child| child.id == Some(id));
        let child = child.map_or_else(String::new, |child| {
            format!(" in child process {}", child.pid)
        });
        let (attempt, ran) = (running.attempt, span(facts.now.since(since)));
        let blocks = worker
            .lanes
            .iter()
            .any(|lane| lane.blocked_by.as_ref().is_some_and(|by| by.id == id));
        let (kind, more) = match blocks {
            true => (
                ReasonKind::BlockedThread,
                "; it has not given its thread back, and blocks what waits there",
            ),
            false => (ReasonKind::Running, ""),
        };
        let text =
            format!("it runs on {holder}{child} since {since} ({ran}), attempt {attempt}{more}");
        reasons.push(
            Reason::new(kind, text).command(format!("celeriac task revoke {id} --terminate")),
        );
    } else if let Some(waiting) = worker.waiting().find(|waiting| waiting.id == id) {
        let waits = span(std::time::Duration::from_millis(waiting.elapsed_ms));
        let busy = worker.children.iter().filter(|child| child.id.is_some());
        let text = format!(
            "it has waited on {holder} for a child process for {waits}; {} of its {} children have an attempt, \
             `isolation.children` says how many there may be",
            busy.count(),
            worker.children.len()
        );
        reasons.push(
            Reason::new(ReasonKind::ChildWait, text).command(format!("celeriac tree {holder}")),
        );
    } else if worker.lists_all() {
        let text = format!("{holder} has fetched it and not started it yet");
        reasons.push(Reason::new(ReasonKind::Prefetched, text));
        let queue = facts.queue.as_ref().map(|status| &status.queue);
        reasons.extend(queue.and_then(|queue| full(worker, queue)));
        reasons.extend(blocked(worker));
        reasons.extend(stored.kind.iter().flat_map(|kind| breakers(facts, kind)));
    } else {
        let text =
            format!("{holder} holds it, running or about to run: it runs more than it lists");
        reasons.push(
            Reason::new(ReasonKind::Running, text).command(format!("celeriac tree {holder}")),
        );
    }
    if stored.revoked {
        let text = "it is revoked: it is asked to stop, or not started";
        reasons.push(Reason::new(ReasonKind::Revoked, text));
    }
    reasons
}

/// Tells when a task is taken back whose holder is silent.
fn rescue(facts: &Facts, holder: &WorkerId, found: Option<&WorkerFacts>) -> Reason {
    let since = match found {
        Some(worker) => format!("has been silent since {}", worker.seen_at),
        None => "is gone".to_owned(),
    };
    let queue = facts.queue.as_ref().map(|status| &status.queue);
    let rescuers = facts
        .workers
        .iter()
        .any(|worker| worker.alive && queue.is_some_and(|queue| worker.queues.contains(queue)));
    let left = found.map(|worker| worker.seen_at.plus(facts.lease).since(facts.now));
    let text = format!("{holder} holds it and {since}");
    match (queue, rescuers) {
        (Some(queue), false) => {
            let text =
                format!("{text}; it is taken back as soon as a worker of the queue {queue} runs");
            let run = format!("celeriac run --queues {queue}");
            Reason::new(ReasonKind::Rescue, text).command(run)
        }
        _ => {
            let wait = match left.filter(|left| !left.is_zero()) {
                Some(left) => format!("in about {}, when its lease is over", span(left)),
                None => "at any moment: its lease is over".to_owned(),
            };
            Reason::new(
                ReasonKind::Rescue,
                format!("{text}; it is taken back {wait}"),
            )
        }
    }
}

fn waiting(facts: &Facts, stored: &StoredFacts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if stored.revoked {
        let text = "it is revoked: whoever fetches it drops it";
        reasons.push(Reason::new(ReasonKind::Revoked, text));
    }
    if let Some(at) = stored.expires_at.filter(|at| *at <= facts.now) {
        let text = format!("it expired at {at}: whoever fetches it drops it");
        reasons.push(Reason::new(ReasonKind::Expired, text));
    }
    if stored.kind.is_none() {
        let text = "its bytes cannot be read as a task: whoever fetches it buries it";
        reasons.push(Reason::new(ReasonKind::Garbage, text));
    }
    if stored.state != TaskState::Ready {
        reasons.push(due(facts, stored));
    }
    if stored.state == TaskState::Retrying {
        reasons.extend(budgets(facts));
    }
    reasons.extend(of_fetching(facts, stored.kind.as_ref()));
    if stored.state == TaskState::Ready {
        reasons.push(turn(facts, stored, reasons.is_empty()));
    }
    reasons
}

fn due(facts: &Facts, stored: &StoredFacts) -> Reason {
    let time = match stored.due {
        None => "later".to_owned(),
        Some(due) if due <= facts.now => {
            format!("since {due}: the next worker that looks makes it ready")
        }
        Some(due) => format!("at {due} ({})", when(due, facts.now)),
    };
    if stored.state != TaskState::Retrying {
        return Reason::new(ReasonKind::DueLater, format!("it is due {time}"));
    }
    let next = stored.attempts.saturating_add(1);
    let of = stored
        .max_attempts
        .map_or_else(String::new, |max| format!(" of {max}"));
    Reason::new(
        ReasonKind::Retry,
        format!("attempt {next}{of} is due {time}"),
    )
}

/// Tells which workers let retries of the queue wait longer.
fn budgets(facts: &Facts) -> impl Iterator<Item = Reason> + '_ {
    let queue = facts.queue.as_ref().map(|status| &status.queue);
    let alive = facts.workers.iter().filter(|worker| worker.alive);
    let all = alive.flat_map(|worker| worker.budgets.iter().map(move |budget| (worker, budget)));
    let spent = all.filter(move |(_, budget)| budget.left < 0 && Some(&budget.queue) == queue);
    spent.map(|(worker, budget)| {
        let text = format!(
            "the retry budget of the queue {} on {} is spent: {} retries wait longer than their backoff (`queues.{}.retry_budget`)",
            budget.queue, worker.worker, -budget.left, budget.queue
        );
        Reason::new(ReasonKind::RetryBudget, text)
    })
}

/// Tells how many are fetched before a ready task.
fn turn(facts: &Facts, stored: &StoredFacts, is_free: bool) -> Reason {
    let ready = facts.queue.as_ref().map_or(0, |status| status.ready);
    match (stored.before, is_free) {
        (0, true) => Reason::new(
            ReasonKind::Next,
            "nothing hinders it: it is the next that is fetched",
        ),
        (0, false) => Reason::new(ReasonKind::Next, "it is the next that is fetched"),
        (before, _) => {
            let text = format!(
                "{before} of {} ready tasks are fetched before it",
                ready.max(before + 1)
            );
            Reason::new(ReasonKind::Behind, text)
        }
    }
}

fn dead(facts: &Facts, letter: &LetterFacts) -> Reason {
    let LetterFacts {
        id,
        reason,
        note,
        at,
        status,
    } = letter;
    let ago = when(*at, facts.now);
    let text = format!("it is dead since {at} ({ago}): {reason}: {note} (letter {id})");
    let reason = Reason::new(ReasonKind::Dead, text);
    match status {
        DeadStatus::Reviving => Reason {
            text: format!("{}; its revival is under way", reason.text),
            ..reason
        },
        _ => reason.command(format!("celeriac dead revive {id}")),
    }
}

fn ended(end: &EndFacts) -> Reason {
    let (state, attempts) = (end.state, end.attempts);
    let at = end.at.map_or_else(String::new, |at| format!(" at {at}"));
    let mut text = match state {
        TaskState::Cancelled => {
            format!("it was cancelled{at}: revoked or purged, after {attempts} attempts")
        }
        TaskState::Expired => format!("it expired{at}, after {attempts} attempts"),
        TaskState::Dead => {
            format!("it died{at}, after {attempts} attempts; no dead letter of it was found")
        }
        state => format!("it has {state}{at}, with attempt {}", attempts.max(1)),
    };
    if let Some(error) = &end.error {
        text.push_str(&format!(": {error}"));
    }
    Reason::new(ReasonKind::Ended, text)
}

fn unknown(facts: &Facts, id: TaskId, letter: Option<&LetterFacts>) -> Reason {
    let (looked, total) = facts.looked;
    let mut text = match letter {
        Some(letter) => format!(
            "it died, was revived (letter {}), and was not found since",
            letter.id
        ),
        None => "nothing is known of it".to_owned(),
    };
    text.push_str(&format!(
        "; searched {looked} of {total} stored tasks, the kept results and the dead letters"
    ));
    if looked < total {
        text.push_str(
            ": it may be among the rest, further behind than the first that were looked at",
        );
    } else {
        text.push_str(": it never came here, or ended and nothing is kept of it");
    }
    Reason::new(ReasonKind::Unknown, text).command(format!("celeriac task show {id}"))
}
