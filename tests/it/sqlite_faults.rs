//! What the embedded broker does when it cannot: full, locked, damaged, another boot.

use std::sync::Arc;
use std::time::Duration;

use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName};
use celeriac_actors::lease::{ExchangeCall, Exchanged, Incarnation, Outcome, Settlement};
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::testkit::ManualClock;
use celeriac_actors::testkit::conformance::{frame, run};
use diesel::connection::SimpleConnection;
use tempfile::TempDir;

use crate::daemon::eventually;
use crate::sqlite_support::connect;

pub(crate) fn queue() -> QueueName {
    "emails".parse().unwrap()
}

/// Makes the first call of a new channel.
pub(crate) fn adding(numbers: impl IntoIterator<Item = u128>, size: usize) -> Arc<EnqueueCall> {
    let task = |number| {
        let mut frame = frame(number, 5);
        frame.resize(frame.len().max(size), 0);
        NewTask {
            frame,
            when: When::Now,
        }
    };
    Arc::new(EnqueueCall {
        queue: queue(),
        channel: ChannelId::random(),
        number: 1,
        tasks: numbers.into_iter().map(task).collect(),
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    })
}

pub(crate) async fn opened(broker: &dyn Broker, worker: &str) -> IncarnationId {
    let incarnation = Incarnation {
        id: IncarnationId::random(),
        queue: queue(),
        worker: worker.parse().unwrap(),
        lane: 0,
        lease: Duration::from_secs(12),
    };
    broker.open(&incarnation).await.unwrap();
    incarnation.id
}

pub(crate) async fn exchange(
    broker: &dyn Broker,
    (incarnation, number): (IncarnationId, u64),
    settled: &[u64],
    want: u32,
) -> Result<Exchanged, BrokerError> {
    let settle = |tag: &u64| Settlement {
        tag: *tag,
        outcome: Outcome::Succeed { result: None },
    };
    let call = ExchangeCall {
        queue: queue(),
        incarnation,
        number,
        settlements: settled.iter().map(settle).collect(),
        want,
        first_tag: number * 1_000,
    };
    broker.exchange(Arc::new(call)).await
}

fn open(change: impl FnOnce(SqliteOptions) -> SqliteOptions) -> (TempDir, SqliteBroker) {
    let dir = tempfile::tempdir().unwrap();
    let options = change(SqliteOptions::new(dir.path()));
    let broker = SqliteBroker::open(options).unwrap();
    (dir, broker)
}

/// Goal: full is not wedged: enqueueing is refused, all else goes on, also when it shares a transaction with it.
#[test]
fn a_full_database_refuses_new_tasks_and_goes_on() {
    let (_dir, broker) = open(|mut options| {
        options.max_pages = 120;
        options
    });
    run(async {
        let consumer = opened(&broker, "w1").await;
        let (mut added, mut last) = (0, Ok(()));
        while last.is_ok() && added < 1_000 {
            last = broker.enqueue(adding([added], 8_000)).await.map(drop);
            added += u128::from(last.is_ok());
        }
        assert!(matches!(last, Err(BrokerError::Refused(_))), "{last:?}");
        assert!(added > 10, "{added}");
        let fetched = exchange(&broker, (consumer, 1), &[], 10).await.unwrap();
        assert_eq!(fetched.deliveries.len(), 10);
        let again = opened(&broker, "w1").await;
        let (queue, alive) = (queue(), [consumer, again]);
        let (refused, renewed, settled) = tokio::join!(
            broker.enqueue(adding(0..60, 8_000)),
            broker.renew(&queue, &alive),
            exchange(&broker, (consumer, 2), &[1_000, 1_001], 0),
        );
        assert!(
            matches!(refused, Err(BrokerError::Refused(_))),
            "{refused:?}"
        );
        assert_eq!((renewed, settled.unwrap().stale), (Ok(vec![]), vec![]));
        let tags: Vec<u64> = (1_002..1_010).collect();
        exchange(&broker, (consumer, 3), &tags, 0).await.unwrap();
        broker.enqueue(adding([7], 8_000)).await.unwrap();
    });
}

fn log_bytes(dir: &TempDir) -> u64 {
    let log = std::fs::metadata(dir.path().join("broker.db-wal"));
    log.unwrap().len()
}

/// Goal: what the log takes of a full disk is given back as soon as something does not fit.
#[test]
fn a_full_database_empties_its_log_at_once() {
    let (dir, broker) = open(|mut options| {
        options.max_pages = 120;
        options
    });
    run(async {
        let (mut added, mut grown) = (0, 0);
        while broker.enqueue(adding([added], 8_000)).await.is_ok() {
            (added, grown) = (added + 1, log_bytes(&dir));
        }
        assert!(grown > 100_000, "{grown}");
        assert_eq!(log_bytes(&dir), 0);
    });
}

/// Goal: a process that has little to write keeps its log small, though it is never quite quiet.
#[test]
fn an_idle_process_keeps_its_log_small() {
    let (dir, broker) = open(|options| options);
    run(async {
        for number in 0..60 {
            broker.enqueue(adding([number], 8_000)).await.unwrap();
        }
        assert!(log_bytes(&dir) > 500_000, "{}", log_bytes(&dir));
        let mut looks = 0;
        while log_bytes(&dir) > 200_000 {
            assert!(looks < 300, "{}", log_bytes(&dir));
            broker.pause(&queue(), looks % 2 == 0).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            looks += 1;
        }
    });
}

/// Goal: whoever has a database open that is no longer where it was says so, and acknowledges nothing into it.
#[test]
fn a_database_that_is_removed_or_replaced_is_unavailable_for_good() {
    for replace in [false, true] {
        let (dir, broker) = open(|options| options);
        run(async {
            broker.enqueue(adding([1], 0)).await.unwrap();
            let path = dir.path().join("broker.db");
            std::fs::rename(&path, dir.path().join("moved.db")).unwrap();
            if replace {
                std::fs::write(&path, b"").unwrap();
            }
            let lost = |error: BrokerError| {
                let text = error.to_string();
                matches!(error, BrokerError::Away(_)) && text.contains("restart the workers")
            };
            eventually("it is found out", async || {
                broker.queues().await.is_err_and(lost).then_some(())
            })
            .await;
            assert!(broker.enqueue(adding([2], 0)).await.is_err_and(lost));
            let waited = broker.wait(&[queue()], Duration::from_secs(9)).await;
            assert!(waited.is_err_and(lost));
        });
    }
}

/// Goal: a frame beyond the bound is refused before anything is written.
#[test]
fn an_oversized_frame_is_invalid() {
    let (_dir, broker) = open(|options| options);
    run(async {
        let refused = broker.enqueue(adding([1], (1 << 20) + 1)).await;
        assert!(
            matches!(refused, Err(BrokerError::Invalid(_))),
            "{refused:?}"
        );
    });
}

/// Goal: a database that somebody else keeps locked is an outage, and over when he lets go.
#[test]
fn a_locked_database_is_unavailable_until_it_is_not() {
    let (dir, broker) = open(|mut options| {
        options.busy_bound = Duration::from_millis(50);
        options
    });
    run(async {
        let mut other = connect(dir.path());
        other.batch_execute("BEGIN IMMEDIATE").unwrap();
        let call = adding([1], 0);
        let refused = broker.enqueue(Arc::clone(&call)).await;
        assert!(
            matches!(refused, Err(BrokerError::Away(_))),
            "it certainly did not happen: {refused:?}"
        );
        let looked = broker.queues().await;
        assert!(looked.is_ok(), "looking goes on: {looked:?}");
        other.batch_execute("ROLLBACK").unwrap();
        broker.enqueue(call).await.unwrap();
    });
}

/// Goal: bytes that are no pack reach a consumer as a task that cannot be read, and the queue moves on.
#[test]
fn a_damaged_pack_stops_nobody() {
    let (dir, broker) = open(|options| options);
    run(async {
        let consumer = opened(&broker, "w1").await;
        broker.enqueue(adding(0..3, 0)).await.unwrap();
        let mut db = connect(dir.path());
        db.batch_execute("UPDATE ready SET pack = x'FFFFFFFF00'")
            .unwrap();
        broker.enqueue(adding([9], 0)).await.unwrap();
        let fetched = exchange(&broker, (consumer, 1), &[], 10).await.unwrap();
        let frames: Vec<_> = fetched.deliveries.into_iter().map(|d| d.frame).collect();
        assert_eq!(frames, [b"\xff\xff\xff\xff\0".to_vec(), frame(9, 5)]);
        let settled = exchange(&broker, (consumer, 2), &[1_000, 1_001], 10).await;
        assert_eq!(settled.unwrap().deliveries, []);
    });
}

/// Goal: leases of an earlier boot are void at once: whoever held them died with it.
#[test]
fn another_boot_voids_every_lease_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let open = |boot: &str| {
        let options = SqliteOptions::new(dir.path()).clock(clock.clone(), boot);
        SqliteBroker::open(options).unwrap()
    };
    run(async {
        let before = open("first");
        before.enqueue(adding(0..3, 0)).await.unwrap();
        let consumer = opened(&before, "w1").await;
        exchange(&before, (consumer, 1), &[], 10).await.unwrap();
        drop(before);
        let after = open("second");
        let swept = after.sweep(&queue(), 500).await.unwrap();
        assert_eq!((swept.rescued, swept.held_back), (3, false));
        assert!(swept.closed.iter().all(|closed| closed.proven_dead));
        let late = exchange(&after, (consumer, 2), &[1_000], 0).await;
        assert_eq!(late, Err(BrokerError::Gone));
    });
}

/// Goal: the broker works where no runtime is, and finishes what it was handed when it is dropped.
#[test]
fn dropping_finishes_what_was_handed_over() {
    let (dir, broker) = open(|options| options);
    let broker = Arc::new(broker);
    let call = broker.enqueue(adding(0..500, 0));
    let polled = futures_util::FutureExt::now_or_never(call);
    assert!(polled.is_none(), "it is under way and was dropped");
    futures_executor(broker.enqueue(adding([1_000], 0))).unwrap();
    drop(broker);
    let broker = SqliteBroker::open(SqliteOptions::new(dir.path())).unwrap();
    let status = futures_executor(broker.queues()).unwrap();
    assert!([1, 501].contains(&status[0].ready), "{status:?}");
}

/// Runs a future by parking this thread: no runtime of any kind.
fn futures_executor<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(reply) = future.as_mut().poll(&mut context) {
            return reply;
        }
        std::thread::park();
    }
}
