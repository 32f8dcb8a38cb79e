//! How deliveries end (PROTOCOL 2, 6, 10): effective only where the tag was held, in one step with all that follows.

use std::time::Duration;

use super::consumer::labels;
use super::kit::{frame, id, outcome, rule};
use super::{Harness, Stage};
use crate::lease::Outcome;
use crate::ports::{BrokerError, Counters};
use crate::state::TaskState;

/// Each outcome leads where it says and counts once.
pub async fn every_outcome_has_its_state_and_its_counter<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=9).await;
    let mut consumer = stage.consumer("w1").await;
    let tag: Vec<u64> = consumer.fetch(8).await.iter().map(|d| d.tag).collect();
    let delay = stage.harness.lease();
    let settlements = vec![
        (tag[0], outcome::succeed()),
        (tag[1], outcome::retry(2, delay)),
        (tag[2], outcome::retry(3, Duration::ZERO)),
        (tag[3], Outcome::release()),
        (tag[4], Outcome::Release { frame: None, delay }),
        (tag[5], outcome::bury()),
        (tag[6], Outcome::Cancel { result: None }),
        (tag[7], Outcome::Expire { result: None }),
    ];
    let done = consumer.exchange(settlements, 0).await;
    rule("PROTOCOL 2: what is held is not stale", done.stale, vec![]);
    let text = "ready [4 9 3] scheduled [5] retrying [2] active [] dead [6:permanent]";
    stage.expect("each outcome leads where it says", text).await;
    let expected = Counters {
        enqueued: 9,
        succeeded: 1,
        dead: 1,
        cancelled: 1,
        expired: 1,
        retried: 2,
        released: 2,
        ..Counters::default()
    };
    rule(
        "PROTOCOL 10: each outcome counts once",
        stage.counters().await,
        expected,
    );
}

/// A settlement of what is not held is stale: counted, and nothing else. Another's tag is not held either.
pub async fn a_tag_that_is_not_held_is_stale_and_nothing_else<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut holder = stage.consumer("w1").await;
    let tag = holder.fetch_one().await;
    let mut other = stage.consumer("w2").await;
    let result = Some(outcome::record(1, TaskState::Succeeded));
    let settlements = vec![
        (tag, Outcome::Succeed { result }),
        (tag + 1, outcome::bury()),
        (tag + 2, outcome::retry(1, Duration::ZERO)),
        (tag + 3, Outcome::release()),
    ];
    let done = other.exchange(settlements, 0).await;
    let which = "PROTOCOL 2: a settlement takes effect only where its tag was held";
    rule(which, done.stale, vec![tag, tag + 1, tag + 2, tag + 3]);
    let text = "ready [2] scheduled [] retrying [] active [1] dead []";
    stage.expect(which, text).await;
    let kept = stage.broker.result(&stage.queue, id(1)).await;
    rule(
        "PROTOCOL 6: a refused settlement stores no result",
        kept,
        Ok(None),
    );
    let expected = Counters {
        enqueued: 2,
        stale: 4,
        ..Counters::default()
    };
    rule(
        "PROTOCOL 10: stale ones are counted as such",
        stage.counters().await,
        expected,
    );
    rule(
        "the holder still holds it",
        holder.settle(tag, outcome::succeed()).await,
        vec![],
    );
}

/// The second settlement of a tag in one call finds nothing to settle.
pub async fn a_tag_settled_twice_in_one_call_counts_once<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    let twice = vec![(tag, outcome::succeed()), (tag, outcome::bury())];
    let done = consumer.exchange(twice, 0).await;
    rule(
        "PROTOCOL 2: checked per tag, in order",
        done.stale,
        vec![tag],
    );
    let counters = stage.counters().await;
    let counted = (counters.succeeded, counters.dead, counters.stale);
    rule("PROTOCOL 10: it ended once", counted, (1, 0, 1));
}

/// The result is there when the settlement is, for every final outcome.
pub async fn a_result_comes_with_the_step_that_ends_the_task<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=4).await;
    let mut consumer = stage.consumer("w1").await;
    let tag: Vec<u64> = consumer.fetch(4).await.iter().map(|d| d.tag).collect();
    let some = |number, state| Some(outcome::record(number, state));
    let (succeeded, cancelled) = (TaskState::Succeeded, TaskState::Cancelled);
    let mut bury = outcome::bury();
    if let Outcome::Bury { result, .. } = &mut bury {
        *result = some(2, TaskState::Dead);
    }
    let result = some(1, succeeded);
    let mut settlements = vec![(tag[0], Outcome::Succeed { result }), (tag[1], bury)];
    let result = some(3, cancelled);
    settlements.push((tag[2], Outcome::Cancel { result }));
    let result = some(4, TaskState::Expired);
    settlements.push((tag[3], Outcome::Expire { result }));
    consumer.exchange(settlements, 0).await;
    let states = [succeeded, TaskState::Dead, cancelled, TaskState::Expired];
    for (number, state) in (1..).zip(states) {
        let kept = stage.broker.result(&stage.queue, id(number)).await;
        let expected = Ok(some(number, state));
        rule(
            "PROTOCOL 6: the settling step stores the result",
            kept,
            expected,
        );
    }
}

/// Released tasks come first again, in the order in which they were handed out, whichever way they are released.
pub async fn what_is_released_goes_to_the_front_in_order<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=7).await;
    let mut consumer = stage.consumer("w1").await;
    let tag: Vec<u64> = consumer.fetch(6).await.iter().map(|d| d.tag).collect();
    let which = "PROTOCOL 13: released tasks go to the front, in order";
    let two = vec![(tag[4], Outcome::release()), (tag[5], Outcome::release())];
    consumer.exchange(two, 0).await;
    stage
        .expect(
            which,
            "ready [5 6 7] scheduled [] retrying [] active [1 2 3 4] dead []",
        )
        .await;
    let tags = [tag[2], tag[3], 999];
    let released = stage
        .broker
        .release(&stage.queue, consumer.id(), &tags)
        .await;
    rule("release tells how many were held", released, Ok(2));
    let again = stage
        .broker
        .release(&stage.queue, consumer.id(), &tags)
        .await;
    rule("release is repeatable", again, Ok(0));
    stage
        .expect(
            which,
            "ready [3 4 5 6 7] scheduled [] retrying [] active [1 2] dead []",
        )
        .await;
    let closed = stage.broker.close(&stage.queue, consumer.id()).await;
    rule("close tells how many were held", closed, Ok(2));
    stage
        .expect(
            which,
            "ready [1 2 3 4 5 6 7] scheduled [] retrying [] active [] dead []",
        )
        .await;
    let counters = stage.counters().await;
    let counted = (counters.released, counters.rescued);
    rule("PROTOCOL 10: released, not rescued", counted, (6, 0));
}

/// A delay schedules a released task; a changed frame replaces the one in flight.
pub async fn a_task_released_with_a_delay_is_scheduled<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    let delay = stage.harness.lease();
    let mut changed = frame(1, 9);
    changed.extend_from_slice(b"changed");
    let release = Outcome::Release {
        frame: Some(changed.clone()),
        delay,
    };
    consumer.settle(tag, release).await;
    stage
        .expect(
            "it waits",
            "ready [2] scheduled [1] retrying [] active [] dead []",
        )
        .await;
    stage.harness.pass(delay).await;
    let promoted = stage.broker.promote_due(&stage.queue, 10).await;
    rule("it is due", promoted.expect("promoting").moved, 1);
    let next = consumer.fetch(2).await;
    rule("its new priority counts", labels(&next), "1 2".to_owned());
    rule("its new bytes count", next[0].frame.clone(), changed);
}

/// A retry waits on the broker's clock, carries the new frame, and goes behind the others.
pub async fn a_retry_waits_and_then_goes_to_the_back<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let tag: Vec<u64> = consumer.fetch(2).await.iter().map(|d| d.tag).collect();
    let delay = stage.harness.lease();
    let settlements = vec![
        (tag[0], outcome::retry(1, delay)),
        (tag[1], outcome::retry(2, Duration::ZERO)),
    ];
    consumer.exchange(settlements, 0).await;
    stage
        .expect(
            "a retry waits",
            "ready [3 2] scheduled [] retrying [1] active [] dead []",
        )
        .await;
    let early = stage.broker.promote_due(&stage.queue, 10).await;
    rule("it is not due", early.expect("promoting").moved, 0);
    stage.harness.pass(delay).await;
    let due = stage.broker.promote_due(&stage.queue, 10).await;
    rule("it is due", due.expect("promoting").moved, 1);
    stage
        .expect(
            "it comes last",
            "ready [3 2 1] scheduled [] retrying [] active [] dead []",
        )
        .await;
}

/// The watchdog's `take` works once; the holder's own settlement is stale afterwards.
pub async fn taking_a_delivery_works_once<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    let watchdog = stage.harness.another().await;
    let place = consumer.place(tag);
    let retry = outcome::retry(1, Duration::ZERO);
    let taken = watchdog.take(&place, retry.clone()).await;
    rule("PROTOCOL 2: take removes the tag", taken, Ok(true));
    let again = watchdog.take(&place, retry).await;
    rule("PROTOCOL 2: take is repeatable", again, Ok(false));
    let marked = stage.broker.mark_started(&place).await;
    rule("what is not held must not be started", marked, Ok(false));
    let stale = consumer.settle(tag, outcome::succeed()).await;
    rule("PROTOCOL 2: the late settlement is stale", stale, vec![tag]);
    let text = "ready [2 1] scheduled [] retrying [] active [] dead []";
    stage.expect("it ended as taken", text).await;
    let counters = stage.counters().await;
    let counted = (counters.retried, counters.succeeded, counters.stale);
    rule("PROTOCOL 10: counted once", counted, (1, 0, 1));
}

/// Only a burial may carry bytes without a header; anything else is refused whole.
pub async fn a_frame_without_a_header_cannot_be_handed_back<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut consumer = stage.consumer("w1").await;
    let tag: Vec<u64> = consumer.fetch(2).await.iter().map(|d| d.tag).collect();
    let garbage = Outcome::Retry {
        frame: b"{}".to_vec(),
        delay: Duration::ZERO,
    };
    let settlements = vec![(tag[0], outcome::succeed()), (tag[1], garbage.clone())];
    let refused = consumer.clone().try_exchange(settlements, 0).await;
    let invalid = matches!(refused, Err(BrokerError::Invalid(_)));
    rule("a retry has a header", invalid, true);
    let refused = stage.broker.take(&consumer.place(tag[1]), garbage).await;
    let invalid = matches!(refused, Err(BrokerError::Invalid(_)));
    rule("a retry has a header", invalid, true);
    let text = "ready [] scheduled [] retrying [] active [1 2] dead []";
    stage.expect("a refused call has no effect", text).await;
}
