//! Where the memory broker is stricter than the port asks for, and what it fails at when a test plans it.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName, WorkerId};
use celeriac_actors::lease::{ExchangeCall, Incarnation, Outcome, Settlement};
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind};
use celeriac_actors::state::TaskState;
use celeriac_actors::testkit::conformance::{outcome, run, task};
use celeriac_actors::testkit::{Fault, ManualClock, MemoryBroker, Method};

fn broker() -> MemoryBroker {
    MemoryBroker::new(Arc::new(ManualClock::new()))
}

fn queue() -> QueueName {
    QueueName::new("q").expect("it is a name")
}

fn enqueue(number: u64, tasks: &[u128]) -> EnqueueCall {
    EnqueueCall {
        queue: queue(),
        channel: ChannelId::from_bytes([1; 16]),
        number,
        tasks: tasks.iter().copied().map(task).collect(),
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    }
}

fn incarnation() -> Incarnation {
    Incarnation {
        id: IncarnationId::from_bytes([2; 16]),
        queue: queue(),
        worker: WorkerId::new("w").expect("it is a name"),
        lane: 0,
        lease: Duration::from_secs(12),
    }
}

fn exchange(number: u64, first_tag: u64, settlements: Vec<(u64, Outcome)>) -> Arc<ExchangeCall> {
    let settlement = |(tag, outcome)| Settlement { tag, outcome };
    Arc::new(ExchangeCall {
        queue: queue(),
        incarnation: incarnation().id,
        number,
        settlements: settlements.into_iter().map(settlement).collect(),
        want: 1,
        first_tag,
    })
}

fn is_misuse<T>(answer: Result<T, BrokerError>) -> bool {
    matches!(answer, Err(BrokerError::Invalid(why)) if why.starts_with("misuse"))
}

/// A broker with tasks 1 to 3, of which tag 1 is held.
async fn holding_one() -> MemoryBroker {
    let broker = broker();
    let added = broker.enqueue(Arc::new(enqueue(1, &[1, 2, 3]))).await;
    added.expect("it is accepted");
    broker.open(&incarnation()).await.expect("it is accepted");
    broker
        .exchange(exchange(1, 1, vec![]))
        .await
        .expect("it is accepted");
    broker
}

#[test]
fn two_exchanges_of_one_incarnation_at_a_time_are_refused() {
    run(async {
        let broker = holding_one().await;
        let (first, second) = (exchange(2, 2, vec![]), exchange(3, 3, vec![]));
        let both = futures_util::future::join(broker.exchange(first), broker.exchange(second));
        let (first, second) = both.await;
        assert!(first.is_ok() && is_misuse(second));
        assert!(broker.exchange(exchange(3, 3, vec![])).await.is_ok());
    });
}

#[test]
fn a_dropped_exchange_leaves_the_way_free() {
    run(async {
        let broker = holding_one().await;
        let dropped = tokio::time::timeout(Duration::ZERO, broker.exchange(exchange(2, 2, vec![])));
        drop(dropped.await);
        assert!(broker.exchange(exchange(2, 2, vec![])).await.is_ok());
    });
}

#[test]
fn tags_and_repeats_are_held_to_the_letter() {
    run(async {
        let broker = holding_one().await;
        let reused = broker.exchange(exchange(2, 1, vec![])).await;
        assert!(is_misuse(reused), "tag 1 is used");
        let other_words = broker.exchange(exchange(1, 7, vec![])).await;
        assert!(is_misuse(other_words), "a repeat says the same");
        let reopened = Incarnation {
            lane: 1,
            ..incarnation()
        };
        assert!(is_misuse(broker.open(&reopened).await));
        assert!(is_misuse(broker.enqueue(Arc::new(enqueue(1, &[9]))).await));
        let elsewhere = EnqueueCall {
            queue: QueueName::new("other").expect("it is a name"),
            ..enqueue(2, &[4])
        };
        assert!(is_misuse(broker.enqueue(Arc::new(elsewhere)).await));
        assert_eq!(
            broker.snapshot(&queue()),
            "ready [2 3] scheduled [] retrying [] active [1] dead []"
        );
    });
}

#[test]
fn an_outcome_is_about_the_task_that_is_held() {
    run(async {
        let broker = holding_one().await;
        let another = outcome::retry(2, Duration::ZERO);
        assert!(is_misuse(
            broker.exchange(exchange(2, 2, vec![(1, another)])).await
        ));
        let another = Outcome::Succeed {
            result: Some(outcome::record(2, TaskState::Succeeded)),
        };
        assert!(is_misuse(
            broker.exchange(exchange(2, 2, vec![(1, another)])).await
        ));
        let lying = Outcome::Cancel {
            result: Some(outcome::record(1, TaskState::Succeeded)),
        };
        assert!(is_misuse(
            broker.exchange(exchange(2, 2, vec![(1, lying)])).await
        ));
    });
}

#[test]
fn planned_failures_happen_as_often_as_planned() {
    run(async {
        let broker = broker();
        let call = Arc::new(enqueue(1, &[1]));
        let method = Method::Enqueue;
        broker.plan(Fault::Unanswered { method, times: 1 });
        broker.plan(Fault::LostReply { method, times: 1 });
        for snapshot in [
            "never heard of",
            "ready [1] scheduled [] retrying [] active [] dead []",
        ] {
            let answer = broker.enqueue(Arc::clone(&call)).await;
            assert!(matches!(answer, Err(BrokerError::Unavailable(_))));
            assert_eq!(broker.snapshot(&queue()), snapshot);
        }
        assert!(broker.enqueue(call).await.is_ok());
    });
}

#[test]
fn a_full_broker_goes_on_with_what_it_has() {
    run(async {
        let broker = holding_one().await;
        broker.plan(Fault::Full);
        let refused = broker.enqueue(Arc::new(enqueue(2, &[4]))).await;
        assert!(matches!(refused, Err(BrokerError::Refused(_))));
        let done = vec![(1, outcome::succeed())];
        assert!(broker.exchange(exchange(2, 2, done)).await.is_ok());
        assert_eq!(
            broker.renew(&queue(), &[incarnation().id]).await,
            Ok(vec![])
        );
        assert!(broker.sweep(&queue(), 500).await.is_ok());
        broker.heal();
        assert!(broker.enqueue(Arc::new(enqueue(2, &[4]))).await.is_ok());
    });
}

#[test]
fn one_process_is_cut_off_while_another_goes_on() {
    run(async {
        let broker = holding_one().await;
        let cut_off = broker.another();
        let queues = [queue()];
        cut_off
            .wait(&queues, Duration::ZERO)
            .await
            .expect("it is accepted");
        let waiting = cut_off.wait(&queues, Duration::from_secs(30));
        let cut = async {
            tokio::task::yield_now().await;
            cut_off.plan(Fault::Away);
        };
        let (waited, ()) = futures_util::future::join(waiting, cut).await;
        assert!(matches!(waited, Err(BrokerError::Away(_))));
        assert!(broker.queues().await.is_ok());
        assert!(cut_off.queues().await.is_err());
        cut_off.heal();
        assert!(cut_off.queues().await.is_ok());
    });
}

/// Every case of the suite is listed in the macro, so that none is forgotten.
#[test]
fn every_case_is_listed() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/testkit");
    let list = std::fs::read_to_string(source.join("conformance.rs")).unwrap();
    let mut cases = 0;
    for file in std::fs::read_dir(source.join("conformance")).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for line in text.lines() {
            let case = line.strip_prefix("pub async fn ");
            let Some((case, _)) = case.and_then(|case| case.split_once("<H: Harness>()")) else {
                continue;
            };
            cases += 1;
            assert!(
                list.contains(case),
                "{case} of {} is not listed",
                path.display()
            );
        }
    }
    assert!(cases > 50, "{cases} cases");
}
