//! What no test from outside can do: a disk that does not answer.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName};
use celeriac_actors::lease::{ExchangeCall, Incarnation, Outcome, Settlement};
use celeriac_actors::ports::{Broker, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::testkit::conformance::{frame, run};
use tokio::time::timeout;

use super::{SqliteBroker, SqliteOptions};

/// Within this everything is done that does not wait for the disk.
const SOON: Duration = Duration::from_secs(10);

/// A disk whose syncs wait until it is let go.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<bool>, Condvar)>);

impl Disk {
    fn sync(&self) {
        let (stalled, bell) = &*self.0;
        drop(bell.wait_while(stalled.lock().unwrap(), |stalled| *stalled));
    }

    fn stall(&self, stalled: bool) {
        *self.0.0.lock().unwrap() = stalled;
        self.0.1.notify_all();
    }
}

fn queue() -> QueueName {
    "emails".parse().unwrap()
}

fn adding(number: u128) -> Arc<EnqueueCall> {
    let task = NewTask {
        frame: frame(number, 5),
        when: When::Now,
    };
    Arc::new(EnqueueCall {
        queue: queue(),
        channel: ChannelId::random(),
        number: 1,
        tasks: vec![task],
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    })
}

fn call(incarnation: IncarnationId, number: u64, settled: &[u64], want: u32) -> Arc<ExchangeCall> {
    let settle = |tag: &u64| Settlement {
        tag: *tag,
        outcome: Outcome::Succeed { result: None },
    };
    Arc::new(ExchangeCall {
        queue: queue(),
        incarnation,
        number,
        settlements: settled.iter().map(settle).collect(),
        want,
        first_tag: number * 1_000,
    })
}

/// Goal: a disk that stalls holds up those who add tasks, and nobody else.
/// Method: more of them than there is room for, one a commit; between them a lease is renewed, behind them all is done.
#[test]
fn a_disk_that_stalls_holds_up_producers_alone() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let synced = disk.clone();
    let sync = Box::new(move |log: &File| {
        synced.sync();
        log.sync_data()
    });
    let broker = SqliteBroker::open_syncing(SqliteOptions::new(dir.path()), sync).unwrap();
    let broker = Arc::new(broker);
    run(async {
        let incarnation = Incarnation {
            id: IncarnationId::random(),
            queue: queue(),
            worker: "w1".parse().unwrap(),
            lane: 0,
            lease: Duration::from_secs(12),
        };
        broker.open(&incarnation).await.unwrap();
        broker.enqueue(adding(0)).await.unwrap();
        disk.stall(true);
        let mut producers = Vec::new();
        for number in 1..=1_100 {
            let adds = Arc::clone(&broker);
            producers.push(tokio::task::spawn_local(async move {
                adds.enqueue(adding(number)).await
            }));
            tokio::task::yield_now().await;
            if number % 2 == 0 {
                let (queue, ids) = (queue(), [incarnation.id]);
                let renewed = timeout(SOON, broker.renew(&queue, &ids)).await;
                assert_eq!(renewed, Ok(Ok(vec![])), "after {number} producers");
            }
        }
        let exchanged = broker.exchange(call(incarnation.id, 1, &[], 3));
        let exchanged = timeout(SOON, exchanged).await.unwrap().unwrap();
        assert_eq!(exchanged.deliveries.len(), 3);
        let settled = broker.exchange(call(incarnation.id, 2, &[1_000, 1_001, 1_002], 0));
        assert!(
            timeout(SOON, settled)
                .await
                .unwrap()
                .unwrap()
                .stale
                .is_empty()
        );
        assert!(timeout(SOON, broker.queues()).await.unwrap().is_ok());
        assert!(producers.iter().all(|producer| !producer.is_finished()));
        disk.stall(false);
        for producer in producers {
            assert!(timeout(SOON, producer).await.unwrap().unwrap().is_ok());
        }
    });
}
