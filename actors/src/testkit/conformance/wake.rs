//! Wake-up (PROTOCOL 5): one token per queue, passed on while something is left, never for a paused queue.

use std::time::Duration;

use super::kit::{frame, outcome, rule};
use super::{Harness, Stage};
use crate::ports::{Broker, NewTask, Wake, When};

fn later(number: u128, delay: Duration) -> NewTask {
    NewTask {
        frame: frame(number, 5),
        when: When::After(delay),
    }
}

/// Somebody who waits hears of a task added by another process, and of one added before the wait began.
pub async fn enqueueing_wakes_one_who_waits<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.heard().await;
    let ready = Wake::Ready(stage.queue.clone());
    // That it is to read revocations may be told at any time.
    let heard = stage.heard().await.contains(&ready);
    rule("nothing is ready", heard, false);
    let call = std::sync::Arc::new(stage.call(vec![super::task(1)]));
    let elsewhere = stage.harness.another().await;
    let listen = stage.expect_wake("PROTOCOL 5: enqueueing wakes who waits", ready.clone());
    let speak = async {
        actix_rt::task::yield_now().await;
        elsewhere.enqueue(call).await
    };
    let (_, added) = futures_util::future::join(listen, speak).await;
    rule("it was added", added.is_ok(), true);
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(10).await;
    stage.heard().await;
    stage.add_numbers([2]).await;
    stage
        .expect_wake("PROTOCOL 5: the token waits for who comes", ready)
        .await;
}

/// One token wakes one process; a fetch that leaves tasks behind wakes the next; one that leaves none, nobody.
pub async fn a_token_is_passed_on_while_something_is_left<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut consumer = stage.consumer("w1").await;
    let ready = Wake::Ready(stage.queue.clone());
    stage.add_numbers(1..=3).await;
    stage
        .expect_wake("PROTOCOL 5: a burst rings", ready.clone())
        .await;
    for left in [2, 1] {
        consumer.fetch(1).await;
        let which = format!("PROTOCOL 5: a fetch that leaves {left} rings again");
        stage.expect_wake(&which, ready.clone()).await;
    }
    consumer.fetch(1).await;
    let heard = stage.heard().await.contains(&ready);
    rule(
        "PROTOCOL 5: a fetch that leaves none does not ring",
        heard,
        false,
    );
}

/// A paused queue rings for nothing; its resumption rings for what came meanwhile.
pub async fn a_paused_queue_never_rings<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut consumer = stage.consumer("w1").await;
    let ready = Wake::Ready(stage.queue.clone());
    stage.add_numbers(1..=2).await;
    let tag = consumer.fetch_one().await;
    stage
        .broker
        .pause(&stage.queue, true)
        .await
        .expect("pausing");
    stage.heard().await;
    stage.add_numbers([3]).await;
    consumer
        .exchange(vec![(tag, crate::lease::Outcome::release())], 1)
        .await;
    let heard = stage.heard().await.contains(&ready);
    rule("PROTOCOL 5: a paused queue never rings", heard, false);
    stage
        .broker
        .pause(&stage.queue, false)
        .await
        .expect("resuming");
    stage.expect_wake("PROTOCOL 5: resuming rings", ready).await;
}

/// Whoever promotes hears of a task that is due before all others, however it came.
pub async fn an_earlier_due_time_rings<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    let due = Wake::Due(stage.queue.clone());
    stage.add([later(1, lease * 100)]).await;
    stage
        .expect_wake("PROTOCOL 5: the first due time rings", due.clone())
        .await;
    stage.add([later(2, lease * 50)]).await;
    stage
        .expect_wake("PROTOCOL 5: an earlier due time rings", due.clone())
        .await;
    stage.add_numbers([3]).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    stage.heard().await;
    consumer.settle(tag, outcome::retry(3, lease * 10)).await;
    stage
        .expect_wake("PROTOCOL 5: an earlier retry rings", due)
        .await;
}

/// What is promoted, released, retried at once or rescued rings as what is new does.
pub async fn what_comes_back_rings<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut consumer = stage.consumer("w1").await;
    let ready = Wake::Ready(stage.queue.clone());
    let lease = stage.harness.lease();
    stage.add([later(1, lease / 10)]).await;
    stage.harness.pass(lease / 5).await;
    stage.heard().await;
    let promoted = stage.broker.promote_due(&stage.queue, 10).await;
    rule("it was due", promoted.expect("promoting").moved, 1);
    stage
        .expect_wake("PROTOCOL 5: promotion rings", ready.clone())
        .await;
    let tag = consumer.fetch_one().await;
    stage.heard().await;
    let released = stage
        .broker
        .release(&stage.queue, consumer.id(), &[tag])
        .await;
    rule("it was held", released, Ok(1));
    stage
        .expect_wake("PROTOCOL 5: release rings", ready.clone())
        .await;
    let tag = consumer.fetch_one().await;
    stage.heard().await;
    let retry = outcome::retry(1, Duration::ZERO);
    let taken = stage.broker.take(&consumer.place(tag), retry).await;
    rule("it was held", taken, Ok(true));
    stage
        .expect_wake("PROTOCOL 5: a retry at once rings", ready.clone())
        .await;
    consumer.fetch_one().await;
    stage.heard().await;
    stage.outlive_lease(&[]).await;
    stage.expect_wake("PROTOCOL 5: rescue rings", ready).await;
}

/// Whoever copies the dead hears of a burial.
pub async fn a_burial_rings<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let mut consumer = stage.consumer("w1").await;
    stage.add_numbers([1]).await;
    let tag = consumer.fetch_one().await;
    stage.heard().await;
    consumer.settle(tag, outcome::bury()).await;
    stage
        .expect_wake("PROTOCOL 9: a burial rings", Wake::Dead)
        .await;
}

/// A revocation reaches every process that waits on the queue.
pub async fn a_revocation_rings_for_all_who_wait<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    if !stage.broker.capabilities().signal {
        return;
    }
    stage.add_numbers([1]).await;
    let elsewhere = stage.harness.another().await;
    stage.heard().await;
    let queues = [stage.queue.clone()];
    let listen = |broker: std::sync::Arc<dyn Broker>| {
        let queues = queues.clone();
        async move {
            for _ in 0..15 {
                let heard = broker.wait(&queues, Duration::from_secs(2)).await;
                if heard
                    .expect("waiting")
                    .contains(&Wake::Revoked(queues[0].clone()))
                {
                    return true;
                }
            }
            false
        }
    };
    let speak = async {
        actix_rt::time::sleep(stage.harness.silence()).await;
        actix_rt::task::yield_now().await;
        let now = stage.broker.promote_due(&stage.queue, 0).await;
        let forget_at = now.expect("promoting").now.plus(Duration::from_secs(60));
        let tasks = [crate::revocation::Revocation::id(super::kit::id(1))];
        stage.broker.revoke(&stage.queue, &tasks, forget_at).await
    };
    let (here, there) = (listen(stage.broker.clone()), listen(elsewhere));
    let heard = futures_util::future::join3(here, there, speak).await;
    let which = "PROTOCOL 12: idle consumers are woken, in every process";
    rule(
        which,
        (heard.0, heard.1, heard.2.is_ok()),
        (true, true, true),
    );
}
