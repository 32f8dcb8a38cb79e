//! What can be seen and steered from outside (PROTOCOL 7, 8): pause, scans, workers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kit::{frame, id, outcome, rule};
use super::{Harness, Stage};
use crate::ids::WorkerId;
use crate::ports::{
    BrokerError, Cursor, NewTask, ScanRequest, StoredTask, When, WorkerRecord, id_of,
};
use crate::state::TaskState;
use crate::time::Timestamp;

/// A paused queue hands out nothing, and goes on enqueueing, settling, promoting and rescuing.
pub async fn a_paused_queue_settles_but_hands_out_nothing<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let mut victim = stage.consumer("w2").await;
    let tag = consumer.fetch_one().await;
    victim.fetch(1).await;
    for _ in 0..2 {
        stage
            .broker
            .pause(&stage.queue, true)
            .await
            .expect("pausing is repeatable");
    }
    rule("the status says so", stage.status().await.paused, true);
    let lease = stage.harness.lease();
    let soon = NewTask {
        frame: frame(4, 5),
        when: When::After(lease / 10),
    };
    stage.add([soon, super::task(5)]).await;
    let settled = consumer.exchange(vec![(tag, outcome::succeed())], 10).await;
    rule("a paused queue settles", settled.stale, vec![]);
    let handed_out = (settled.deliveries, settled.more);
    rule(
        "a paused queue hands out nothing",
        handed_out,
        (vec![], false),
    );
    stage.outlive_lease(&[consumer.id()]).await;
    stage
        .broker
        .promote_due(&stage.queue, 10)
        .await
        .expect("promoting");
    let text = "ready [2#1 3 5 4] scheduled [] retrying [] active [] dead []";
    stage
        .expect("a paused queue promotes and rescues", text)
        .await;
    stage
        .broker
        .pause(&stage.queue, false)
        .await
        .expect("resuming");
    let next = consumer.fetch(10).await;
    rule("resumed, it hands out again", next.len(), 4);
}

/// Pages of two visit every task of a state once, and tell who holds it or when it is due; so a task is found by its id.
pub async fn a_scan_pages_through_every_state<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    let waiting = (11..=15_u32).map(|number| NewTask {
        frame: frame(number.into(), 5),
        when: When::After(lease * number),
    });
    stage.add_numbers(1..=10).await;
    stage.add(waiting).await;
    let mut consumer = stage.consumer("w1").await;
    let held = consumer.fetch(5).await;
    let retry = |(number, tag)| (tag, outcome::retry(number, lease * 100));
    let tags = held.iter().take(2).map(|delivery| delivery.tag);
    consumer
        .exchange((1..).zip(tags).map(retry).collect(), 0)
        .await;
    let expected: [(TaskState, Vec<u128>); 4] = [
        (TaskState::Ready, (6..=10).collect()),
        (TaskState::Scheduled, (11..=15).collect()),
        (TaskState::Retrying, vec![1, 2]),
        (TaskState::Active, vec![3, 4, 5]),
    ];
    for (state, numbers) in expected {
        let tasks = pages(&stage, state).await;
        let ids: Vec<_> = tasks.iter().filter_map(|task| id_of(&task.frame)).collect();
        let numbers: Vec<_> = numbers.into_iter().map(id).collect();
        rule(
            &format!("PROTOCOL 8: each {state} task once, in order"),
            ids,
            numbers,
        );
        let waits = matches!(state, TaskState::Scheduled | TaskState::Retrying);
        let holder = (consumer.incarnation.worker.clone(), consumer.id());
        let holder = (state == TaskState::Active).then_some(holder);
        for task in tasks {
            let which = format!("PROTOCOL 8: what is known of a {state} task");
            let known = (task.state, task.due.is_some(), task.holder);
            rule(&which, known, (state, waits, holder.clone()));
        }
    }
    let status = stage.status().await;
    let numbers = (
        status.ready,
        status.scheduled,
        status.retrying,
        status.active,
    );
    rule("the status counts the same", numbers, (5, 5, 2, 3));
}

async fn pages<H: Harness>(stage: &Stage<H>, state: TaskState) -> Vec<StoredTask> {
    let mut tasks = Vec::new();
    let mut after = None;
    for _ in 0..10 {
        let request = ScanRequest {
            queue: stage.queue.clone(),
            state,
            after,
            limit: 2,
        };
        let page = stage.broker.scan(&request).await.expect("scanning");
        rule(
            "a page is no longer than asked for",
            page.tasks.len() <= 2,
            true,
        );
        tasks.extend(page.tasks);
        after = page.next;
        if after.is_none() {
            return tasks;
        }
    }
    panic!("PROTOCOL 8: a scan of {state} comes to an end");
}

/// Final states are not stored, and a cursor belongs to its scan.
pub async fn a_scan_refuses_what_it_cannot_read<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let request = |state, after| ScanRequest {
        queue: stage.queue.clone(),
        state,
        after,
        limit: 2,
    };
    for state in TaskState::ALL.into_iter().filter(|state| state.is_final()) {
        let answer = stage.broker.scan(&request(state, None)).await;
        let invalid = matches!(answer, Err(BrokerError::Invalid(_)));
        rule(&format!("{state} tasks cannot be scanned"), invalid, true);
    }
    let page = stage.broker.scan(&request(TaskState::Ready, None)).await;
    let cursor = page.expect("scanning").next;
    rule("there is more than a page", cursor.is_some(), true);
    let garbage = Some(Cursor("no place".into()));
    for (state, after) in [(TaskState::Scheduled, cursor), (TaskState::Ready, garbage)] {
        let answer = stage.broker.scan(&request(state, after)).await;
        let invalid = matches!(answer, Err(BrokerError::Invalid(_)));
        rule("a cursor of another scan is refused", invalid, true);
    }
}

/// A worker is alive for three beats after each, silent but listed afterwards, and gone after its farewell.
pub async fn workers_beat_and_say_farewell<H: Harness>() {
    let stage = Stage::<H>::fresh().await;
    let beat = stage.harness.lease() / 4;
    let record = |name: &str| WorkerRecord {
        worker: WorkerId::new(name).expect("it is a name"),
        host: "host".into(),
        pid: 4_711,
        version: "1.2.3".into(),
        queues: vec![stage.queue.clone()],
        concurrency: 8,
        started_at: Timestamp::from_millis(1),
        quiet: false,
        detail: "{}".into(),
        beat,
        seen_at: Timestamp::EPOCH,
        alive: false,
    };
    let (first, second) = (record("w1"), record("w2"));
    stage.broker.beat(&first).await.expect("beating");
    stage.broker.beat(&second).await.expect("beating");
    let mut seen = BTreeSet::new();
    for found in stage.broker.workers().await.expect("reading") {
        let (seen_at, alive) = (found.seen_at, found.alive);
        rule(
            "it is alive, by the broker's clock",
            (alive, seen_at > Timestamp::EPOCH),
            (true, true),
        );
        let expected = WorkerRecord {
            seen_at,
            alive,
            ..record(found.worker.as_str())
        };
        rule("the record is as written", &found, &expected);
        seen.insert(found.worker.as_str().to_owned());
    }
    rule("both are listed", seen.len(), 2);
    for _ in 0..4 {
        stage.harness.pass(beat + Duration::from_millis(1)).await;
        stage.broker.beat(&first).await.expect("beating");
    }
    let workers = stage.broker.workers().await.expect("reading");
    let mut alive: Vec<_> = workers
        .iter()
        .map(|w| (w.worker.as_str(), w.alive))
        .collect();
    alive.sort_unstable();
    let which = "a worker is alive for three beats, and listed when silent";
    rule(which, alive, vec![("w1", true), ("w2", false)]);
    for _ in 0..2 {
        let gone = stage.broker.farewell(&second.worker).await;
        rule("farewell is repeatable", gone, Ok(()));
    }
    let left = stage.broker.workers().await.expect("reading").len();
    rule("farewell removes the record", left, 1);
}
