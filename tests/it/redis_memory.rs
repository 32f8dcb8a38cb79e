//! A server whose memory is at its limit takes no new tasks; what it has goes on.

use std::sync::Arc;
use std::time::Duration;

use celeriac::redis::{RedisBroker, RedisOptions};
use celeriac_actors::ids::ChannelId;
use celeriac_actors::lease::{FinalRecord, Outcome};
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::state::TaskState;
use celeriac_actors::testkit::conformance::{Consumer, frame, outcome, run};

use slog::{Logger, o};

use crate::redis_server::{RedisServer, ServerOptions};
use crate::redis_works::{Log, incarnation, queue, status};

const BATCH: u128 = 20;

/// Makes tasks of 10 kB.
fn tasks(first: u128) -> Arc<EnqueueCall> {
    let task = |number| {
        let mut frame = frame(number, 5);
        frame.resize(10_000, b'x');
        let when = When::Now;
        NewTask { frame, when }
    };
    Arc::new(EnqueueCall {
        queue: queue(),
        channel: ChannelId::random(),
        number: 1,
        tasks: (first..first + BATCH).map(task).collect(),
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    })
}

fn succeed(number: u128) -> Outcome {
    let result = Some(FinalRecord {
        progress: None,
        body: vec![b'y'; 1_000],
        ..outcome::record(number, TaskState::Succeeded)
    });
    Outcome::Succeed { result }
}

/// Opens the broker as a worker; returns what it logs as well.
fn open(server: &RedisServer) -> (Arc<RedisBroker>, Log) {
    let log = Log::default();
    let options = RedisOptions::new(&server.url()).unwrap();
    let options = options.worker("w1".parse().unwrap());
    let options = options.log(Logger::root(log.clone(), o!()));
    (Arc::new(RedisBroker::open(options).unwrap()), log)
}

/// Settles what is held and all that is left.
async fn work_off(consumer: &mut Consumer, mut held: Vec<u64>) {
    while !held.is_empty() {
        let settlements = held
            .drain(..)
            .map(|tag| (tag, outcome::succeed()))
            .collect();
        let next = consumer.exchange(settlements, 100).await;
        assert_eq!(next.stale, [0; 0]);
        held = next
            .deliveries
            .iter()
            .map(|delivery| delivery.tag)
            .collect();
    }
}

/// Goal: full is not wedged. New tasks are refused with a clear error; fetching, renewing, marking, settling, releasing,
/// promoting, closing and sweeping go on; results lose their bodies and that is counted; freed memory is used at once.
#[test]
fn a_full_server_refuses_new_tasks_and_works_off_the_rest() {
    let server = RedisServer::start(ServerOptions {
        maxmemory: Some((6 << 20, "noeviction")),
        ..ServerOptions::default()
    });
    run(async {
        let (redis, log) = open(&server);
        let broker: Arc<dyn Broker> = redis.clone();
        let mut added = 0;
        let refusal = loop {
            match broker.enqueue(tasks(added)).await {
                Ok(_) => added += BATCH,
                Err(error) => break error,
            }
        };
        let BrokerError::Refused(text) = &refusal else {
            panic!("{refusal:?}")
        };
        assert!(text.contains("OOM") && text.contains("maxmemory"), "{text}");
        assert!(added > 100, "{added}");

        // Nothing of a refused call is there.
        let is = status(&*broker).await.unwrap();
        assert_eq!(u128::from(is.ready), added);
        assert_eq!(is.counters.outstanding(), i128::from(is.held()));

        let (one, other) = (incarnation("w1"), incarnation("w1"));
        broker.open(&one).await.unwrap();
        broker.open(&other).await.unwrap();
        let mut consumer = Consumer::new(Arc::clone(&broker), one);
        let mut second = Consumer::new(Arc::clone(&broker), other);
        assert_eq!(second.fetch(5).await.len(), 5);
        assert_eq!(consumer.fetch(20).await.len(), 20);
        assert_eq!(broker.renew(&queue(), &[consumer.id()]).await, Ok(vec![]));
        assert_eq!(broker.mark_started(&consumer.place(1)).await, Ok(true));
        assert_eq!(broker.release(&queue(), consumer.id(), &[20]).await, Ok(1));
        assert_eq!(
            broker.take(&consumer.place(19), outcome::bury()).await,
            Ok(true)
        );
        let retry = outcome::retry(18, Duration::ZERO);
        assert_eq!(consumer.settle(18, retry).await, [0; 0]);
        assert!(broker.promote_due(&queue(), 500).await.is_ok());
        assert!(broker.sweep(&queue(), 500).await.is_ok());
        assert_eq!(broker.close(&queue(), second.id()).await, Ok(5));
        // Its memory is still full: the body of a result has no room, its end has.
        let number = 1;
        assert_eq!(consumer.settle(1, succeed(number)).await, [0; 0]);
        assert_eq!(redis.dropped_results(), 1);
        assert_eq!(log.count("WARN results are dropped"), 1, "{log:?}");
        let id = outcome::record(number, TaskState::Succeeded).id;
        let kept = broker.result(&queue(), id).await.unwrap().unwrap();
        assert_eq!((kept.state, kept.body.len()), (TaskState::Succeeded, 0));

        // Worked off, there is room again.
        work_off(&mut consumer, (2..18).collect()).await;
        broker.enqueue(tasks(added)).await.unwrap();
        let is = status(&*broker).await.unwrap();
        let counted = is.counters;
        assert_eq!(counted.outstanding(), i128::from(is.held()));
        assert_eq!(u128::from(counted.enqueued), added + BATCH);
        assert_eq!((counted.dead, counted.stale), (1, 0));
        assert_eq!(u128::from(counted.succeeded), added - 1);
    });
}
