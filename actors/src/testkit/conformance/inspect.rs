//! What can be seen and steered from outside (PROTOCOL 7, 8): pause, scans, workers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::kit::{frame, header, id, outcome, rule};
use super::{Harness, Stage};
use crate::header::Header;
use crate::ids::{QueueName, WorkerId};
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

/// A purge ends what is ready, scheduled or retrying, first ones first and no more than asked for; each counts as
/// cancelled, and what is in flight stays.
pub async fn a_purge_ends_what_waits_step_by_step<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let tags: Vec<u64> = consumer.fetch(3).await.iter().map(|it| it.tag).collect();
    let retries = (1..=2_u32).zip(&tags);
    let retries =
        retries.map(|(number, tag)| (*tag, outcome::retry(number.into(), lease * 100 * number)));
    consumer.exchange(retries.collect(), 0).await;
    let urgent = NewTask {
        frame: frame(40, 9),
        when: When::Now,
    };
    let later = (21..=23_u32).map(|number| NewTask {
        frame: frame(number.into(), 5),
        when: When::After(lease * 10 * number),
    });
    stage.add_numbers(4..=39).await;
    stage.add(later.chain([urgent])).await;
    let purge = |state, limit| {
        let (broker, queue) = (stage.broker.clone(), stage.queue.clone());
        async move { broker.purge(&queue, state, limit).await }
    };
    rule("none is none", purge(TaskState::Ready, 0).await, Ok(0));
    rule("the first", purge(TaskState::Ready, 35).await, Ok(35));
    rule("the first", purge(TaskState::Scheduled, 2).await, Ok(2));
    rule("the first", purge(TaskState::Retrying, 1).await, Ok(1));
    let text = "ready [38 39] scheduled [23] retrying [2] active [3] dead []";
    stage.expect("a purge takes the first ones", text).await;
    rule("purged is cancelled", stage.counters().await.cancelled, 38);
    rule("all of them", purge(TaskState::Retrying, 9).await, Ok(1));
    rule("the rest stays", purge(TaskState::Retrying, 9).await, Ok(0));
    let text = "ready [38 39] scheduled [23] retrying [] active [3] dead []";
    stage.expect("a kind at a time", text).await;
    for state in [TaskState::Active, TaskState::Dead, TaskState::Succeeded] {
        let refused = purge(state, 1).await;
        let refused = matches!(refused, Err(BrokerError::Invalid(_)));
        rule("what does not wait cannot be purged", refused, true);
    }
    let settled = consumer.exchange(vec![(tags[2], outcome::succeed())], 10);
    let settled = settled.await;
    rule("what is in flight ends as ever", settled.stale, vec![]);
    rule("what is left is fetched", settled.deliveries.len(), 2);
    rule("it adds up", stage.counters().await.cancelled, 39);
    let unknown = QueueName::new("never-heard-of").expect("a name");
    let none = stage.broker.purge(&unknown, TaskState::Ready, 1).await;
    rule("a queue that nobody knows holds nothing", none, Ok(0));
}

/// Whoever waits for a task that is purged learns that it was cancelled; nothing is kept of the others.
pub async fn whoever_waits_for_a_purged_task_learns_of_it<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    let wanted = |number: u128| {
        let mut bytes = Vec::new();
        Header {
            want_outcome: true,
            ..header(number, 5)
        }
        .write(&mut bytes);
        bytes
    };
    let scheduled = When::After(lease * 100);
    stage
        .add(
            [(1, When::Now), (2, scheduled)].map(|(number, when)| NewTask {
                frame: wanted(number),
                when,
            }),
        )
        .await;
    stage.add_numbers([3]).await;
    for state in [TaskState::Ready, TaskState::Scheduled] {
        let purged = stage.broker.purge(&stage.queue, state, 10).await;
        purged.expect("purging");
    }
    let elsewhere = stage.harness.another().await;
    let limit = Duration::from_secs(60);
    for number in [1, 2] {
        let its = [id(number)];
        let heard = elsewhere.wait_results(&stage.queue, &its, limit).await;
        let heard = heard.expect("waiting");
        let ends: Vec<_> = heard.iter().map(|it| (it.id, it.state)).collect();
        let expected = vec![(id(number), TaskState::Cancelled)];
        rule("who waits learns of it", ends, expected);
    }
    let none = stage.broker.result(&stage.queue, id(3)).await;
    rule("nobody waits for this one", none, Ok(None));
    rule("it adds up", stage.counters().await.cancelled, 3);
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
