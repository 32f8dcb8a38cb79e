//! The promise of the spool under every accident: what was acknowledged reaches the broker once, and in order.
//!
//! The real producer, book and courier against the memory broker. Relaying is taken apart into its steps, and whoever
//! relays may die between any two of them, or in the middle of a transaction; two may relay at once, although the lock
//! keeps them from it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{ChannelId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{
    Broker, EnqueueCall, EnqueueKind, NewTask, Sent, Spool, SpoolError, When,
};
use celeriac_actors::producer::{EnqueueOptions, Prepared, Producer, ProducerOptions};
use celeriac_actors::testkit::conformance::task;
use celeriac_actors::testkit::{Fault, ManualClock, MemoryBroker, Method};
use celeriac_actors::time::Clock;
use proptest::prelude::*;

use super::book::{Book, Bounds, Frozen};
use super::courier::{Courier, Verdict};

const BOUNDS: Bounds = Bounds {
    tasks: 10_000,
    bytes: 1 << 30,
};
const QUEUES: [&str; 2] = ["a", "b"];

/// A spool without threads: every step is a transaction at once.
#[derive(Debug)]
struct Plain {
    book: Mutex<Book>,
    clock: Arc<ManualClock>,
    /// The next step is done and then undone, as by a crash before its commit.
    breaks: Mutex<bool>,
}

impl Plain {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            book: Mutex::new(Book::open(std::path::Path::new(":memory:")).unwrap()),
            clock: Arc::new(ManualClock::new()),
            breaks: Mutex::new(false),
        })
    }

    /// Runs a step in a transaction; `None` when it was undone.
    fn step<T>(&self, step: impl FnOnce(&mut Book) -> T) -> Option<T> {
        let mut book = self.book.lock().unwrap();
        book.db.run("BEGIN IMMEDIATE", &[]).unwrap();
        let done = step(&mut book);
        if std::mem::take(&mut *self.breaks.lock().unwrap()) {
            book.db.run("ROLLBACK", &[]).unwrap();
            return None;
        }
        book.db.run("COMMIT", &[]).unwrap();
        Some(done)
    }

    fn put(&self, call: &EnqueueCall, sent: Sent) -> Option<Result<(), SpoolError>> {
        let now = self.clock.now();
        self.step(|book| book.put(call, sent, (BOUNDS, now)).unwrap())
    }
}

#[async_trait]
impl Spool for Plain {
    fn holds(&self, queue: &QueueName) -> Result<bool, SpoolError> {
        Ok(self.book.lock().unwrap().holds(queue.as_str()).unwrap())
    }

    async fn put(&self, call: Arc<EnqueueCall>, sent: Sent) -> Result<(), SpoolError> {
        let broken = || Err(SpoolError::Unknown("it broke".to_owned()));
        Plain::put(self, &call, sent).unwrap_or_else(broken)
    }

    async fn drain(&self, _: Duration) -> Result<u64, SpoolError> {
        Ok(0)
    }
}

/// Somebody who relays, one step at a time.
#[derive(Default)]
struct Carrier {
    courier: Courier,
    hand: Hand,
}

#[derive(Default)]
enum Hand {
    #[default]
    Empty,
    Frozen(Frozen),
    Judged(Frozen, Verdict),
}

impl Carrier {
    /// Makes the next step.
    async fn step(&mut self, spool: &Plain, broker: &MemoryBroker) {
        match std::mem::take(&mut self.hand) {
            Hand::Empty => {
                let courier = &mut self.courier;
                let next = spool.step(|book| {
                    let queue = book.queues().unwrap().first()?.parse().unwrap();
                    courier.next(book, &queue, None).unwrap()
                });
                match next {
                    Some(Some(frozen)) => self.hand = Hand::Frozen(frozen),
                    Some(None) => {}
                    None => *self = Self::default(),
                }
            }
            Hand::Frozen(frozen) => {
                let outcome = broker.enqueue(Arc::new(frozen.call.clone())).await;
                let verdict = self.courier.judge(&frozen, outcome);
                self.hand = Hand::Judged(frozen, verdict);
            }
            Hand::Judged(frozen, verdict) => {
                let courier = &mut self.courier;
                let applied = spool.step(|book| courier.apply(book, &frozen, &verdict).unwrap());
                if applied.is_none() {
                    *self = Self::default();
                }
            }
        }
    }

    async fn until_empty(&mut self, spool: &Plain, broker: &MemoryBroker) {
        for _ in 0..10_000 {
            if spool.book.lock().unwrap().held().unwrap().tasks == 0 {
                return;
            }
            self.step(spool, broker).await;
        }
        panic!("it never ends");
    }
}

/// What happens in a history.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A producer adds tasks.
    Add { queue: usize, tasks: usize },
    /// The broker, from now on or once.
    Broker(Option<Fault>),
    /// A carrier makes steps.
    Carry { who: usize, steps: usize },
    /// A carrier dies.
    Kill { who: usize },
    /// The next transaction of the spool is undone.
    Break,
}

fn event() -> impl Strategy<Value = Event> {
    let method = Method::Enqueue;
    let fault = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Fault::Away)),
        1 => Just(Some(Fault::Full)),
        2 => Just(Some(Fault::LostReply { method, times: 1 })),
        1 => Just(Some(Fault::Unanswered { method, times: 1 })),
    ];
    prop_oneof![
        4 => (0..2_usize, 1..4_usize).prop_map(|(queue, tasks)| Event::Add { queue, tasks }),
        4 => fault.prop_map(Event::Broker),
        5 => (0..2_usize, 1..8_usize).prop_map(|(who, steps)| Event::Carry { who, steps }),
        2 => (0..2_usize).prop_map(|who| Event::Kill { who }),
        1 => Just(Event::Break),
    ]
}

fn queue(at: usize) -> QueueName {
    QUEUES[at].parse().unwrap()
}

/// Returns the ids that are ready in a queue, in order.
fn ready(broker: &MemoryBroker, queue: &QueueName) -> Vec<u64> {
    let line = broker.snapshot(queue);
    let list = line.split(['[', ']']).nth(1).unwrap_or_default();
    list.split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

async fn play(events: &[Event]) {
    let spool = Plain::new();
    let broker = Arc::new(MemoryBroker::new(spool.clock.clone()));
    let options = ProducerOptions {
        spool: Some(spool.clone()),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(broker.clone(), spool.clock.clone(), options);
    let mut carriers = [Carrier::default(), Carrier::default()];
    let mut acknowledged = [const { Vec::new() }; 2];
    let mut open = [const { Vec::new() }; 2];
    let mut last = 0;
    for event in events {
        match *event {
            Event::Add { queue, tasks } => {
                let ids: Vec<u64> = (0..tasks)
                    .map(|_| {
                        last += 1;
                        last
                    })
                    .collect();
                let prepared = ids.iter().map(|id| prepared(&producer, queue, *id));
                match producer.add(prepared.collect()).await {
                    Ok(_) => acknowledged[queue].extend(ids),
                    Err(error) if error.may_have_been_accepted() => open[queue].extend(ids),
                    Err(error) => panic!("{error}"),
                }
            }
            Event::Broker(None) => broker.heal(),
            Event::Broker(Some(fault)) => broker.plan(fault),
            Event::Carry { who, steps } => {
                for _ in 0..steps {
                    carriers[who].step(&spool, &broker).await;
                }
            }
            Event::Kill { who } => carriers[who] = Carrier::default(),
            Event::Break => *spool.breaks.lock().unwrap() = true,
        }
    }
    *spool.breaks.lock().unwrap() = false;
    broker.heal();
    let [mut first, mut second] = carriers;
    for _ in 0..3 {
        second.step(&spool, &broker).await;
    }
    first.until_empty(&spool, &broker).await;
    let counted = broker.queues().await.unwrap();
    for at in 0..2 {
        let there = ready(&broker, &queue(at));
        // What nobody acknowledged may be there, but once.
        let mut once = there.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), there.len(), "nothing twice: {there:?}");
        let promised: Vec<u64> = there
            .iter()
            .copied()
            .filter(|id| !open[at].contains(id))
            .collect();
        assert_eq!(promised, acknowledged[at], "all of it, in order");
        let enqueued = counted.iter().find(|status| status.queue == queue(at));
        let enqueued = enqueued.map_or(0, |status| status.counters.enqueued);
        assert_eq!(enqueued, there.len() as u64, "and counted so");
    }
}

fn prepared(producer: &Producer, at: usize, id: u64) -> Prepared {
    let options = EnqueueOptions::default()
        .queue(queue(at))
        .id(TaskId::from(uuid::Uuid::from_u128(u128::from(id))));
    let name = TaskName::new("t").unwrap();
    producer
        .prepare_encoded(&name, "default", &[0xc0], options)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_arrives_once_and_in_order(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(&events));
    }
}

fn call(tasks: Vec<NewTask>) -> EnqueueCall {
    EnqueueCall {
        queue: queue(0),
        channel: ChannelId::random(),
        number: 1,
        tasks,
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    }
}

fn garbage() -> NewTask {
    NewTask {
        frame: b"no frame".to_vec(),
        when: When::Now,
    }
}

/// Goal: a task that the broker will never take holds up nothing.
#[tokio::test]
async fn what_is_rejected_is_put_aside_alone() {
    let spool = Plain::new();
    let broker = MemoryBroker::new(spool.clock.clone());
    let mut tasks: Vec<NewTask> = (1..=20).map(task).collect();
    tasks.insert(13, garbage());
    tasks.insert(3, garbage());
    assert_eq!(spool.put(&call(tasks), Sent::Never), Some(Ok(())));
    Carrier::default().until_empty(&spool, &broker).await;
    let expected: Vec<u64> = (1..=20).collect();
    assert_eq!(ready(&broker, &queue(0)), expected);
    assert_eq!(spool.book.lock().unwrap().rejected().unwrap(), 2);
}

/// Goal: a broker that went back in time, and knows the channel otherwise, gets what waits all the same.
#[tokio::test]
async fn a_channel_that_the_broker_knows_otherwise_is_left() {
    let spool = Plain::new();
    let broker = MemoryBroker::new(spool.clock.clone());
    let mut frozen = call(vec![task(7), task(8)]);
    let earlier = EnqueueCall {
        number: 3,
        ..call(vec![task(1)])
    };
    (frozen.channel, frozen.number) = (earlier.channel, 9);
    broker.enqueue(Arc::new(earlier)).await.unwrap();
    assert_eq!(spool.put(&frozen, Sent::Perhaps), Some(Ok(())));
    assert_eq!(spool.put(&call(vec![task(9)]), Sent::Never), Some(Ok(())));
    Carrier::default().until_empty(&spool, &broker).await;
    assert_eq!(ready(&broker, &queue(0)), [1, 7, 8, 9]);
}

/// Goal: what waits has a bound, in tasks and in bytes, and there is room again once it was relayed.
#[tokio::test]
async fn it_is_full_at_its_bound() {
    let spool = Plain::new();
    let broker = MemoryBroker::new(spool.clock.clone());
    let now = spool.clock.now();
    for bounds in [
        Bounds {
            tasks: 2,
            bytes: u64::MAX,
        },
        Bounds {
            tasks: u64::MAX,
            bytes: 3 * (64 + 60) - 1,
        },
    ] {
        let put = |numbers: std::ops::Range<u128>| {
            let call = call(numbers.map(task).collect());
            spool.step(|book| book.put(&call, Sent::Never, (bounds, now)).unwrap())
        };
        assert_eq!(put(1..3), Some(Ok(())));
        let full = put(3..6);
        assert!(matches!(&full, Some(Err(SpoolError::Full(_)))), "{full:?}");
        Carrier::default().until_empty(&spool, &broker).await;
        assert_eq!(put(3..5), Some(Ok(())));
        Carrier::default().until_empty(&spool, &broker).await;
    }
}
