//! What is kept beside the tasks: results, revocations, shared values; and its end (PROTOCOL 6, 12).

use std::time::Duration;

use super::kit::{id, outcome, rule};
use super::{Harness, Stage};
use crate::ids::TaskName;
use crate::lease::{FinalRecord, Outcome};
use crate::ports::{BrokerError, MAX_REVOCATIONS, SharedValue};
use crate::progress::Progress;
use crate::revocation::{Revocation, Selector};
use crate::state::TaskState;
use crate::time::Timestamp;

async fn now<H: Harness>(stage: &Stage<H>) -> Timestamp {
    let read = stage.broker.promote_due(&stage.queue, 0).await;
    read.expect("the clock can be read").now
}

/// Adds a task and ends it well with a result that is kept for `ttl`.
async fn finish<H: Harness>(stage: &mut Stage<H>, number: u128, ttl: Duration) -> FinalRecord {
    stage.add_numbers([number]).await;
    let mut consumer = stage.consumer("w1").await;
    let tag = consumer.fetch_one().await;
    let record = FinalRecord {
        progress: Some(Progress {
            done: 3,
            total: 4,
            note: "almost".to_owned(),
            at: Timestamp::from_millis(5),
        }),
        ttl,
        ..outcome::record(number, TaskState::Succeeded)
    };
    let result = Some(record.clone());
    consumer.settle(tag, Outcome::Succeed { result }).await;
    record
}

/// A result can be read by every process until its time is over.
pub async fn results_end_and_are_seen_from_everywhere<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let lease = stage.harness.lease();
    let brief = finish(&mut stage, 1, lease).await;
    let long = finish(&mut stage, 2, lease * 100).await;
    let elsewhere = stage.harness.another().await;
    for broker in [&stage.broker, &elsewhere] {
        let kept = broker.result(&stage.queue, id(1)).await;
        rule(
            "PROTOCOL 6: a result is kept",
            kept,
            Ok(Some(brief.clone())),
        );
    }
    let none = stage.broker.result(&stage.queue, id(3)).await;
    rule("PROTOCOL 6: nothing is known of others", none, Ok(None));
    stage.harness.pass(lease * 3 / 2).await;
    let over = stage.broker.result(&stage.queue, id(1)).await;
    rule("PROTOCOL 6: a result ends", over, Ok(None));
    let kept = stage.broker.result(&stage.queue, id(2)).await;
    rule("PROTOCOL 6: another is still kept", kept, Ok(Some(long)));
}

/// Somebody who waits elsewhere gets the result when the task ends, at once if it has ended, nothing if it does not.
pub async fn one_can_wait_for_results<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let elsewhere = stage.harness.another().await;
    let queue = stage.queue.clone();
    let tasks = [id(1), id(2)];
    let none = elsewhere
        .wait_results(&queue, &tasks, stage.harness.silence())
        .await;
    rule("PROTOCOL 6: nothing yet", none, Ok(vec![]));
    let limit = Duration::from_secs(60);
    let listen = elsewhere.wait_results(&queue, &tasks, limit);
    let speak = async {
        actix_rt::task::yield_now().await;
        finish(&mut stage, 2, Duration::from_secs(60)).await
    };
    let (heard, record) = futures_util::future::join(listen, speak).await;
    rule(
        "PROTOCOL 6: who waits gets it",
        heard,
        Ok(vec![record.clone()]),
    );
    let again = elsewhere.wait_results(&queue, &tasks, limit).await;
    rule(
        "PROTOCOL 6: reading removes nothing",
        again,
        Ok(vec![record]),
    );
}

/// Revokes a task by its number.
fn by_id(number: u128) -> Revocation {
    Revocation::id(id(number))
}

/// Revocations by id, kind and header are remembered to the letter, each with its own end, within one bound.
pub async fn rules_are_remembered_to_the_letter<H: Harness>() {
    let stage = Stage::<H>::fresh().await;
    let (broker, queue) = (stage.broker.clone(), stage.queue.clone());
    let lease = stage.harness.lease();
    let now = now(&stage).await;
    let task = |until: u64| Selector::Task {
        name: TaskName::new("billing.charge:v2").expect("a name"),
        until: Timestamp::from_millis(until),
    };
    let header = |key: &str, value: &str| Selector::Header {
        key: key.to_owned(),
        value: value.to_owned(),
        until: now,
    };
    let short = Revocation::new(task(1)).terminate();
    let mut long = vec![
        by_id(1),
        by_id(1).terminate(),
        by_id(2),
        Revocation::new(task(0)),
        Revocation::new(task(now.as_millis())).terminate(),
        Revocation::new(header("tenant", "7")),
        Revocation::new(header("k:1:", "\u{0}\r\n ä\u{1f980}=\"")),
        Revocation::new(header("tenant", "")).terminate(),
    ];
    let (soon, late) = (now.plus(lease), now.plus(lease * 100));
    let elsewhere = stage.harness.another().await;
    let revoked = broker.revoke(&queue, &long, late).await;
    let one = std::slice::from_ref(&short);
    let first = elsewhere.revoke(&queue, one, soon).await.expect("revoking");
    rule(
        "PROTOCOL 12: versions grow",
        revoked.is_ok_and(|v| v < first),
        true,
    );
    let mut known = elsewhere.revocations(&queue).await.expect("reading");
    known.1.sort();
    let mut all = long.clone();
    all.push(short);
    all.sort();
    rule(
        "PROTOCOL 12: what is revoked, to the letter",
        known,
        (first, all),
    );
    stage.harness.pass(lease * 3 / 2).await;
    let mut known = broker.revocations(&queue).await.expect("reading").1;
    known.sort();
    long.sort();
    rule("PROTOCOL 12: each has its own end", known, long);

    // In steps, as a call of some brokers is.
    let many: Vec<Revocation> = (10..10 + MAX_REVOCATIONS as u128).map(by_id).collect();
    let refused = broker.revoke(&queue, &many, late).await;
    let is_refused = matches!(refused, Err(BrokerError::Invalid(_)));
    rule("PROTOCOL 12: refused beyond its bound", is_refused, true);
}

/// Every revocation makes a new version, which every exchange tells; it is remembered until its time, which a second
/// one extends and never shortens.
pub async fn revocations_have_a_version_and_an_end<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let (broker, queue) = (stage.broker.clone(), stage.queue.clone());
    let mut consumer = stage.consumer("w1").await;
    let before = consumer.exchange(vec![], 0).await.revocations;
    let none = broker.revocations(&queue).await;
    rule(
        "PROTOCOL 12: nothing is revoked",
        none,
        Ok((before, vec![])),
    );
    let lease = stage.harness.lease();
    let now = now(&stage).await;
    let (soon, late) = (now.plus(lease), now.plus(lease * 100));
    let first = broker
        .revoke(&queue, &[by_id(1), by_id(2)], soon)
        .await
        .expect("revoking");
    let elsewhere = stage.harness.another().await;
    let second = elsewhere
        .revoke(&queue, &[by_id(1)], late)
        .await
        .expect("revoking");
    let third = broker
        .revoke(&queue, &[by_id(1)], soon)
        .await
        .expect("revoking");
    let grows = before < first && first < second && second <= third;
    rule("PROTOCOL 12: versions grow", grows, true);
    let told = consumer.exchange(vec![], 0).await.revocations;
    rule("PROTOCOL 12: a fetch tells the version", told, third);
    let mut known = broker.revocations(&queue).await.expect("reading");
    known.1.sort();
    rule(
        "PROTOCOL 12: what is revoked",
        known,
        (third, vec![by_id(1), by_id(2)]),
    );
    stage.harness.pass(lease * 3 / 2).await;
    let known = elsewhere.revocations(&queue).await.expect("reading").1;
    rule(
        "PROTOCOL 12: remembered until its longest time",
        known,
        vec![by_id(1)],
    );
    stage.add_numbers([1]).await;
    let consumer_decides = stage.status().await.ready;
    rule(
        "PROTOCOL 12: the consumer acts on it, not the broker",
        consumer_decides,
        1,
    );
}

/// A shared value is written only by who knows its version.
pub async fn a_shared_value_is_compared_and_set<H: Harness>() {
    let stage = Stage::<H>::fresh().await;
    if !stage.broker.capabilities().shared {
        return;
    }
    let (here, there) = (stage.broker.clone(), stage.harness.another().await);
    let ttl = Duration::from_secs(600);
    rule("nothing is shared", here.shared("leader").await, Ok(None));
    let unknown = here.share("leader", 3, b"a", ttl).await;
    rule("nobody knows a version of nothing", unknown, Ok(None));
    let first = here.share("leader", 0, b"a", ttl).await.expect("sharing");
    rule("versions count from 1", first, Some(1));
    let late = there.share("leader", 0, b"b", ttl).await;
    rule("the second one is late", late, Ok(None));
    let second = there.share("leader", 1, b"b", ttl).await.expect("sharing");
    rule("who knows the version may write", second, Some(2));
    let stale = here.share("leader", 1, b"a", ttl).await;
    rule("an old version is refused", stale, Ok(None));
    let value = SharedValue {
        version: 2,
        value: b"b".to_vec(),
    };
    rule(
        "all read the same",
        here.shared("leader").await,
        Ok(Some(value)),
    );
    rule(
        "keys do not see each other",
        here.shared("other").await,
        Ok(None),
    );
    let (large, other) = (vec![7; 64 << 10], vec![8; 64 << 10]);
    let both = futures_util::future::join(
        here.share("leader", 2, &large, ttl),
        there.share("leader", 2, &other, ttl),
    );
    let both = both.await;
    let winner = match both {
        (Ok(Some(3)), Ok(None)) => Some(large),
        (Ok(None), Ok(Some(3))) => Some(other),
        _ => None,
    };
    rule("of two who write at once one wins", winner.is_some(), true);
    let kept = there.shared("leader").await;
    let kept = kept.map(|kept| kept.map(|kept| kept.value));
    rule("what the winner wrote is read", kept, Ok(winner));
}

/// A shared value ends after its time; who held it cannot take the next one's version for its own.
pub async fn a_shared_value_ends_and_its_version_never_returns<H: Harness>() {
    let stage = Stage::<H>::fresh().await;
    if !stage.broker.capabilities().shared {
        return;
    }
    let ttl = stage.harness.lease();
    let broker = &stage.broker;
    let old = broker.share("leader", 0, b"a", ttl).await.expect("sharing");
    stage.harness.pass(ttl * 3 / 2).await;
    rule("a value ends", broker.shared("leader").await, Ok(None));
    let late = broker.share("leader", old.unwrap_or(1), b"a", ttl).await;
    rule("what ended cannot be extended", late, Ok(None));
    let new = broker
        .share("leader", 0, b"b", ttl * 100)
        .await
        .expect("sharing");
    rule("an ended value is free", new.is_some(), true);
    let stolen = broker.share("leader", old.unwrap_or(1), b"a", ttl).await;
    rule(
        "an old leader never takes the new one's version for its own",
        stolen,
        Ok(None),
    );
}

/// Housekeeping forgets what is over, as much as asked for at a time, and nothing else.
pub async fn housekeeping_forgets_what_is_over<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let (lease, broker) = (stage.harness.lease(), stage.broker.clone());
    for number in 1..=3 {
        finish(&mut stage, number, lease).await;
    }
    let long = finish(&mut stage, 4, lease * 1_000).await;
    stage.add_numbers([5]).await;
    stage.harness.pass(lease * 3 / 2).await;
    let mut forgotten = 0;
    for _ in 0..10 {
        let some = broker.housekeep(2).await.expect("housekeeping");
        forgotten += some;
        if some == 0 {
            break;
        }
    }
    // A broker whose data end by themselves has nothing left to forget.
    rule("at most what was over", forgotten <= 3, true);
    let none = broker.housekeep(100).await;
    rule("nothing is left to forget", none, Ok(0));
    let kept = broker.result(&stage.queue, id(4)).await;
    rule("what is not over stays", kept, Ok(Some(long)));
    let text = "ready [5] scheduled [] retrying [] active [] dead []";
    stage.expect("tasks are never forgotten", text).await;
    if stage.harness.time_is_free() {
        let mut consumer = stage.consumer("w9").await;
        broker
            .close(&stage.queue, consumer.id())
            .await
            .expect("closing");
        stage.harness.pass(Duration::from_secs(3_600)).await;
        broker.housekeep(100).await.expect("housekeeping");
        let late = consumer.try_exchange(vec![], 1).await;
        rule("closed an hour ago is still closed", late.is_err(), true);
        let late = broker.open(&consumer.incarnation).await;
        rule("closed an hour ago is still closed", late.is_err(), true);
    }
}
