//! What waits at a server goes where the sentinels say, although the old server goes on answering.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker as _, Wake};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::servers::{PATIENCE, Server, installed};
use crate::redis::{RedisBroker, RedisOptions};

/// A sentinel that names whatever it is told to.
struct Sentinel {
    port: u16,
    master: Arc<AtomicU16>,
}

impl Sentinel {
    async fn start(master: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let master = Arc::new(AtomicU16::new(master));
        let named = Arc::clone(&master);
        drop(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                drop(tokio::spawn(answer(socket, Arc::clone(&named))));
            }
        }));
        Self { port, master }
    }
}

async fn answer(socket: TcpStream, master: Arc<AtomicU16>) {
    let mut lines = BufReader::new(socket).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.as_str() {
            "SETNAME" => "+OK\r\n".to_owned(),
            "ID" => ":7\r\n".to_owned(),
            "main" => {
                let port = master.load(Ordering::SeqCst).to_string();
                format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len())
            }
            _ => continue,
        };
        if lines.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn open(url: &str) -> Arc<RedisBroker> {
    let options = RedisOptions::new(url).unwrap().allow_volatile(true);
    Arc::new(RedisBroker::open(options).unwrap())
}

fn count(server: &Server, what: &str) -> usize {
    server.cli(&["CLIENT", "LIST"]).matches(what).count()
}

/// Goal: bells and channels of a server that was succeeded, and answers nevertheless, are left for those of its successor.
/// Method: two masters; the sentinel names one, then the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bells_and_channels_follow_the_master() {
    if !installed() {
        return;
    }
    let (old, new) = (Server::start("").await, Server::start("").await);
    let sentinel = Sentinel::start(old.port).await;
    let broker = open(&format!(
        "redis+sentinel://127.0.0.1:{}/main",
        sentinel.port
    ));
    let queue = QueueName::new("q").unwrap();
    let waiter = {
        let (broker, queue) = (Arc::clone(&broker), queue.clone());
        tokio::spawn(async move {
            loop {
                let woken = broker.wait(std::slice::from_ref(&queue), PATIENCE).await;
                // That it may have missed revocations while it moved is told as well.
                let woken = woken.unwrap_or_default();
                if woken.contains(&Wake::Ready(queue.clone())) {
                    return;
                }
            }
        })
    };
    let sits_at = |server: &Server| count(server, "cmd=blpop") > 0 && count(server, " sub=1") > 0;
    super::servers::until("it waits at the old one", || sits_at(&old)).await;
    sentinel.master.store(new.port, Ordering::SeqCst);
    let started = Instant::now();
    while !sits_at(&new) {
        // The sentinels are asked with the calls.
        drop(broker.queues().await);
        assert!(started.elapsed() < PATIENCE, "it does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!sits_at(&old));
    let other = open(&new.url());
    let call = celeriac_actors::testkit::conformance::task(1);
    let call = super::cluster::enqueue(&queue, celeriac_actors::ids::ChannelId::random(), 1, call);
    other.enqueue(call).await.unwrap();
    tokio::time::timeout(PATIENCE, waiter)
        .await
        .unwrap()
        .unwrap();
}

/// Goal: who begins to wait while another waits is heard at once, whatever the call that blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_more_is_listened_for_at_once() {
    if !installed() {
        return;
    }
    let server = Server::start("").await;
    let broker = open(&server.url());
    let mut waiters = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let queue = QueueName::new(name).unwrap();
        let (waiting, own) = (Arc::clone(&broker), queue.clone());
        waiters.push(tokio::spawn(async move {
            // It is told to read revocations as well, once it is subscribed to them.
            let ready = Wake::Ready(own.clone());
            let next = || waiting.wait(std::slice::from_ref(&own), PATIENCE);
            while !next().await.unwrap().contains(&ready) {}
        }));
        super::servers::until("it blocks", || count(&server, "cmd=blpop") == 1).await;
        if name != "a" {
            let channel = celeriac_actors::ids::ChannelId::random();
            let task = celeriac_actors::testkit::conformance::task(1);
            let call = super::cluster::enqueue(&queue, channel, 1, task);
            broker.enqueue(call).await.unwrap();
            waiters.pop().unwrap().await.unwrap();
        }
    }
    waiters.pop().unwrap().abort();
}
