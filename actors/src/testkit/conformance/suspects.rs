//! Suspects, not victims (PROTOCOL 3): start marks, strikes, the hard cap, and bytes that are no frame.

use super::consumer::labels;
use super::kit::{header, id, outcome, rule};
use super::{Harness, Stage};
use crate::header::Header;
use crate::lease::Outcome;
use crate::ports::{MAX_DELIVERIES, NewTask, When};
use crate::state::{DeadReason, TaskState};

/// Returns task `number` as it looks after `deliveries` rescues and `strikes` strikes.
fn rescued(number: u128, deliveries: u8, strikes: u8) -> NewTask {
    let mut frame = Vec::new();
    let header = Header {
        deliveries,
        strikes,
        ..header(number, 5)
    };
    header.write(&mut frame);
    let when = When::Now;
    NewTask { frame, when }
}

/// A task found started by two rescues is buried as poison; the mark of one delivery does not count for the next.
pub async fn two_strikes_are_poison<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add([rescued(1, 2, 0)]).await;
    let mut strikes = Vec::new();
    for (worker, starts) in [("w1", true), ("w2", false), ("w3", true)] {
        let mut consumer = stage.consumer(worker).await;
        let delivery = consumer.fetch(1).await.remove(0);
        let header = Header::read(&delivery.frame).expect("a frame");
        strikes.push((header.deliveries, header.strikes));
        rule(
            "PROTOCOL 3: two rescues make a suspect",
            header.is_suspect(),
            true,
        );
        if starts {
            let place = consumer.place(delivery.tag);
            for _ in 0..2 {
                let marked = stage.broker.mark_started(&place).await;
                rule("the start mark is repeatable", marked, Ok(true));
            }
        }
        stage.outlive_lease(&[]).await;
    }
    let which = "PROTOCOL 3: only a rescue that finds the start mark adds a strike";
    rule(which, strikes, vec![(2, 0), (3, 1), (4, 1)]);
    let text = "ready [] scheduled [] retrying [] active [] dead [1#5:poison]";
    stage
        .expect("PROTOCOL 3: two strikes are poison", text)
        .await;
    let dead = stage.broker.take_dead(1).await.expect("reading").remove(0);
    rule("it names who held it last", dead.worker.as_str(), "w3");
    let counters = stage.counters().await;
    let counted = (counters.dead, counters.rescued);
    rule("PROTOCOL 10: buried, not made ready", counted, (1, 2));
}

/// Whoever waits for a task learns that a rescue buried it.
pub async fn whoever_waits_learns_of_a_burial_by_rescue<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut frame = Vec::new();
    let header = Header {
        deliveries: MAX_DELIVERIES - 1,
        want_outcome: true,
        ..header(1, 5)
    };
    header.write(&mut frame);
    let when = When::Now;
    stage.add([NewTask { frame, when }]).await;
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(1).await;
    stage.outlive_lease(&[]).await;
    let kept = stage.broker.result(&stage.queue, id(1)).await;
    let kept = kept.expect("reading").map(|record| record.state);
    rule(
        "PROTOCOL 6: the final state is kept where somebody waits",
        kept,
        Some(TaskState::Dead),
    );
}

/// Prefetched neighbours of a suspect never collect strikes, however often their consumer dies.
pub async fn neighbours_without_a_start_mark_never_strike<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage
        .add([rescued(1, 2, 1), rescued(2, 2, 1), rescued(3, 0, 0)])
        .await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch(3).await[0].tag;
    let marked = stage.broker.mark_started(&consumer.place(tag)).await;
    rule("it is held", marked, Ok(true));
    let unheld = stage.broker.mark_started(&consumer.place(99)).await;
    rule("what is not held cannot be marked", unheld, Ok(false));
    stage.outlive_lease(&[]).await;
    let text = "ready [2#3 3#1] scheduled [] retrying [] active [] dead [1#3:poison]";
    stage
        .expect("PROTOCOL 3: neighbours are no suspects", text)
        .await;
    let mut next = stage.consumer("w2").await;
    let strikes = next.fetch(2).await;
    let strikes = strikes
        .iter()
        .map(|d| Header::read(&d.frame).map(|h| h.strikes));
    let strikes: Vec<_> = strikes.collect();
    rule(
        "PROTOCOL 3: neighbours never strike",
        strikes,
        vec![Ok(1), Ok(0)],
    );
}

/// The twentieth rescue buries, whatever else is known.
pub async fn twenty_deliveries_are_the_limit<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let last = MAX_DELIVERIES - 1;
    stage
        .add([rescued(1, last, 0), rescued(2, last - 1, 0)])
        .await;
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(2).await;
    let swept = stage.outlive_lease(&[]).await;
    rule("one is buried", (swept.rescued, swept.buried), (1, 1));
    let text = "ready [2#19] scheduled [] retrying [] active [] dead [1#20:delivery_limit]";
    stage
        .expect("PROTOCOL 3: 20 redeliveries are the limit", text)
        .await;
}

/// A rescue that finds bytes without a header buries them as they are; their neighbours are rescued.
pub async fn garbage_in_flight_is_buried_raw<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(3).await;
    let garbage = b"\x00{ no frame";
    if !stage.harness.corrupt(&stage.queue, id(2), garbage).await {
        return;
    }
    let swept = stage.outlive_lease(&[]).await;
    rule("one is buried", (swept.rescued, swept.buried), (2, 1));
    let text = "ready [1#1 3#1] scheduled [] retrying [] active [] dead [garbage:undecodable]";
    stage
        .expect("PROTOCOL 3: no frame goes raw to the dead", text)
        .await;
    let dead = stage.broker.take_dead(1).await.expect("reading").remove(0);
    rule("DESIGN 1: with its raw bytes", dead.frame, garbage.to_vec());
    stage.counters().await;
}

/// Garbage that is ready is handed out like anything else, so that its consumer can bury it raw; the queue moves on.
pub async fn garbage_that_is_ready_reaches_the_dead_through_its_consumer<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let garbage = b"{\"json\": true}";
    if !stage.harness.corrupt(&stage.queue, id(2), garbage).await {
        return;
    }
    let mut consumer = stage.consumer("w1").await;
    let deliveries = consumer.fetch(3).await;
    if deliveries.len() == 3 {
        rule(
            "in its place",
            labels(&deliveries),
            "1 garbage 3".to_owned(),
        );
        rule("as it is", deliveries[1].frame.clone(), garbage.to_vec());
        let bury = Outcome::Bury {
            frame: None,
            reason: DeadReason::Undecodable,
            note: "no frame".into(),
            result: None,
        };
        consumer.settle(deliveries[1].tag, bury).await;
    }
    let tags = deliveries
        .iter()
        .filter(|d| d.frame != garbage)
        .map(|d| d.tag);
    let settlements = tags.map(|tag| (tag, outcome::succeed())).collect();
    consumer.exchange(settlements, 0).await;
    let text = "ready [] scheduled [] retrying [] active [] dead [garbage:undecodable]";
    stage
        .expect("DESIGN 1: bad input is data, the queue moves on", text)
        .await;
    let dead = stage.broker.take_dead(1).await.expect("reading").remove(0);
    rule("DESIGN 1: with its raw bytes", dead.frame, garbage.to_vec());
    let counters = stage.counters().await;
    rule(
        "PROTOCOL 10: counted",
        (counters.succeeded, counters.dead),
        (2, 1),
    );
}
