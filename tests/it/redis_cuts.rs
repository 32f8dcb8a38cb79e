//! The connection is cut at every byte of a request and of its reply: whoever repeats the call gets what it would have
//! got, and nothing happens twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac::redis::{RedisBroker, RedisOptions};
use celeriac_actors::ids::ChannelId;
use celeriac_actors::lease::Outcome;
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, QueueStatus, id_of};
use celeriac_actors::state::TaskState;
use celeriac_actors::testkit::conformance::{Consumer, outcome, run, task};

use crate::redis_proxy::{At, Cut, Fate, Proxy};
use crate::redis_shared::{namespace, server, with};
use crate::redis_works::{incarnation, queue, status};

/// How many tasks travel together.
const BATCH: u128 = 3;

struct Bench {
    proxy: Proxy,
    broker: Arc<dyn Broker>,
    added: u128,
}

impl Bench {
    /// Opens a broker behind a proxy and has the server learn the scripts.
    async fn open() -> Self {
        let proxy = Proxy::start(server().port);
        let url = with(&proxy.url(), "namespace", &namespace("cut"));
        let broker = RedisBroker::open(RedisOptions::new(&url).unwrap()).unwrap();
        let mut bench = Self {
            proxy,
            broker: Arc::new(broker),
            added: 0,
        };
        let warm_up = bench.call(ChannelId::random());
        bench.broker.enqueue(warm_up).await.unwrap();
        bench
    }

    /// Makes the next tasks, as the first call of a channel.
    fn call(&mut self, channel: ChannelId) -> Arc<EnqueueCall> {
        let first = self.added + 1;
        self.added += BATCH;
        Arc::new(EnqueueCall {
            queue: queue(),
            channel,
            number: 1,
            tasks: (first..=self.added).map(task).collect(),
            kind: EnqueueKind::New,
            remember: Duration::from_secs(60),
        })
    }

    fn cut(&self, needle: &str, at: At) {
        self.proxy.cut(Cut {
            needle: needle.as_bytes().to_vec(),
            nth: 1,
            at,
        });
    }

    /// Makes a call until it is answered. It is answered at once if and only if the whole reply came through.
    async fn insist<T>(&self, at: At, mut call: impl AsyncFnMut() -> Result<T, BrokerError>) -> T {
        let first = call().await;
        let is_behind = matches!(self.proxy.fate(), Fate::CutBehind { .. });
        let is_behind = is_behind && matches!(at, At::Reply(_));
        match first {
            Ok(answer) if is_behind => answer,
            Err(BrokerError::Unavailable(why)) => {
                assert!(!is_behind, "the reply came whole: {why}");
                assert!(why.contains("unknown"), "{why}");
                call().await.unwrap()
            }
            other => panic!("{:?} at {:?}", other.err(), self.proxy.fate()),
        }
    }

    /// Makes a call again; that its connection was cut behind the last reply may be found out only now.
    async fn again<T>(&self, mut call: impl AsyncFnMut() -> Result<T, BrokerError>) -> T {
        match call().await {
            Err(BrokerError::Unavailable(_)) => call().await.unwrap(),
            answer => answer.unwrap(),
        }
    }

    async fn status(&self) -> QueueStatus {
        let status = status(&*self.broker).await.unwrap();
        let outstanding = status.counters.outstanding();
        assert_eq!(outstanding, i128::from(status.held()), "{status:?}");
        status
    }
}

/// Cuts within requests, then within replies, one byte further each time; returns after the first cut behind the end.
async fn at_every_byte(bench: &mut Bench, mut step: impl AsyncFnMut(&mut Bench, At)) -> [usize; 2] {
    let mut lens = [0, 0];
    for (len, side) in lens.iter_mut().zip([At::Request, At::Reply]) {
        for through in 0.. {
            step(bench, side(through)).await;
            match bench.proxy.fate() {
                Fate::Cut { len: all } => assert!(through < all),
                Fate::CutBehind { len: all } => {
                    *len = all;
                    break;
                }
                Fate::Pending => panic!("the call was never seen"),
            }
        }
    }
    lens
}

/// Goal: an enqueue that is repeated after a cut anywhere adds its tasks once.
#[test]
fn an_enqueue_survives_a_cut_at_every_byte() {
    run(async {
        let mut bench = Bench::open().await;
        let lens = at_every_byte(&mut bench, async |bench: &mut Bench, at| {
            let channel = ChannelId::random();
            let call = bench.call(channel);
            bench.cut(&channel.as_uuid().simple().to_string(), at);
            let enqueue = async || bench.broker.enqueue(Arc::clone(&call)).await;
            let added = bench.insist(at, enqueue).await;
            assert_eq!(bench.again(enqueue).await, added, "a repeat is identical");
        });
        let lens = lens.await;
        let counted = bench.status().await;
        assert_eq!(u128::from(counted.ready), bench.added);
        assert_eq!(u128::from(counted.counters.enqueued), bench.added);
        assert!(lens[0] > 200 && lens[1] > 10, "{lens:?}");
    });
}

/// Goal: a settle-and-fetch that is repeated after a cut anywhere settles once, hands out once, and forgets nothing.
#[test]
fn an_exchange_survives_a_cut_at_every_byte() {
    run(async {
        let mut bench = Bench::open().await;
        let incarnation = incarnation("w1");
        bench.broker.open(&incarnation).await.unwrap();
        let id = incarnation.id.as_uuid().simple().to_string();
        let mut consumer = Consumer::new(Arc::clone(&bench.broker), incarnation);
        let (mut seen, mut held) = (BTreeSet::new(), Vec::new());
        let lens = at_every_byte(&mut bench, async |bench: &mut Bench, at| {
            let more = bench.call(ChannelId::random());
            bench.broker.enqueue(more).await.unwrap();
            let settlements = held.drain(..).map(settlement).collect();
            let call = consumer.call(settlements, 3);
            bench.cut(&id, at);
            let exchange = async || bench.broker.exchange(Arc::clone(&call)).await;
            let exchanged = bench.insist(at, exchange).await;
            assert_eq!(exchanged.stale, [0; 0]);
            let again = bench.again(exchange).await;
            assert_eq!(again, exchanged, "a repeat is identical");
            for delivery in exchanged.deliveries {
                let id = id_of(&delivery.frame).unwrap().as_uuid().as_u128();
                assert!(seen.insert(id), "task {id} was handed out twice");
                held.push((delivery.tag, id));
            }
            assert_eq!(held.len(), 3);
        });
        let lens = lens.await;
        assert!(lens[0] > 400 && lens[1] > 150, "{lens:?}");
        consumer
            .exchange(held.drain(..).map(settlement).collect(), 0)
            .await;
        let status = bench.status().await;
        assert_eq!((status.active, status.counters.stale), (0, 0));
        let third = u64::try_from(seen.len()).unwrap() / 3;
        let counted = status.counters;
        let ended = (counted.succeeded, counted.cancelled, counted.dead);
        assert_eq!(ended, (third, third, third));
        assert_eq!(status.dead_outbox, third);
    });
}

/// One of three ends well, with a result; one is cancelled; one dies.
fn settlement((tag, number): (u64, u128)) -> (u64, Outcome) {
    let end = match number % 3 {
        0 => Outcome::Succeed {
            result: Some(outcome::record(number, TaskState::Succeeded)),
        },
        1 => Outcome::Cancel { result: None },
        _ => outcome::bury(),
    };
    (tag, end)
}
