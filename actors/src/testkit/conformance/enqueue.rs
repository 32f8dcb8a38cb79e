//! Adding tasks (PROTOCOL 4): idempotent per call, whole or not at all; and the waiting of those that are not due.

use std::sync::Arc;
use std::time::Duration;

use super::consumer::labels;
use super::kit::{frame, rule, task};
use super::{Harness, Stage};
use crate::lease::MAX_BATCH;
use crate::ports::{BrokerError, EnqueueCall, EnqueueKind, NewTask, When};

fn is_invalid<T>(answer: Result<T, BrokerError>) -> bool {
    matches!(answer, Err(BrokerError::Invalid(_)))
}

/// The same call again, through whichever handle, adds nothing and gets the same reply.
pub async fn a_repeated_call_adds_nothing<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let call = Arc::new(stage.call(vec![task(1), task(2)]));
    let first = stage.broker.enqueue(Arc::clone(&call)).await;
    rule("it is accepted", first.is_ok(), true);
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(1).await;
    stage.harness.pass(Duration::from_millis(20)).await;
    let elsewhere = stage.harness.another().await;
    for broker in [&stage.broker, &elsewhere] {
        let again = broker.enqueue(Arc::clone(&call)).await;
        rule("PROTOCOL 4: same number, same reply", &again, &first);
    }
    let text = "ready [2] scheduled [] retrying [] active [1] dead []";
    stage
        .expect("PROTOCOL 4: same number, nothing added", text)
        .await;
    rule(
        "PROTOCOL 10: counted once",
        stage.counters().await.enqueued,
        2,
    );
}

/// Numbers of a channel grow by one; a new channel starts anywhere, and channels do not see each other.
pub async fn a_number_that_does_not_follow_is_invalid<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let numbered = |number: u64, call: EnqueueCall| Arc::new(EnqueueCall { number, ..call });
    let first = numbered(41, stage.call(vec![task(1)]));
    let added = stage.broker.enqueue(first).await;
    rule(
        "PROTOCOL 4: an unknown channel starts anywhere",
        added.is_ok(),
        true,
    );
    for number in [40, 43, 1, 0] {
        let call = numbered(number, stage.call(vec![task(2)]));
        let which = format!("PROTOCOL 4: {number} does not follow 41");
        rule(&which, is_invalid(stage.broker.enqueue(call).await), true);
    }
    let next = numbered(42, stage.call(vec![task(3)]));
    rule(
        "PROTOCOL 4: 42 follows 41",
        stage.broker.enqueue(next).await.is_ok(),
        true,
    );
    let other = EnqueueCall {
        channel: crate::ids::ChannelId::random(),
        ..stage.call(vec![task(4)])
    };
    let added = stage.broker.enqueue(numbered(7, other)).await;
    rule("channels do not see each other", added.is_ok(), true);
    let text = "ready [1 3 4] scheduled [] retrying [] active [] dead []";
    stage.expect("what is invalid adds nothing", text).await;
}

/// One frame without a header refuses its whole call; the number stays free.
pub async fn a_call_is_added_whole_or_not_at_all<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let garbage = NewTask {
        frame: b"{\"not\": \"a frame\"}".to_vec(),
        when: When::Now,
    };
    let bad = stage.call(vec![task(2), garbage, task(3)]);
    let number = bad.number;
    let refused = stage.broker.enqueue(Arc::new(bad)).await;
    rule(
        "PROTOCOL 4: a frame has a header",
        is_invalid(refused),
        true,
    );
    stage
        .expect(
            "all or none",
            "ready [1] scheduled [] retrying [] active [] dead []",
        )
        .await;
    let good = EnqueueCall {
        number,
        ..stage.call(vec![task(4)])
    };
    let added = stage.broker.enqueue(Arc::new(good)).await;
    rule("an invalid call uses no number", added.is_ok(), true);
    rule(
        "PROTOCOL 10: two were added",
        stage.counters().await.enqueued,
        2,
    );
}

/// 500 tasks are a batch, 501 are invalid.
pub async fn a_batch_has_at_most_five_hundred_tasks<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let most = u128::from(MAX_BATCH);
    let over = EnqueueCall {
        channel: crate::ids::ChannelId::random(),
        ..stage.call((0..=most).map(task).collect())
    };
    let refused = stage.broker.enqueue(Arc::new(over)).await;
    rule("at most 500 tasks a call", is_invalid(refused), true);
    stage.add_numbers(1..=most).await;
    let mut consumer = stage.consumer("w1").await;
    let all = consumer.exchange(vec![], MAX_BATCH).await;
    rule("500 at once", all.deliveries.len() as u128, most);
    rule("none is left", all.more, false);
}

/// A channel's last call is remembered for its time after its last use, and forgotten then.
pub async fn a_channel_is_forgotten_when_its_time_is_over<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let remember = stage.harness.lease();
    let call = stage.call(vec![task(1)]);
    let channel = call.channel;
    let call = Arc::new(EnqueueCall { remember, ..call });
    let first = stage.broker.enqueue(Arc::clone(&call)).await;
    for _ in 0..2 {
        stage.harness.pass(remember * 3 / 5).await;
        let again = stage.broker.enqueue(Arc::clone(&call)).await;
        rule(
            "PROTOCOL 4: each use makes it remembered anew",
            &again,
            &first,
        );
    }
    stage.harness.pass(remember * 2).await;
    let late = EnqueueCall {
        channel,
        number: 900,
        ..stage.call(vec![task(2)])
    };
    let late = stage.broker.enqueue(Arc::new(late)).await;
    rule(
        "PROTOCOL 4: forgotten, it starts anywhere",
        late.is_ok(),
        true,
    );
    stage
        .expect(
            "added once each",
            "ready [1 2] scheduled [] retrying [] active [] dead []",
        )
        .await;
}

/// A countdown counts from the broker's now; an instant that is past is now.
pub async fn tasks_wait_for_their_time<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    let now = stage.broker.promote_due(&stage.queue, 0).await;
    let now = now.expect("the clock can be read").now;
    let whens = [
        When::After(lease * 2),
        When::At(now.minus(lease)),
        When::After(lease),
        When::After(Duration::ZERO),
        When::At(now.plus(lease * 1_000)),
    ];
    let tasks = (1..).zip(whens).map(|(number, when)| NewTask {
        frame: frame(number, 5),
        when,
    });
    stage.add(tasks).await;
    let text = "ready [2 4] scheduled [3 1 5] retrying [] active [] dead []";
    stage
        .expect("PROTOCOL 4: what is not due waits, earliest first", text)
        .await;
    let none = stage
        .broker
        .promote_due(&stage.queue, 10)
        .await
        .expect("promoting");
    rule("nothing is due", none.moved, 0);
    stage.harness.pass(lease * 3 / 2).await;
    let one = stage
        .broker
        .promote_due(&stage.queue, 10)
        .await
        .expect("promoting");
    rule("one is due", one.moved, 1);
    stage.harness.pass(lease).await;
    let one = stage
        .broker
        .promote_due(&stage.queue, 10)
        .await
        .expect("promoting");
    rule("another is due", one.moved, 1);
    let text = "ready [2 4 3 1] scheduled [5] retrying [] active [] dead []";
    stage
        .expect("PROTOCOL 5: what is due becomes ready", text)
        .await;
    rule(
        "the last is due as asked",
        one.next_due,
        Some(now.plus(lease * 1_000)),
    );
}

/// Promotion moves the earliest first, as many as asked for, and tells when the next is due.
pub async fn promotion_is_bounded_and_tells_what_is_next<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let idle = stage
        .broker
        .promote_due(&stage.queue, 10)
        .await
        .expect("promoting");
    rule("nothing waits", (idle.moved, idle.next_due), (0, None));
    let lease = stage.harness.lease();
    let delays = [4, 2, 3, 1, 60];
    let tasks = (1..).zip(delays).map(|(number, tenths)| NewTask {
        frame: frame(number, 5),
        when: When::After(lease * tenths / 10),
    });
    stage.add(tasks).await;
    stage.harness.pass(lease).await;
    let two = stage
        .broker
        .promote_due(&stage.queue, 2)
        .await
        .expect("promoting");
    rule("PROTOCOL 5: no more than the limit", two.moved, 2);
    let overdue = two.next_due.is_some_and(|due| due <= two.now);
    rule("PROTOCOL 5: the next is due already", overdue, true);
    let rest = stage
        .broker
        .promote_due(&stage.queue, 100)
        .await
        .expect("promoting");
    rule("PROTOCOL 5: the rest of what is due", rest.moved, 2);
    let ahead = rest.next_due.is_some_and(|due| due > rest.now);
    rule("PROTOCOL 5: the next is not due", ahead, true);
    let mut consumer = stage.consumer("w1").await;
    let order = labels(&consumer.fetch(10).await);
    rule("PROTOCOL 5: earliest first", order, "4 2 3 1".to_owned());
    let revival = EnqueueCall {
        kind: EnqueueKind::Revival,
        ..stage.call(vec![task(9)])
    };
    let added = stage.broker.enqueue(Arc::new(revival)).await;
    rule("it is accepted", added.is_ok(), true);
    let counters = stage.counters().await;
    let counted = (counters.enqueued, counters.revived);
    rule("PROTOCOL 10: a revival counts as such", counted, (5, 1));
}
