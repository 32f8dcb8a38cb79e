//! Who gets what, and in which order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;

use super::consumer::labels;
use super::kit::{frame, outcome, rule, task};
use super::{Consumer, Harness, Stage};
use crate::ports::{Broker, NewTask, When, id_of};

const TASKS: u128 = 400;

/// Eight threads drain one queue through two handles: every task is held once, none is left, none is made up.
pub async fn many_consumers_never_hold_a_task_twice<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=TASKS).await;
    let handles: [Arc<dyn Broker>; 2] = [stage.harness.broker(), stage.harness.another().await];
    let (sender, seen) = mpsc::channel();
    let mut threads = Vec::new();
    for n in 0..8 {
        let mut consumer = stage.consumer(&format!("w{n}")).await;
        consumer.broker = Arc::clone(&handles[n % 2]);
        let sender = sender.clone();
        let drain = async move { drain(consumer, &sender).await };
        threads.push(std::thread::spawn(move || super::run(drain)));
    }
    drop(sender);
    let joined = actix_rt::task::spawn_blocking(move || {
        threads.into_iter().all(|thread| thread.join().is_ok())
    });
    rule("the consumers end well", joined.await.ok(), Some(true));
    let mut held = BTreeMap::<_, u32>::new();
    for id in seen {
        *held.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = held.iter().filter(|(_, times)| **times != 1).collect();
    rule("DESIGN 1: no task is held twice", twice, vec![]);
    rule("DESIGN 1: no task is lost", held.len() as u128, TASKS);
    let counters = stage.counters().await;
    rule(
        "PROTOCOL 10: each is counted once",
        counters.succeeded as u128,
        TASKS,
    );
}

async fn drain(mut consumer: Consumer, seen: &mpsc::Sender<Option<crate::ids::TaskId>>) {
    let mut done = Vec::new();
    loop {
        let exchanged = consumer.exchange(std::mem::take(&mut done), 7).await;
        rule(
            "PROTOCOL 2: what is held is not stale",
            exchanged.stale,
            vec![],
        );
        if exchanged.deliveries.is_empty() {
            return;
        }
        for delivery in exchanged.deliveries {
            seen.send(id_of(&delivery.frame)).expect("the case listens");
            done.push((delivery.tag, outcome::succeed()));
        }
        actix_rt::task::yield_now().await;
    }
}

/// Priorities go from 9 to 0; within one, tasks go in the order of their enqueueing.
pub async fn nine_comes_before_zero_and_the_first_first<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let levels = [(1, 0), (2, 5), (3, 9), (4, 5), (5, 9), (6, 0), (7, 1)];
    let tasks = levels.map(|(number, priority)| NewTask {
        frame: frame(number, priority),
        when: When::Now,
    });
    stage.add(tasks).await;
    stage.add([task(8)]).await;
    let ordered = "ready [3 5 2 4 8 7 1 6] scheduled [] retrying [] active [] dead []";
    stage
        .expect("priority 9 first, then first in, first out", ordered)
        .await;
    let mut consumer = stage.consumer("w1").await;
    let first = consumer.fetch(3).await;
    rule(
        "fetching follows the order",
        labels(&first),
        "3 5 2".to_owned(),
    );
    let rest = consumer.fetch(100).await;
    rule(
        "fetching follows the order",
        labels(&rest),
        "4 8 7 1 6".to_owned(),
    );
}

/// A fetch takes at most what is wanted, tags ascend from the call's first, and `more` tells whether something is left.
pub async fn a_fetch_takes_what_is_wanted_and_says_what_is_left<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut consumer = stage.consumer("w1").await;
    let empty = consumer.exchange(vec![], 10).await;
    rule(
        "nothing is ready",
        (empty.deliveries, empty.more),
        (vec![], false),
    );
    stage.add_numbers(1..=5).await;
    let none = consumer.exchange(vec![], 0).await;
    rule("want 0 fetches nothing", none.deliveries, vec![]);
    let call = consumer.call(vec![], 3);
    let first_tag = call.first_tag;
    let some = consumer
        .broker
        .exchange(call)
        .await
        .expect("it may exchange");
    let tags: Vec<u64> = some.deliveries.iter().map(|d| d.tag).collect();
    rule(
        "tags ascend from the call's first",
        tags,
        vec![first_tag, first_tag + 1, first_tag + 2],
    );
    rule("something is left behind", some.more, true);
    let rest = consumer.exchange(vec![], 3).await;
    rule(
        "the rest comes next",
        labels(&rest.deliveries),
        "4 5".to_owned(),
    );
    rule("nothing is left behind", rest.more, false);
    let bytes = rest.deliveries[0].frame.clone();
    rule("a delivery carries the stored bytes", bytes, frame(4, 5));
}

/// What one process adds, another one fetches, settles and counts.
pub async fn two_handles_see_one_queue<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut consumer = stage.consumer("w1").await;
    consumer.broker = stage.harness.another().await;
    let tag = consumer.fetch_one().await;
    let half = "ready [2] scheduled [] retrying [] active [1] dead []";
    stage.expect("one data behind two handles", half).await;
    consumer.settle(tag, outcome::succeed()).await;
    rule("counted for all", stage.counters().await.succeeded, 1);
}
