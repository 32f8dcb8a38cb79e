//! The dead outbox (PROTOCOL 9): no gap between the queue and the store.

use std::sync::Arc;

use super::kit::{frame, outcome, rule, task};
use super::{Harness, Stage};
use crate::lease::{DeadTask, Outcome};
use crate::ports::{EnqueueCall, EnqueueKind};
use crate::state::DeadReason;

/// Reading the dead removes none; dropping is by burial, repeatable, and only of those that are named.
pub async fn the_dead_stay_until_they_are_dropped<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    for _ in 0..3 {
        let tag = consumer.fetch_one().await;
        consumer.settle(tag, outcome::bury()).await;
    }
    let elsewhere = stage.harness.another().await;
    let two = elsewhere.take_dead(2).await.expect("reading");
    let again = stage.broker.take_dead(2).await.expect("reading");
    rule("PROTOCOL 9: reading removes nothing", &two, &again);
    let frames: Vec<_> = two.iter().map(|dead| dead.frame.clone()).collect();
    rule(
        "oldest burial first",
        frames,
        vec![frame(1, 5), frame(2, 5)],
    );
    let first = &two[0];
    let said = (
        first.queue.as_str(),
        first.note.as_str(),
        first.worker.as_str(),
    );
    rule(
        "a burial tells what was said",
        said,
        ("conformance", "no use", "w1"),
    );
    rule(
        "the id is that of the task",
        first.burial.task,
        super::kit::id(1),
    );
    let dropped = stage.broker.drop_dead(&[two[1].burial]).await;
    rule("PROTOCOL 9: dropped by burial", dropped, Ok(1));
    let both = [two[1].burial, two[0].burial];
    let dropped = stage.broker.drop_dead(&both).await;
    rule("PROTOCOL 9: dropping is repeatable", dropped, Ok(1));
    let text = "ready [] scheduled [] retrying [] active [] dead [3:permanent]";
    stage.expect("what is not named stays", text).await;
    rule(
        "the status counts what is left",
        stage.status().await.dead_outbox,
        1,
    );
    rule(
        "PROTOCOL 10: what died stays counted",
        stage.counters().await.dead,
        3,
    );
}

/// The same task buried twice has two burials; its revival is counted as such.
pub async fn a_revived_task_can_die_again<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut consumer = stage.consumer("w1").await;
    let first = bury_next(&stage, &mut consumer).await;
    let revival = Arc::new(EnqueueCall {
        kind: EnqueueKind::Revival,
        ..stage.call(vec![task(1)])
    });
    for _ in 0..2 {
        let revived = stage.broker.enqueue(Arc::clone(&revival)).await;
        rule("PROTOCOL 9: revival is repeatable", revived.is_ok(), true);
    }
    let second = bury_next(&stage, &mut consumer).await;
    rule("it is one task", first.burial.task, second.burial.task);
    let distinct = first.burial != second.burial;
    rule("PROTOCOL 9: each burial has its own id", distinct, true);
    let dropped = stage.broker.drop_dead(&[first.burial]).await;
    rule("PROTOCOL 9: one burial is dropped", dropped, Ok(1));
    let left = stage.broker.take_dead(10).await.expect("reading");
    rule("PROTOCOL 9: the other stays", &left, &vec![second.clone()]);
    let revival = EnqueueCall {
        kind: EnqueueKind::Revival,
        ..stage.call(vec![task(1)])
    };
    let revived = stage.broker.enqueue(Arc::new(revival)).await;
    rule("it is accepted", revived.is_ok(), true);
    let third = bury_next(&stage, &mut consumer).await.burial;
    let reused = [first.burial, second.burial].contains(&third);
    rule("PROTOCOL 9: no burial id is used again", reused, false);
    let counters = stage.counters().await;
    let counted = (counters.enqueued, counters.revived, counters.dead);
    rule(
        "PROTOCOL 10: enqueued once, revived twice, died thrice",
        counted,
        (1, 2, 3),
    );
}

/// Two tasks of the same bytes that die in one call die apart: each has its burial, and goes by it.
pub async fn two_of_the_same_bytes_die_apart<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add([task(1), task(1)]).await;
    let mut consumer = stage.consumer("w1").await;
    let held = consumer.fetch(2).await;
    let bury = held.iter().map(|held| (held.tag, outcome::bury()));
    let bury: Vec<_> = bury.collect();
    consumer.exchange(bury, 0).await;
    let dead = stage.broker.take_dead(10).await.expect("reading");
    let which = "PROTOCOL 9: each burial has its own id";
    rule(which, dead.len(), 2);
    rule(which, dead[0].burial != dead[1].burial, true);
    let dropped = stage.broker.drop_dead(&[dead[0].burial]).await;
    rule("PROTOCOL 9: one burial is dropped", dropped, Ok(1));
    let left = stage.broker.take_dead(10).await;
    rule("PROTOCOL 9: the other stays", left, Ok(dead[1..].to_vec()));
    stage.counters().await;
}

/// Buries the next task with a frame of its own; returns the newest burial.
async fn bury_next<H: Harness>(stage: &Stage<H>, consumer: &mut super::Consumer) -> DeadTask {
    let tag = consumer.fetch_one().await;
    let mut evidence = frame(1, 5);
    evidence.extend_from_slice(b"evidence");
    let bury = Outcome::Bury {
        frame: Some(evidence.clone()),
        reason: DeadReason::Exhausted,
        note: String::new(),
        result: None,
    };
    consumer.settle(tag, bury).await;
    let dead = stage.broker.take_dead(10).await.expect("reading");
    let newest = dead.last().expect("it was buried").clone();
    rule("the frame with its last failure", &newest.frame, &evidence);
    newest
}
