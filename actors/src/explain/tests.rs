//! Every reason, from the facts that make it.

use std::time::Duration;

use super::*;
use crate::activity::{LaneActivity, Running};
use crate::breaker::BreakerRecord;
use crate::budget::BudgetStatus;
use crate::ids::{BreakerName, BurialId, TaskName, WorkerId};
use crate::ports::{ChildStatus, Counters, DeadStatus, QueueStatus};
use crate::state::DeadReason;
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn at(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

fn queue() -> QueueName {
    QueueName::new("billing").unwrap()
}

fn kind() -> TaskName {
    TaskName::new("billing.charge").unwrap()
}

fn id() -> TaskId {
    TaskId::from_bytes([7; 16])
}

fn status() -> QueueStatus {
    QueueStatus {
        queue: queue(),
        ready: 5,
        scheduled: 0,
        retrying: 0,
        active: 0,
        dead_outbox: 0,
        paused: false,
        consumers: 1,
        oldest_ready: None,
        counters: Counters::default(),
    }
}

fn worker() -> WorkerFacts {
    WorkerFacts {
        worker: WorkerId::new("w:1:a").unwrap(),
        alive: true,
        seen_at: ago(1),
        quiet: false,
        queues: vec![queue()],
        concurrency: 2,
        caps: Vec::new(),
        lanes: vec![lane(&[])],
        children: Vec::new(),
        budgets: Vec::new(),
        knows: Some(KnownTasks::of([kind()].into_iter())),
        broker_away: None,
    }
}

fn running(task: TaskId) -> Running {
    Running {
        id: task,
        task: kind(),
        queue: queue(),
        attempt: 2,
        elapsed_ms: 4_000,
        limit_ms: 1_800_000,
    }
}

fn lane(tasks: &[TaskId]) -> LaneActivity {
    LaneActivity {
        lane: 0,
        generation: 1,
        retired: false,
        prefetched: 0,
        running: tasks.iter().copied().map(running).collect(),
        running_total: tasks.len(),
        waiting: Vec::new(),
        waiting_total: 0,
        progress: Vec::new(),
        blocked_by: None,
    }
}

fn stored(state: TaskState) -> StoredFacts {
    StoredFacts {
        state,
        due: None,
        holder: None,
        kind: Some(kind()),
        attempts: 0,
        max_attempts: Some(5),
        expires_at: None,
        revoked: false,
        before: 0,
    }
}

fn facts(stored: Option<StoredFacts>) -> Facts {
    Facts {
        now: NOW,
        task: Some(TaskFacts {
            id: id(),
            stored,
            end: None,
            letter: None,
        }),
        queue: Some(status()),
        next_due: None,
        workers: vec![worker()],
        breakers: Vec::new(),
        lease: Duration::from_secs(12),
        looked: (5, 5),
        unread: Vec::new(),
    }
}

fn ready() -> Facts {
    facts(Some(stored(TaskState::Ready)))
}

fn held() -> Facts {
    facts(Some(StoredFacts {
        holder: Some(worker().worker),
        ..stored(TaskState::Active)
    }))
}

fn own(facts: &mut Facts) -> &mut StoredFacts {
    facts.task.as_mut().unwrap().stored.as_mut().unwrap()
}

/// Checks the first reason: its kind, a part of its text, the start of its command (empty: none).
#[track_caller]
fn first(facts: &Facts, kind: ReasonKind, text: &str, command: &str) {
    let answer = explain(facts);
    let first = &answer.reasons[0];
    assert_eq!(first.kind, kind, "{answer:#?}");
    assert!(first.text.contains(text), "{first:#?}");
    let told = first.command.as_deref().unwrap_or_default();
    assert!(
        told.starts_with(command) && told.is_empty() == command.is_empty(),
        "{first:#?}"
    );
}

fn kinds(facts: &Facts) -> Vec<ReasonKind> {
    explain(facts)
        .reasons
        .iter()
        .map(|reason| reason.kind)
        .collect()
}

#[test]
fn a_ready_task_waits_for_its_turn() {
    use ReasonKind::{Behind, Next};
    let mut facts = ready();
    first(&facts, Next, "nothing hinders it", "");
    own(&mut facts).before = 3;
    first(&facts, Behind, "3 of 5 ready tasks", "");
}

#[test]
fn a_queue_may_hand_out_nothing() {
    use ReasonKind::{Behind, NoConsumer, Paused, UnknownKind};
    let mut facts = ready();
    own(&mut facts).before = 1;
    facts.queue.as_mut().unwrap().paused = true;
    first(
        &facts,
        Paused,
        "is paused",
        "celeriac queues resume billing",
    );
    facts.workers[0].queues.clear();
    assert_eq!(kinds(&facts), [Paused, NoConsumer, Behind]);
    facts.queue.as_mut().unwrap().paused = false;
    first(
        &facts,
        NoConsumer,
        "consume others",
        "celeriac run --queues billing",
    );
    facts.workers = vec![WorkerFacts {
        quiet: true,
        ..worker()
    }];
    first(&facts, NoConsumer, "is being stopped", "celeriac run");
    facts.workers = vec![WorkerFacts {
        alive: false,
        ..worker()
    }];
    first(&facts, NoConsumer, "was last seen 1.0s ago", "celeriac run");
    facts.workers.clear();
    first(&facts, NoConsumer, "none runs", "celeriac run");
    let mut stranger = worker();
    stranger.knows = Some(KnownTasks::default());
    facts.workers = vec![stranger.clone()];
    first(
        &facts,
        UnknownKind,
        "knows tasks billing.charge",
        "celeriac run --queues billing",
    );
    facts.workers.push(worker());
    first(&facts, Behind, "", "");
    stranger.knows = Some(KnownTasks {
        names: Vec::new(),
        total: 501,
    });
    facts.workers = vec![stranger];
    first(&facts, Behind, "", "");
}

#[test]
fn workers_may_be_full_blocked_or_cut_off() {
    use ReasonKind::{Behind, BlockedThread, BrokerAway, ConcurrencyFull, Next};
    let other = TaskId::from_bytes([8; 16]);
    let mut facts = ready();
    facts.workers[0].lanes = vec![lane(&[other, other])];
    first(
        &facts,
        ConcurrencyFull,
        "runs 2 attempts, as many as it may",
        "celeriac run",
    );
    facts.workers.push(worker());
    first(&facts, Next, "", "");
    facts.workers.pop();
    facts.workers[0].concurrency = 9;
    facts.workers[0].caps = vec![(queue(), 2)];
    first(
        &facts,
        ConcurrencyFull,
        "its cap there is 2 (`queues.billing.concurrency`)",
        "celeriac run",
    );
    facts.workers[0].caps.clear();
    facts.workers[0].lanes[0].blocked_by = Some(running(other));
    first(
        &facts,
        BlockedThread,
        "is blocked by billing.charge",
        "celeriac tree w:1:a",
    );
    facts.workers[0].lanes[0].retired = true;
    first(&facts, Next, "", "");
    facts.workers[0].broker_away = Some("refused".into());
    own(&mut facts).before = 1;
    first(
        &facts,
        BrokerAway,
        "cannot reach the broker: refused",
        "celeriac doctor",
    );
    assert_eq!(kinds(&facts), [BrokerAway, Behind]);
}

#[test]
fn a_waiting_task_says_when() {
    use ReasonKind::{DueLater, Paused, Retry, RetryBudget};
    let mut facts = facts(Some(stored(TaskState::Scheduled)));
    own(&mut facts).due = Some(at(90));
    first(&facts, DueLater, "(in 1m 30s)", "");
    facts.queue.as_mut().unwrap().paused = true;
    assert_eq!(kinds(&facts), [DueLater, Paused]);
    facts.queue.as_mut().unwrap().paused = false;
    own(&mut facts).due = Some(ago(1));
    first(&facts, DueLater, "the next worker that looks", "");
    own(&mut facts).state = TaskState::Retrying;
    own(&mut facts).attempts = 2;
    first(&facts, Retry, "attempt 3 of 5", "");
    facts.workers[0].budgets = vec![BudgetStatus {
        queue: queue(),
        share: 0.1,
        floor: 10,
        left: -4,
        delayed: 9,
    }];
    assert_eq!(kinds(&facts), [Retry, RetryBudget]);
    let text = &explain(&facts).reasons[1].text;
    assert!(text.contains("4 retries wait longer"), "{text}");
}

#[test]
fn a_breaker_stops_the_kinds_that_need_it() {
    use ReasonKind::{BreakerOpen, Next};
    let mut facts = ready();
    let name = BreakerName::new("bank").unwrap();
    let record = BreakerRecord::closed(name).opened_by("ada", Some(Duration::from_secs(60)), NOW);
    facts.breakers = vec![(record.clone(), vec![TaskName::new("other.kind").unwrap()])];
    first(&facts, Next, "", "");
    facts.breakers = vec![(record.clone(), vec![kind()])];
    first(
        &facts,
        BreakerOpen,
        "the breaker bank is open until",
        "celeriac breaker close bank",
    );
    facts.task = None;
    first(
        &facts,
        BreakerOpen,
        "needed by billing.charge",
        "celeriac breaker close bank",
    );
}

#[test]
fn what_is_dropped_instead_of_started_says_so() {
    use ReasonKind::{Expired, Garbage, Revoked};
    let mut facts = ready();
    own(&mut facts).kind = None;
    first(&facts, Garbage, "buries it", "");
    own(&mut facts).expires_at = Some(ago(1));
    first(&facts, Expired, "drops it", "");
    own(&mut facts).revoked = true;
    first(&facts, Revoked, "drops it", "");
}

#[test]
fn a_task_in_flight_is_with_its_holder() {
    use ReasonKind::{BlockedThread, ChildWait, ConcurrencyFull, Prefetched, Revoked, Running};
    let mut facts = held();
    first(&facts, Prefetched, "w:1:a has fetched it", "");
    let other = TaskId::from_bytes([8; 16]);
    facts.workers[0].lanes = vec![lane(&[other, other])];
    assert_eq!(kinds(&facts), [Prefetched, ConcurrencyFull]);
    facts.workers[0].lanes[0].blocked_by = Some(running(other));
    assert_eq!(kinds(&facts), [Prefetched, ConcurrencyFull, BlockedThread]);
    let mut standby = lane(&[]);
    standby.waiting = vec![running(id())];
    facts.workers[0].lanes = vec![standby];
    first(
        &facts,
        ChildWait,
        "for a child process for 4.0s",
        "celeriac tree w:1:a",
    );
    facts.workers[0].lanes = vec![lane(&[id()])];
    first(&facts, Running, "(5.0s), attempt 2", "celeriac task revoke");
    facts.workers[0].children = vec![ChildStatus {
        pid: 77,
        task: Some(kind()),
        id: Some(id()),
        running_ms: Some(1),
        attempts: 0,
        memory: None,
    }];
    first(
        &facts,
        Running,
        "in child process 77",
        "celeriac task revoke",
    );
    facts.workers[0].lanes[0].blocked_by = Some(super::tests::running(id()));
    first(
        &facts,
        BlockedThread,
        "has not given its thread back",
        "celeriac task revoke",
    );
    facts.workers[0].lanes = vec![lane(&[other])];
    facts.workers[0].lanes[0].running_total = 70;
    first(
        &facts,
        Running,
        "running or about to run",
        "celeriac tree w:1:a",
    );
    own(&mut facts).revoked = true;
    assert_eq!(kinds(&facts), [Running, Revoked]);
}

#[test]
fn a_task_of_a_silent_worker_is_taken_back() {
    use ReasonKind::Rescue;
    let mut facts = held();
    facts.workers[0].alive = false;
    facts.workers[0].seen_at = ago(4);
    first(
        &facts,
        Rescue,
        "as soon as a worker of the queue billing runs",
        "celeriac run --queues billing",
    );
    let another = WorkerId::new("w:2:b").unwrap();
    facts.workers.push(WorkerFacts {
        worker: another,
        ..worker()
    });
    first(&facts, Rescue, "in about 8.0s", "");
    facts.workers[0].seen_at = ago(40);
    first(&facts, Rescue, "at any moment", "");
    facts.workers.remove(0);
    first(&facts, Rescue, "is gone", "");
}

#[test]
fn what_has_ended_says_how() {
    use ReasonKind::{Dead, Ended};
    let mut facts = facts(None);
    let letter = LetterFacts {
        id: BurialId {
            task: id(),
            number: 3,
        },
        reason: DeadReason::Exhausted,
        note: "declined".into(),
        at: ago(60),
        status: DeadStatus::New,
    };
    facts.task.as_mut().unwrap().letter = Some(letter);
    first(
        &facts,
        Dead,
        "exhausted: declined (letter ",
        "celeriac dead revive ",
    );
    assert_eq!(explain(&facts).state, Some(TaskState::Dead));
    let task = facts.task.as_mut().unwrap();
    task.letter.as_mut().unwrap().status = DeadStatus::Reviving;
    first(&facts, Dead, "revival is under way", "");
    facts.task.as_mut().unwrap().letter = None;
    for (state, text) in [
        (TaskState::Succeeded, "has succeeded at"),
        (TaskState::Cancelled, "was cancelled at"),
        (TaskState::Expired, "expired at"),
        (TaskState::Dead, "no dead letter of it"),
    ] {
        facts.task.as_mut().unwrap().end = Some(EndFacts {
            state,
            attempts: 1,
            error: None,
            at: Some(ago(3)),
        });
        first(&facts, Ended, text, "");
        assert_eq!(explain(&facts).state, Some(state));
    }
}

#[test]
fn an_unknown_task_says_where_it_was_looked_for() {
    use ReasonKind::Unknown;
    let mut facts = facts(None);
    facts.queue = None;
    first(
        &facts,
        Unknown,
        "searched 5 of 5 stored tasks",
        "celeriac task show",
    );
    facts.looked = (5, 9);
    first(
        &facts,
        Unknown,
        "it may be among the rest",
        "celeriac task show",
    );
    assert_eq!(explain(&facts).state, None);
}

#[test]
fn a_queue_is_explained_as_a_whole() {
    use ReasonKind::{DueLater, Empty, Next, Paused, Unknown};
    let mut facts = Facts {
        task: None,
        ..ready()
    };
    first(&facts, Next, "5 are ready", "");
    let status = facts.queue.as_mut().unwrap();
    (status.ready, status.retrying) = (0, 2);
    facts.next_due = Some(at(5));
    first(&facts, DueLater, "2 wait, the first is due in 5.0s", "");
    facts.queue.as_mut().unwrap().retrying = 0;
    facts.queue.as_mut().unwrap().active = 1;
    first(&facts, Empty, "1 are in flight", "");
    facts.queue.as_mut().unwrap().active = 0;
    facts.queue.as_mut().unwrap().paused = true;
    assert_eq!(kinds(&facts), [Paused, Empty]);
    facts.queue = None;
    first(&facts, Unknown, "nobody has heard", "");
}

#[test]
fn only_so_many_kinds_are_told() {
    let names = (0..600).map(|n| TaskName::new(format!("kind.{n:03}")).unwrap());
    let known = KnownTasks::of(names);
    assert_eq!((known.names.len(), known.total), (500, 600));
    let name = |n: &str| TaskName::new(n).unwrap();
    assert_eq!(known.knows(&name("kind.499")), Some(true));
    assert_eq!(known.knows(&name("kind.500")), None);
    let few = KnownTasks::of([kind()].into_iter());
    assert_eq!(few.knows(&name("kind.500")), Some(false));
}
