//! Rescue (PROTOCOL 3): silence ends a lease, and what was held goes to the front of its priority, fenced.

use std::time::Duration;

use super::calls::expect_fenced;
use super::consumer::labels;
use super::kit::{frame, header, outcome, rule};
use super::{Harness, Stage};
use crate::header::Header;
use crate::ports::{BrokerError, NewTask, When};

/// Within a lease and a sweep the tasks of a silent consumer are ready again: before the others of their priority, in
/// their order, one delivery more. A neighbour that renews keeps its own.
pub async fn a_silent_consumer_loses_its_tasks_to_the_front<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let tasks = [(1, 5), (2, 9), (3, 5), (4, 9), (5, 0), (6, 5)];
    let new = |(number, priority)| NewTask {
        frame: frame(number, priority),
        when: When::Now,
    };
    stage.add(tasks.map(new)).await;
    let mut victim = stage.consumer("w1").await;
    let mut neighbour = stage.consumer("w2").await;
    victim.fetch(4).await;
    neighbour.fetch(1).await;
    stage.add([new((7, 9)), new((8, 5))]).await;
    let swept = stage.outlive_lease(&[neighbour.id()]).await;
    let closed: Vec<_> = swept.closed.iter().map(|c| (c.id, c.proven_dead)).collect();
    rule(
        "PROTOCOL 3: the silent one is closed",
        closed,
        vec![(victim.id(), false)],
    );
    rule(
        "it is known by its process",
        swept.closed[0].worker.as_str(),
        "w1",
    );
    rule(
        "PROTOCOL 3: all it held is rescued",
        (swept.rescued, swept.buried),
        (4, 0),
    );
    let text = "ready [2#1 4#1 7 1#1 3#1 8 5] scheduled [] retrying [] active [6] dead []";
    stage
        .expect(
            "PROTOCOL 3: to the front of their own priority, in order",
            text,
        )
        .await;
    let delivery = neighbour.fetch(1).await.remove(0);
    let mut expected = header(2, 9);
    expected.deliveries = 1;
    let found = Header::read(&delivery.frame);
    rule(
        "PROTOCOL 3: deliveries + 1, nothing else",
        found,
        Ok(expected),
    );
    let counters = stage.counters().await;
    rule(
        "PROTOCOL 10: rescues are counted",
        (counters.rescued, counters.released),
        (4, 0),
    );
}

/// A sweep moves no more than asked for, says that there is more, and the next ones finish it; nobody can settle in
/// between, and the order survives.
pub async fn a_sweep_is_bounded_and_finished_by_the_next<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=7).await;
    let mut victim = stage.consumer("w1").await;
    victim.fetch(6).await;
    stage.sweep().await;
    let (broker, queue) = (stage.broker.clone(), stage.queue.clone());
    let mut first = broker.sweep(&queue, 2).await.expect("sweeping");
    for _ in 0..5 {
        if !first.closed.is_empty() {
            break;
        }
        stage.harness.pass(stage.harness.lease() / 4).await;
        first = broker.sweep(&queue, 2).await.expect("sweeping");
    }
    let did = (first.closed.len(), first.rescued, first.more);
    rule(
        "PROTOCOL 3: closed at once, moved in steps",
        did,
        (1, 2, true),
    );
    let stale = victim.try_exchange(vec![(1, outcome::succeed())], 1).await;
    rule(
        "PROTOCOL 3: closed before anything is moved",
        stale,
        Err(BrokerError::Gone),
    );
    let status = stage.status().await;
    rule(
        "what was not moved is still held",
        (status.ready, status.active),
        (3, 4),
    );
    let elsewhere = stage.harness.another().await;
    let second = elsewhere.sweep(&queue, 3).await.expect("sweeping");
    let did = (second.closed.len(), second.rescued, second.more);
    rule("PROTOCOL 3: another process goes on", did, (0, 3, true));
    let third = broker.sweep(&queue, 3).await.expect("sweeping");
    rule(
        "PROTOCOL 3: until it is done",
        (third.rescued, third.more),
        (1, false),
    );
    let text = "ready [1#1 2#1 3#1 4#1 5#1 6#1 7] scheduled [] retrying [] active [] dead []";
    stage
        .expect("PROTOCOL 3: the order survives the steps", text)
        .await;
    stage.counters().await;
}

/// A consumer that renews keeps a task for as long as it likes.
pub async fn renewal_keeps_a_long_task<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    for _ in 0..2 {
        let swept = stage.outlive_lease(&[consumer.id()]).await;
        rule(
            "DESIGN 1: a renewed lease is never rescued",
            swept.closed,
            vec![],
        );
    }
    let stale = consumer.settle(tag, outcome::succeed()).await;
    rule("it settles after two leases", stale, vec![]);
}

/// Each exchange renews the lease, so a busy consumer needs no other renewal.
pub async fn an_exchange_renews_too<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    stage.sweep().await;
    for _ in 0..8 {
        stage.harness.pass(stage.harness.lease() / 4).await;
        consumer.exchange(vec![], 1).await;
        let swept = stage.sweep().await;
        rule("PROTOCOL 2: a call renews the lease", swept.closed, vec![]);
    }
    rule(
        "it settles",
        consumer.settle(tag, outcome::succeed()).await,
        vec![],
    );
}

/// Whoever was rescued is gone for every method; its tasks belong to their next holder.
pub async fn the_rescued_are_fenced_everywhere<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut victim = stage.consumer("w1").await;
    let fetched = victim.call(vec![], 1);
    let served = stage.broker.exchange(fetched.clone()).await;
    rule(
        "it holds the task",
        labels(&served.expect("served").deliveries),
        "1".to_owned(),
    );
    stage.outlive_lease(&[]).await;
    let mut heir = stage.consumer("w2").await;
    let tag = heir.fetch_one().await;
    let which = "DESIGN 1: a closed incarnation is fenced";
    let repeat = stage.broker.exchange(fetched).await;
    rule(which, repeat, Err(BrokerError::Gone));
    let late = victim.try_exchange(vec![(1, outcome::bury())], 1).await;
    rule(which, late, Err(BrokerError::Gone));
    let open = stage.broker.open(&victim.incarnation).await;
    rule(which, open, Err(BrokerError::Gone));
    expect_fenced(&stage, &victim, which).await;
    let closed = stage.broker.close(&stage.queue, victim.id()).await;
    rule(which, closed, Ok(0));
    let text = "ready [] scheduled [] retrying [] active [1#1] dead []";
    stage.expect(which, text).await;
    rule(
        "the heir settles",
        heir.settle(tag, outcome::succeed()).await,
        vec![],
    );
    stage.counters().await;
}

/// Who is proven dead is closed by the next sweep, long before the end of the lease.
pub async fn proof_of_death_rescues_at_once<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut victim = stage.consumer("w1").await;
    let mut neighbour = stage.consumer("w2").await;
    victim.fetch(1).await;
    neighbour.fetch(1).await;
    stage.sweep().await;
    stage.harness.pass(Duration::from_millis(10)).await;
    if !stage.harness.declare_dead(&victim.incarnation.worker).await {
        return;
    }
    let swept = stage.sweep().await;
    let closed: Vec<_> = swept.closed.iter().map(|c| (c.id, c.proven_dead)).collect();
    let which = "PROTOCOL 3: proof of death beats waiting";
    rule(which, closed, vec![(victim.id(), true)]);
    let text = "ready [1#1] scheduled [] retrying [] active [2] dead []";
    stage.expect(which, text).await;
}
