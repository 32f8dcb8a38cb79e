//! The spool in front of a real Redis server: kills on both sides, lost answers, a full server. Nothing that was
//! acknowledged is lost, nothing is doubled, and the order stays.
//!
//! A process that is killed is this test binary again, running one ignored test in a directory of its own.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use celeriac::client::Client;
use celeriac::clock::SystemClock;
use celeriac::late::LateBroker;
use celeriac::redis::{RedisBroker, RedisOptions};
use celeriac::spool::{SpoolOptions, SqliteSpool};
use celeriac_actors::ids::{QueueName, TaskId, TaskName};
use celeriac_actors::ports::{Broker, BrokerError, ScanRequest, Spool as _, id_of};
use celeriac_actors::producer::{Added, EnqueueError, EnqueueOptions, ProducerOptions};
use celeriac_actors::state::TaskState;

use crate::daemon::{PATIENCE, eventually};
use crate::redis_proxy::{At, Cut, Fate, Proxy};
use crate::redis_server::{Persistence, RedisServer, ServerOptions};

const SPOOL: &str = "spool.db";
/// A name that no other request contains.
const NAME: &str = "spooled.number";

fn queue() -> QueueName {
    "default".parse().unwrap()
}

fn server() -> RedisServer {
    RedisServer::start(ServerOptions {
        persistence: Persistence::AofAlways,
        ..ServerOptions::default()
    })
}

fn open(url: &str) -> Result<Arc<dyn Broker>, String> {
    let options = RedisOptions::new(url).map_err(|error| error.to_string())?;
    let broker = RedisBroker::open(options.allow_volatile(true));
    Ok(Arc::new(broker.map_err(|error| error.to_string())?))
}

/// A client with a spool in a directory, whose broker may be away.
struct Spooling {
    client: Client,
    spool: Arc<SqliteSpool>,
}

impl Spooling {
    fn open(directory: &Path, url: &str) -> Self {
        let url = url.to_owned();
        let broker: Arc<dyn Broker> = Arc::new(LateBroker::new(move || open(&url)));
        let options = SpoolOptions::new(directory.join(SPOOL));
        let spool = Arc::new(SqliteSpool::open(options, Arc::clone(&broker)).unwrap());
        let options = ProducerOptions {
            spool: Some(spool.clone()),
            ..ProducerOptions::default()
        };
        Self {
            client: Client::new(broker, Arc::new(SystemClock), options),
            spool,
        }
    }

    async fn add(&self, numbers: impl IntoIterator<Item = u128>) -> Result<Added, EnqueueError> {
        let producer = self.client.producer();
        let prepare = |number| {
            let id = TaskId::from(uuid::Uuid::from_u128(number));
            let options = EnqueueOptions::default().queue(queue()).id(id);
            let name = TaskName::new(NAME).unwrap();
            producer
                .prepare_encoded(&name, "default", &[0xc0], options)
                .unwrap()
        };
        let tasks = numbers.into_iter().map(prepare).collect();
        producer.add(tasks).await
    }

    /// Waits until everything was relayed.
    async fn drained(&self) {
        let limit = PATIENCE;
        let drained = async { while self.spool.drain(limit).await.unwrap() > 0 {} };
        tokio::time::timeout(limit, drained).await.unwrap();
    }
}

/// Returns the ids of all ready tasks, in order, and how many tasks were counted as enqueued.
async fn there(broker: &dyn Broker) -> Result<(Vec<u128>, u64), BrokerError> {
    let mut request = ScanRequest {
        queue: queue(),
        state: TaskState::Ready,
        after: None,
        limit: 500,
    };
    let mut ids = Vec::new();
    loop {
        let page = broker.scan(&request).await?;
        let found = page.tasks.iter().filter_map(|task| id_of(&task.frame));
        ids.extend(found.map(|id| id.as_uuid().as_u128()));
        request.after = page.next;
        if request.after.is_none() {
            break;
        }
    }
    Ok((ids, counted(broker).await?))
}

async fn counted(broker: &dyn Broker) -> Result<u64, BrokerError> {
    let queues = broker.queues().await?;
    let status = queues.iter().find(|status| status.queue == queue());
    Ok(status.map_or(0, |status| status.counters.enqueued))
}

fn both(accepted: usize, spooled: usize) -> Added {
    Added { accepted, spooled }
}

/// Another process that enqueues so many numbers after the other and says so after each acknowledgement.
struct Enqueuer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    size: u128,
    acknowledged: Vec<u128>,
}

impl Enqueuer {
    fn start(directory: &Path, from: u128, size: u128) -> Self {
        std::fs::write(directory.join("from"), from.to_string()).unwrap();
        std::fs::write(directory.join("size"), size.to_string()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "spool::enqueue_and_say_so",
            ])
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            lines,
            size,
            acknowledged: Vec::new(),
        }
    }

    /// Hears the next acknowledgement; returns who gave it, `None` at the end.
    fn hear(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.ok()?;
            let Some(said) = line.split("> ").nth(1) else {
                continue;
            };
            let (number, by) = said.split_once(' ')?;
            let first: u128 = number.parse().ok()?;
            self.acknowledged.extend(first..first + self.size);
            return Some(by.to_owned());
        }
    }

    /// Hears until so many more came from `by`.
    fn until(&mut self, by: &str, count: usize) {
        let mut left = count;
        while left > 0 {
            let from = self.hear().expect("it goes on");
            left -= usize::from(from == by);
        }
    }

    /// Kills it; returns what it had acknowledged, also what it said last.
    fn kill(mut self) -> Vec<u128> {
        self.child.kill().unwrap();
        while self.hear().is_some() {}
        self.child.wait().unwrap();
        self.acknowledged
    }
}

#[test]
#[ignore = "the other process of a test"]
fn enqueue_and_say_so() {
    let url = std::fs::read_to_string("url").unwrap();
    let number = |file| std::fs::read_to_string(file).unwrap().parse().unwrap();
    let (from, size): (u128, u128) = (number("from"), number("size"));
    run(async {
        let spooling = Spooling::open(Path::new("."), &url);
        for step in 0.. {
            let number = from + step * size;
            let added = spooling.add(number..number + size).await.unwrap();
            let by = if added.spooled > 0 { "spool" } else { "broker" };
            println!("> {number} {by}");
            std::io::stdout().flush().unwrap();
        }
    });
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test);
}

/// Goal: everything that was acknowledged, by the server or by the spool, is at the server once and in order, whoever was
/// killed when.
/// Method: the server is killed under an enqueuing process, which goes on; that is killed, and its successor; the server
/// comes back under the third, which is killed while it relays; the fourth relays the rest.
#[test]
fn kills_on_both_sides_lose_and_double_nothing() {
    let mut server = server();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("url"), server.url()).unwrap();
    let mut acknowledged = Vec::new();

    let mut first = Enqueuer::start(dir.path(), 1, 1);
    first.until("broker", 50);
    server.kill();
    first.until("spool", 100);
    acknowledged.extend(first.kill());

    let mut second = Enqueuer::start(dir.path(), 1_000_000, 500);
    second.until("spool", 40);
    acknowledged.extend(second.kill());

    let mut third = Enqueuer::start(dir.path(), 2_000_000, 3);
    third.until("spool", 20);
    server.restart();
    // What it says meanwhile is read when it is killed.
    run(async {
        let looking = open(&server.url()).unwrap();
        eventually("much of it is relayed", async || {
            (counted(&*looking).await.unwrap() >= 3_000).then_some(())
        })
        .await;
    });
    acknowledged.extend(third.kill());

    run(async {
        let fourth = Spooling::open(dir.path(), &server.url());
        fourth.drained().await;
        fourth.add([3_000_000]).await.unwrap();
        acknowledged.push(3_000_000);
        let (ids, enqueued) = there(&**fourth.client.broker()).await.unwrap();
        let mut once = ids.clone();
        once.sort_unstable();
        assert_eq!(once, ids, "in order");
        once.dedup();
        assert_eq!(once.len(), ids.len(), "nothing twice");
        let found: HashSet<u128> = ids.iter().copied().collect();
        let lost = acknowledged.iter().filter(|id| !found.contains(id));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<&u128>::new());
        // Each kill may have left one call that was written and never acknowledged.
        let unheard = ids.len() - acknowledged.len();
        assert!(
            unheard <= 1 + 500 + 3,
            "{unheard} more than were acknowledged"
        );
        assert_eq!(enqueued, ids.len() as u64, "and counted so");
    });
}

/// Goal: a call that the server carried out, and whose answer was lost, is relayed without being doubled; one whose
/// request was lost is relayed too.
#[test]
fn a_lost_answer_doubles_nothing() {
    let server = server();
    let proxy = Proxy::start(server.port);
    for (at, number) in [
        (At::Reply(0), 10),
        (At::Reply(3), 20),
        (At::Request(40), 30),
    ] {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let spooling = Spooling::open(dir.path(), &proxy.url());
            spooling.add([number + 1]).await.unwrap();
            proxy.cut(Cut {
                needle: NAME.as_bytes().to_vec(),
                nth: 1,
                at,
            });
            let added = spooling.add([number + 2, number + 3]).await.unwrap();
            assert_eq!(added, both(0, 2), "{at:?}");
            assert!(
                matches!(proxy.fate(), Fate::Cut { .. }),
                "{:?}",
                proxy.fate()
            );
            spooling.add([number + 4]).await.unwrap();
            spooling.drained().await;
            assert_eq!(spooling.add([number + 5]).await.unwrap(), both(1, 0));
            let (ids, enqueued) = there(&*open(&server.url()).unwrap()).await.unwrap();
            let expected: Vec<u128> = (1..=5).map(|step| number + step).collect();
            assert!(ids.ends_with(&expected), "{at:?}: {ids:?}");
            assert_eq!(enqueued, ids.len() as u64);
        });
    }
}

/// Goal: without a spool, the error says what is certain; repeating the very call adds nothing twice.
#[test]
fn without_a_spool_the_error_says_what_is_certain() {
    let mut server = server();
    let proxy = Proxy::start(server.port);
    run(async {
        let broker = open(&proxy.url()).unwrap();
        let options = ProducerOptions {
            timeout: Duration::from_secs(2),
            ..ProducerOptions::default()
        };
        let client = Client::new(Arc::clone(&broker), Arc::new(SystemClock), options);
        let add = async |client: &Client, number: u128| {
            let producer = client.producer();
            let id = TaskId::from(uuid::Uuid::from_u128(number));
            let options = EnqueueOptions::default().queue(queue()).id(id);
            let name = TaskName::new(NAME).unwrap();
            let task = producer.prepare_encoded(&name, "default", &[0xc0], options);
            producer.add(vec![task.unwrap()]).await
        };
        add(&client, 1).await.unwrap();
        proxy.set(crate::redis_proxy::Mode::Stall);
        let error = add(&client, 2).await.unwrap_err();
        assert!(error.may_have_been_accepted(), "{error}");
        proxy.set(crate::redis_proxy::Mode::Pass);
        let call = error.call().unwrap();
        // The answer to the first may come as late as it likes.
        let direct = open(&server.url()).unwrap();
        eventually("it is added", async || {
            (there(&*direct).await.unwrap().1 == 2).then_some(())
        })
        .await;
        client.producer().repeat(call).await.unwrap();
        let (ids, enqueued) = there(&**client.broker()).await.unwrap();
        assert_eq!((ids, enqueued), (vec![1, 2], 2));
        server.kill();
        drop(proxy);
        // A connection that is found to have ended may leave one call open; from then on nothing can be sent.
        let _first = add(&client, 3).await.unwrap_err();
        let options = ProducerOptions {
            timeout: Duration::from_secs(5),
            ..ProducerOptions::default()
        };
        let patient = Client::new(broker, Arc::new(SystemClock), options);
        let error = add(&patient, 4).await.unwrap_err();
        assert!(!error.may_have_been_accepted(), "{error}");
    });
}

/// Goal: a server that refuses new tasks because its memory is full is as good as away, and nothing is lost.
#[test]
fn a_full_server_fills_the_spool() {
    let server = server();
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let spooling = Spooling::open(dir.path(), &server.url());
        spooling.add([1]).await.unwrap();
        server.ask(&["CONFIG", "SET", "maxmemory", "1mb"]);
        assert_eq!(spooling.add([2, 3]).await.unwrap(), both(0, 2));
        assert_eq!(spooling.add([4]).await.unwrap(), both(0, 1));
        let status = spooling.spool.status().unwrap();
        assert_eq!((status.tasks, status.rejected), (3, 0));
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        spooling.drained().await;
        let found = there(&**spooling.client.broker()).await.unwrap();
        assert_eq!(found, (vec![1, 2, 3, 4], 4));
    });
}

/// Goal: several processes share one file, one relays at a time, and when it dies another does.
/// Method: two handles stand for two processes; the first to get the lock is dropped while the server is away.
#[test]
fn whoever_lives_relays() {
    let mut server = server();
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let [one, two] = [0, 1].map(|_| Spooling::open(dir.path(), &server.url()));
        assert_eq!(one.add([1]).await.unwrap(), both(1, 0));
        server.kill();
        assert_eq!(one.add([2]).await.unwrap(), both(0, 1));
        assert_eq!(two.add([3]).await.unwrap(), both(0, 1), "behind it");
        assert_eq!(one.add([4]).await.unwrap(), both(0, 1));
        drop(one);
        server.restart();
        two.drained().await;
        assert_eq!(two.add([5]).await.unwrap(), both(1, 0));
        let found = there(&**two.client.broker()).await.unwrap();
        assert_eq!(found, (vec![1, 2, 3, 4, 5], 5));
    });
}
