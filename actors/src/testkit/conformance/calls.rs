//! Numbered calls (PROTOCOL 2): repeated to the letter, never executed twice, gone when histories differ.

use std::sync::Arc;

use super::consumer::labels;
use super::kit::{outcome, rule};
use super::{Harness, Stage};
use crate::lease::{ExchangeCall, MAX_BATCH};
use crate::ports::BrokerError;

/// The same number again: same deliveries, same reply, whatever happened between the two.
pub async fn a_repeat_gives_the_same_reply<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let call = consumer.call(vec![(99, outcome::succeed())], 2);
    let first = stage.broker.exchange(Arc::clone(&call)).await;
    stage.add_numbers(4..=6).await;
    let elsewhere = stage.harness.another().await;
    for broker in [&stage.broker, &elsewhere] {
        let again = broker.exchange(Arc::clone(&call)).await;
        rule("PROTOCOL 2: a repeat gets the stored reply", &again, &first);
    }
    let text = "ready [3 4 5 6] scheduled [] retrying [] active [1 2] dead []";
    stage
        .expect("PROTOCOL 2: a repeat fetches nothing more", text)
        .await;
    rule(
        "a repeat counts nothing again",
        stage.counters().await.stale,
        1,
    );
    let next = consumer.fetch(1).await;
    rule("the next number goes on", labels(&next), "3".to_owned());
}

/// A delivery that was taken between a call and its repeat is missing from the repeat.
pub async fn a_repeat_leaves_out_what_was_taken_meanwhile<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let call = consumer.call(vec![], 3);
    let first = stage.broker.exchange(Arc::clone(&call)).await;
    let second = consumer.place(first.expect("it may exchange").deliveries[1].tag);
    let taken = stage.broker.take(&second, outcome::succeed()).await;
    rule("it was held", taken, Ok(true));
    let again = stage
        .broker
        .exchange(call)
        .await
        .expect("a repeat is heard");
    let left = labels(&again.deliveries);
    rule(
        "PROTOCOL 2: what was taken meanwhile is skipped",
        left,
        "1 3".to_owned(),
    );
}

/// The settlements of a repeated call do nothing: no second retry, burial or count.
pub async fn a_repeat_settles_nothing_again<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    let tags: Vec<u64> = consumer.fetch(3).await.iter().map(|d| d.tag).collect();
    let settlements = vec![
        (tags[0], outcome::retry(1, stage.harness.lease())),
        (tags[1], outcome::bury()),
        (tags[2], outcome::succeed()),
    ];
    let call = consumer.call(settlements, 1);
    let first = stage.broker.exchange(Arc::clone(&call)).await;
    let text = "ready [] scheduled [] retrying [1] active [] dead [2:permanent]";
    stage.expect("each settled once", text).await;
    let before = stage.counters().await;
    let again = stage.broker.exchange(call).await;
    rule("PROTOCOL 2: the stored reply", again, first);
    stage
        .expect("PROTOCOL 2: nothing is settled again", text)
        .await;
    rule(
        "PROTOCOL 2: nothing is counted again",
        stage.counters().await,
        before,
    );
}

/// Numbers that neither repeat nor follow are `Gone`, without effect.
pub async fn a_number_that_does_not_follow_is_gone<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=4).await;
    let mut consumer = stage.consumer("w1").await;
    let before_the_first = ExchangeCall {
        number: 0,
        ..(*consumer.clone().call(vec![], 1)).clone()
    };
    let unheard = stage.broker.exchange(Arc::new(before_the_first)).await;
    rule(
        "PROTOCOL 2: nothing precedes call 1",
        unheard,
        Err(BrokerError::Gone),
    );
    let first = consumer.call(vec![], 1);
    let second = consumer.call(vec![], 1);
    let third = consumer.call(vec![(1, outcome::succeed())], 1);
    let order = [
        (&second, false),
        (&first, true),
        (&third, false),
        (&second, true),
        (&first, false),
    ];
    for (call, heard) in order {
        let answer = stage.broker.exchange(Arc::clone(call)).await;
        let gone = answer == Err(BrokerError::Gone);
        let number = call.number;
        rule(
            &format!("PROTOCOL 2: call {number} in 2 1 3 2 1"),
            gone,
            !heard,
        );
    }
    let text = "ready [3 4] scheduled [] retrying [] active [1 2] dead []";
    stage
        .expect("PROTOCOL 2: what is gone has no effect", text)
        .await;
}

/// Without `open` nothing is possible.
pub async fn an_incarnation_that_was_never_opened_is_gone<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut stranger = stage.unopened("w1");
    let which = "PROTOCOL 2: no lease, no effect";
    let gone = stranger.try_exchange(vec![], 1).await;
    rule(which, gone, Err(BrokerError::Gone));
    expect_fenced(&stage, &stranger, which).await;
    let text = "ready [1] scheduled [] retrying [] active [] dead []";
    stage.expect(which, text).await;
}

/// A closed incarnation is gone for every method, also for `open`; closing again is harmless.
pub async fn a_closed_identity_stays_closed<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=3).await;
    let mut consumer = stage.consumer("w1").await;
    consumer.fetch(2).await;
    let which = "PROTOCOL 2: a closed identity stays closed";
    let closed = stage.broker.close(&stage.queue, consumer.id()).await;
    rule("closing releases what was held", closed, Ok(2));
    let again = stage.broker.close(&stage.queue, consumer.id()).await;
    rule("closing is repeatable", again, Ok(0));
    let exchange = consumer
        .try_exchange(vec![(1, outcome::succeed())], 1)
        .await;
    rule(which, exchange, Err(BrokerError::Gone));
    let open = stage.broker.open(&consumer.incarnation).await;
    rule(which, open, Err(BrokerError::Gone));
    expect_fenced(&stage, &consumer, which).await;
    let text = "ready [1 2 3] scheduled [] retrying [] active [] dead []";
    stage.expect(which, text).await;
}

/// Fails the case unless `consumer` is refused by every fenced method but `exchange`. It claims tag 1.
pub(super) async fn expect_fenced<H: Harness>(
    stage: &Stage<H>,
    consumer: &super::Consumer,
    which: &str,
) {
    let (broker, queue, place) = (&stage.broker, &stage.queue, consumer.place(1));
    let renewed = broker.renew(queue, &[consumer.id()]).await;
    rule(which, renewed, Ok(vec![consumer.id()]));
    let marked = broker.mark_started(&place).await;
    rule(which, marked, Err(BrokerError::Gone));
    let taken = broker.take(&place, outcome::bury()).await;
    rule(which, taken, Ok(false));
    let released = broker.release(queue, consumer.id(), &[1]).await;
    rule(which, released, Ok(0));
}

/// `open` repeated forgets neither the call number nor what is held.
pub async fn opening_again_changes_nothing<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers(1..=2).await;
    let mut consumer = stage.consumer("w1").await;
    let opened = stage.broker.open(&consumer.incarnation).await;
    rule("open is repeatable", opened, Ok(()));
    let tag = consumer.fetch_one().await;
    let opened = stage.broker.open(&consumer.incarnation).await;
    rule("open is repeatable", opened, Ok(()));
    let text = "ready [2] scheduled [] retrying [] active [1] dead []";
    stage.expect("open repeated changes nothing", text).await;
    let next = consumer.exchange(vec![(tag, outcome::succeed())], 1).await;
    rule(
        "the numbers go on",
        labels(&next.deliveries),
        "2".to_owned(),
    );
    rule(
        "one consumer, opened three times",
        stage.status().await.consumers,
        1,
    );
}

/// Too much at once is `Invalid` and leaves everything as it was, the number included.
pub async fn a_call_beyond_the_limits_is_invalid<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    stage.add_numbers([1]).await;
    let mut consumer = stage.consumer("w1").await;
    let mut again = consumer.clone();
    let wide = again.try_exchange(vec![], MAX_BATCH + 1).await;
    let invalid = matches!(wide, Err(BrokerError::Invalid(_)));
    rule("at most 500 deliveries a call", invalid, true);
    let mut again = consumer.clone();
    let many = (0..=u64::from(MAX_BATCH)).map(|tag| (tag, outcome::succeed()));
    let many = again.try_exchange(many.collect(), 0).await;
    let invalid = matches!(many, Err(BrokerError::Invalid(_)));
    rule("at most 500 settlements a call", invalid, true);
    let served = consumer.fetch(1).await;
    rule(
        "an invalid call uses no number",
        labels(&served),
        "1".to_owned(),
    );
    let mut brief = stage.unopened("w2").incarnation;
    brief.lease = std::time::Duration::from_millis(999);
    let refused = stage.broker.open(&brief).await;
    let invalid = matches!(refused, Err(BrokerError::Invalid(_)));
    rule("a lease has at least a second", invalid, true);
}
