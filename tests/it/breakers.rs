//! Circuit breakers between real workers and a real server: while it is sick it is left alone, and nobody's task suffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::breaker::{BreakerPolicy, BreakerState};
use celeriac::client::Client;
use celeriac::policy::Policy;
use celeriac::ports::Broker;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac::task::{Task, TaskError};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::daemon::PATIENCE;

/// How many tasks wait.
const TASKS: usize = 2_000;

/// How long the server is sick.
const SICK: Duration = Duration::from_secs(5);

/// A server that speaks enough HTTP to be sick (503) and well (200), and counts what it was asked while it was sick.
#[derive(Clone, Default)]
struct Server {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    well: AtomicBool,
    asked_sick: AtomicUsize,
    asked_well: AtomicUsize,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let server = serving.clone();
                tokio::spawn(async move { server.answer(connection).await });
            }
        });
        server
    }

    async fn answer(&self, mut connection: TcpStream) {
        let mut request = [0; 512];
        // A client that left is no matter.
        let Ok(1..) = connection.read(&mut request).await else {
            return;
        };
        let (count, status) = if self.state.well.load(Ordering::SeqCst) {
            (&self.state.asked_well, "200 OK")
        } else {
            (&self.state.asked_sick, "503 Service Unavailable")
        };
        count.fetch_add(1, Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _gone_anyway = connection.write_all(answer.as_bytes()).await;
    }
}

/// Asks the server.
async fn get(port: u16) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    connection.write_all(request).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(std::io::Error::other("the server is sick"))
    }
}

fn breaker() -> BreakerPolicy {
    BreakerPolicy::default().open_for(Duration::from_millis(400), Duration::from_secs(1))
}

fn policy() -> Policy {
    Policy::default().backoff(Duration::from_millis(50), Duration::from_millis(400))
}

/// A task that depends on the server by name.
#[derive(Clone, Serialize, Deserialize)]
struct Named {
    port: u16,
}
celeriac::task!(Named as "test.named" -> (), policy());

/// A task whose kind has the breaker.
#[derive(Clone, Serialize, Deserialize)]
struct Kind {
    port: u16,
}
celeriac::task!(Kind as "test.kind" -> (), policy().breaker(breaker()));

async fn named(attempt: Attempt<Named>) -> Result<(), TaskError> {
    let port = attempt.args.port;
    attempt.breaker("server").call(get(port)).await?;
    Ok(())
}

fn worker(open: impl FnOnce(celeriac::ids::WorkerId) -> Arc<dyn Broker>) -> Runtime {
    let app = App::new()
        .breaker("server", breaker())
        .task(named)
        .task(|attempt: Attempt<Kind>| async move { Ok(get(attempt.args.port).await?) });
    let id = fresh_worker_id();
    let mut options = RuntimeOptions::new(open(id.clone()), id);
    options.tree.concurrency = 8;
    Runtime::start(app, options).unwrap()
}

/// Runs the tasks through the sickness of the server, and checks what the breaker promises.
async fn outlive_a_sick_server<T: Task + Clone>(
    workers: &[Runtime],
    name: &str,
    make: impl FnOnce(u16) -> T,
) {
    let server = Server::start().await;
    let task = make(server.port);
    let client: Client = workers[0].client();
    let counters = async || {
        let queues = client.broker().queues().await.unwrap();
        queues
            .into_iter()
            .find(|queue| queue.queue.as_str() == "default")
            .unwrap()
    };
    let enqueued = client.enqueue_many(vec![task; TASKS]).await.unwrap();
    assert_eq!(enqueued.len(), TASKS);
    tokio::time::sleep(SICK).await;
    let sick = server.state.asked_sick.load(Ordering::SeqCst);
    let released = counters().await.counters.released;
    server.state.well.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + PATIENCE;
    let done = loop {
        let queue = counters().await;
        assert_eq!(queue.counters.dead, 0, "a task was buried");
        if queue.counters.succeeded == TASKS as u64 {
            break queue.counters;
        }
        assert!(Instant::now() < deadline, "not all succeed: {queue:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Called while it was sick: what ran when it opened, and one probe each time after.
    assert!(
        (1..50).contains(&sick),
        "the sick server was called {sick} times"
    );
    assert!(done.retried < 50, "{done:?}");
    assert!(released > 0, "nothing was parked");
    // Parked, not spun: 2,000 tasks come around about once in the time that the breaker stays open.
    assert!(released < 40_000, "{released} releases in {SICK:?}");
    for worker in workers {
        let record = loop {
            let all = client.broker().workers().await.unwrap();
            let found = all.into_iter().find(|it| it.worker == *worker.worker());
            let detail: celeriac::runtime::WorkerDetail =
                serde_json::from_str(&found.unwrap().detail).unwrap();
            let view = detail
                .breakers
                .into_iter()
                .find(|it| it.record.name.as_str() == name);
            match view {
                Some(view) if view.record.state == BreakerState::Closed => break view,
                _ => assert!(Instant::now() < deadline, "the breaker stays open"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(
            record.parked > 0,
            "a worker that knew nothing of it: {record:?}"
        );
    }
    for worker in workers {
        worker.stop(Duration::from_secs(5)).await;
    }
}

fn embedded(directory: &std::path::Path) -> Runtime {
    worker(|id| {
        let options = SqliteOptions::new(directory).worker(id);
        Arc::new(SqliteBroker::open(options).unwrap())
    })
}

/// Goal: a dependency that fails for seconds costs no task its life, and is hardly called. Method: two workers on one data
/// directory, two thousand tasks, and a server that counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_dependency_is_spared_on_the_embedded_broker() {
    let directory = tempfile::tempdir().unwrap();
    let workers = [embedded(directory.path()), embedded(directory.path())];
    outlive_a_sick_server(&workers, "server", |port| Named { port }).await;
}

/// As above, with the breaker of the kind of task.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_of_task_is_spared_on_the_embedded_broker() {
    let directory = tempfile::tempdir().unwrap();
    let workers = [embedded(directory.path())];
    outlive_a_sick_server(&workers, "test.kind", |port| Kind { port }).await;
}

#[cfg(feature = "redis")]
mod on_redis {
    use celeriac::redis::{RedisBroker, RedisOptions};

    use super::*;
    use crate::redis_server::{RedisServer, ServerOptions};

    fn remote(url: &str) -> Runtime {
        let id = fresh_worker_id();
        let options = RedisOptions::new(url).unwrap().allow_volatile(true);
        let broker = RedisBroker::open(options.worker(id.clone())).unwrap();
        worker(|_| Arc::new(broker))
    }

    /// As on the embedded broker: two workers share the breaker.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_named_dependency_is_spared_on_redis() {
        let redis = RedisServer::start(ServerOptions::default());
        let workers = [remote(&redis.url()), remote(&redis.url())];
        outlive_a_sick_server(&workers, "server", |port| Named { port }).await;
    }

    /// As above, with the breaker of the kind of task.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_kind_of_task_is_spared_on_redis() {
        let redis = RedisServer::start(ServerOptions::default());
        let workers = [remote(&redis.url())];
        outlive_a_sick_server(&workers, "test.kind", |port| Kind { port }).await;
    }
}
