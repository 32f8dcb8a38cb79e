//! A cluster: keys find their server, also while they move and when a server dies.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName, WorkerId};
use celeriac_actors::lease::{Incarnation, Outcome};
use celeriac_actors::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, NewTask};
use celeriac_actors::testkit::conformance::{Consumer, task};
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::servers::{PATIENCE, Server, free_port, insist, installed, told, until};
use crate::redis::link::Links;
use crate::redis::topology::slots::slot_of;
use crate::redis::{RedisBroker, RedisOptions};

const RANGES: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let mut nodes = Vec::new();
        for (number, (first, last)) in RANGES.iter().enumerate() {
            let bus = free_port();
            let config = format!(
                "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 1000\ncluster-require-full-coverage no"
            );
            let node = Server::start(&config).await;
            let epoch = (number + 1).to_string();
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            node.cli(&[
                "CLUSTER",
                "ADDSLOTSRANGE",
                &first.to_string(),
                &last.to_string(),
            ]);
            nodes.push((node, bus));
        }
        let (first, others) = nodes.split_first().unwrap();
        for (node, bus) in others {
            let (port, bus) = (node.port.to_string(), bus.to_string());
            first.0.cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let nodes: Vec<Server> = nodes.into_iter().map(|(node, _)| node).collect();
        let whole = |node: &Server| {
            let info = node.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_slots_ok:16384") && info.contains("cluster_state:ok")
        };
        while !nodes.iter().all(whole) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { nodes }
    }

    /// Returns connections that know one server to begin with.
    fn links(&self, seed: usize) -> Links {
        let url = format!(
            "redis+cluster://localhost:{}?timeout=5s",
            self.nodes[seed].port
        );
        Links::new(&RedisOptions::new(&url).unwrap()).unwrap()
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"])
    }

    /// Gives a slot that a node has to another, in the steps of a resharding.
    fn begin_move(&self, slot: &str, from: usize, to: usize) {
        self.nodes[to].cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", &self.id(from)]);
        self.nodes[from].cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &self.id(to)]);
    }

    /// Gives a slot to another server, key by key.
    async fn move_slot(&self, slot: &str, from: usize, to: usize) {
        self.begin_move(slot, from, to);
        let port = self.nodes[to].port.to_string();
        loop {
            let key = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", slot, "1"]);
            if key.is_empty() {
                break;
            }
            let moved = ["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"];
            self.nodes[from].cli(&moved);
            // Calls come between one key and the next.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.end_move(slot, to);
    }

    fn end_move(&self, slot: &str, to: usize) {
        for node in [to, 0, 1, 2] {
            self.nodes[node].cli(&["CLUSTER", "SETSLOT", slot, "NODE", &self.id(to)]);
        }
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command
}

async fn run(links: &Links, words: &[&str]) -> Result<Value, BrokerError> {
    links
        .query(slot_of(words[1].as_bytes()), &command(words))
        .await
}

fn ok() -> Value {
    Value::Okay
}

fn bulk(text: &str) -> Value {
    Value::BulkString(text.into())
}

#[tokio::test]
async fn every_key_finds_its_server() {
    if !installed() {
        return;
    }
    let cluster = Cluster::start().await;
    let links = cluster.links(1);
    for number in 0..30 {
        let key = format!("key:{{{number}}}");
        let answer = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", &key]);
        assert_eq!(slot_of(key.as_bytes()).0.to_string(), answer);
        assert_eq!(run(&links, &["SET", &key, "x"]).await, Ok(ok()));
    }
    let masters = links.masters().await.unwrap();
    assert_eq!(masters.len(), 3);
    let mut total = 0;
    for master in &masters {
        match links.send_to(master, &redis::cmd("DBSIZE")).await {
            Ok(Value::Int(size)) => total += size,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(total, 30);
}

/// Goal: calls go on while a slot moves from one server to another.
/// Method: the steps of a resharding one by one, with a call at each.
#[tokio::test]
async fn a_slot_is_followed_while_it_moves() {
    if !installed() {
        return;
    }
    let cluster = Cluster::start().await;
    let links = cluster.links(0);
    // `foo` lies in slot 12182, which the third server has.
    let slot = "12182";
    assert_eq!(run(&links, &["SET", "foo", "1"]).await, Ok(ok()));
    cluster.begin_move(slot, 2, 0);
    // Still there.
    assert_eq!(run(&links, &["GET", "foo"]).await, Ok(bulk("1")));
    // Not there (any more): the old server sends us to the new one, once.
    assert_eq!(run(&links, &["SET", "{foo}new", "2"]).await, Ok(ok()));
    assert_eq!(run(&links, &["GET", "{foo}new"]).await, Ok(bulk("2")));
    // Split between both: refused until they are together again.
    let both = command(&["MGET", "foo", "{foo}new"]);
    let split = links
        .query(slot_of(b"foo"), &both)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        split.contains("TRYAGAIN") && split.contains("nothing happened"),
        "{split}"
    );
    let target = cluster.nodes[0].port.to_string();
    cluster.nodes[2].cli(&["MIGRATE", "127.0.0.1", &target, "foo", "0", "1000"]);
    assert_eq!(
        links.query(slot_of(b"foo"), &both).await,
        Ok(Value::Array(vec![bulk("1"), bulk("2")]))
    );
    cluster.end_move(slot, 0);
    assert_eq!(run(&links, &["GET", "foo"]).await, Ok(bulk("1")));
    assert_eq!(
        links.topology_known(slot_of(b"foo")).unwrap().to_string(),
        format!("127.0.0.1:{target}")
    );
    // A connection of one's own goes to the right server at once.
    let mut own = links.dedicated(slot_of(b"foo")).await.unwrap();
    let got = own
        .connection
        .send_packed_command(&command(&["GET", "foo"]))
        .await;
    assert_eq!(got.unwrap(), bulk("1"));
}

pub(super) fn enqueue(
    queue: &QueueName,
    channel: ChannelId,
    number: u64,
    task: NewTask,
) -> Arc<EnqueueCall> {
    Arc::new(EnqueueCall {
        queue: queue.clone(),
        channel,
        number,
        tasks: vec![task],
        kind: EnqueueKind::New,
        remember: Duration::from_secs(3_600),
    })
}

/// Makes a call until it is answered; whatever fails on the way is an outage, and no step that broke off.
async fn repeat<T, F: Future<Output = Result<T, BrokerError>>>(mut call: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                let text = error.to_string();
                assert!(error.is_outage() && !text.contains("user_script"), "{text}");
                assert!(started.elapsed() < PATIENCE, "{text}");
            }
        }
    }
}

/// Goal: while a slot moves key by key, every step on it happens whole and once: nothing is lost, nothing is doubled.
/// Method: a producer and a consumer call on and on while the slot goes to another server and back, several times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_are_whole_while_their_slot_moves() {
    const TASKS: u64 = 400;
    if !installed() {
        return;
    }
    let cluster = Cluster::start().await;
    let url = format!("redis+cluster://127.0.0.1:{}", cluster.nodes[0].port);
    let options = RedisOptions::new(&url).unwrap().allow_volatile(true);
    let broker: Arc<dyn Broker> = Arc::new(RedisBroker::open(options).unwrap());
    let queue = QueueName::new("q").unwrap();
    let slot = slot_of(b"celeriac:{q}:");
    let done = Arc::new(AtomicU64::new(0));

    let (producing, to) = (Arc::clone(&broker), queue.clone());
    let producer = tokio::spawn(async move {
        let channel = ChannelId::random();
        for number in 1..=TASKS {
            let call = enqueue(&to, channel, number, task(u128::from(number)));
            repeat(|| producing.enqueue(Arc::clone(&call))).await;
        }
    });
    let incarnation = Incarnation {
        id: IncarnationId::random(),
        queue: queue.clone(),
        worker: WorkerId::new("w").unwrap(),
        lane: 0,
        lease: Duration::from_secs(600),
    };
    repeat(|| broker.open(&incarnation)).await;
    let mut consumer = Consumer::new(Arc::clone(&broker), incarnation);
    let counted = Arc::clone(&done);
    let consumer = tokio::spawn(async move {
        let (mut seen, mut settled) = (BTreeSet::new(), Vec::new());
        while (seen.len() as u64) < TASKS || !settled.is_empty() {
            let call = consumer.call(std::mem::take(&mut settled), 3);
            let got = repeat(|| consumer.broker.exchange(Arc::clone(&call))).await;
            assert_eq!(got.stale, Vec::<u64>::new(), "a delivery got lost");
            for delivery in got.deliveries {
                assert!(seen.insert(delivery.frame[40..].to_vec()), "came twice");
                settled.push((delivery.tag, Outcome::Succeed { result: None }));
            }
            counted.store(seen.len() as u64, Ordering::SeqCst);
        }
    });

    // Between two moves some work is done, so that each finds other keys there; at least four moves, to and fro.
    let begins = |node: &Server| {
        let keys = node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot.0.to_string()]);
        keys != "0"
    };
    until("there is work", || cluster.nodes.iter().any(begins)).await;
    let mut owner = cluster.nodes.iter().position(begins).unwrap();
    let mut moves = 0;
    while moves < 4 || done.load(Ordering::SeqCst) < TASKS / 2 {
        let to = (owner + 1) % 3;
        cluster.move_slot(&slot.0.to_string(), owner, to).await;
        (owner, moves) = (to, moves + 1);
        let before = done.load(Ordering::SeqCst);
        until("some more is done", || {
            let now = done.load(Ordering::SeqCst);
            now >= TASKS.min(before + 20)
        })
        .await;
    }
    producer.await.unwrap();
    consumer.await.unwrap();
    let status = repeat(|| broker.queues()).await.remove(0);
    assert_eq!((status.held(), status.dead_outbox), (0, 0));
    let counters = (status.counters.enqueued, status.counters.succeeded);
    assert_eq!(counters, (TASKS, TASKS), "after {moves} moves");
}

#[tokio::test]
async fn a_dead_server_costs_its_own_slots_only_and_comes_back() {
    if !installed() {
        return;
    }
    let mut cluster = Cluster::start().await;
    let links = cluster.links(2);
    for key in ["foo", "bar", "hello"] {
        assert_eq!(run(&links, &["SET", key, key]).await, Ok(ok()));
    }
    cluster.nodes[2].kill(); // It was the seed, and has `foo`.
    let gone = run(&links, &["GET", "foo"]).await.unwrap_err();
    assert!(gone.is_outage(), "{gone}");
    for key in ["bar", "hello"] {
        assert_eq!(run(&links, &["GET", key]).await, Ok(bulk(key)));
        assert!(!links.is_whole(), "others answer, that one does not");
    }
    cluster.nodes[2].restart().await;
    let set = command(&["SET", "foo", "again"]);
    assert_eq!(insist(&links, slot_of(b"foo"), &set).await, ok());
    assert!(links.is_whole());
}

#[tokio::test]
async fn a_server_that_is_in_no_cluster_says_so() {
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let url = format!("redis+cluster://127.0.0.1:{}?timeout=1s", server.port);
    let links = Links::new(&RedisOptions::new(&url).unwrap()).unwrap();
    let get = command(&["GET", "foo"]);
    told(&links, slot_of(b"foo"), &get, "cluster support disabled").await;
}
