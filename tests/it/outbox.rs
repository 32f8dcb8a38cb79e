//! The outbox: what is committed is relayed once and in order, what is rolled back never is, whoever is killed meanwhile.

use std::sync::Arc;
use std::time::Duration;

use celeriac::client::Client;
use celeriac::clock::SystemClock;
use celeriac::database::Database;
use celeriac::database::outbox;
use celeriac::ids::{QueueName, WorkerId};
use celeriac::ports::Broker;
use celeriac::producer::{EnqueueOptions, Producer, ProducerOptions};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac_actors::context::Job;
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::header::Header;
use celeriac_actors::ports::ScanRequest;
use celeriac_actors::state::TaskState;
use celeriac_actors::testkit::{Fault, MemoryBroker, Method, RunningClock};
use diesel::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::eventually;
use crate::ledger::{self, Confirm, Look, Program, Transfer};

const TRANSFERS: u64 = 1_000;

/// Goal: whatever fails or is killed at whatever moment, no transfer is there by half, none that was rolled back is there
/// at all or confirmed, and every other one is confirmed.
/// Method: transfers that fail at random points in a process that is killed again and again.
async fn nothing_is_there_by_half(database: &str, mut look: Look) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join(ledger::DATA);
    let client = Client::embedded(data).unwrap();
    let transfers = (0..TRANSFERS).map(|number| Transfer { number });
    client.enqueue_many(transfers).await.unwrap();
    for round in 0..12_u64 {
        let before = look.transfers() + look.confirmations();
        let program = Program::start(directory.path(), database);
        eventually("transfers are made", async || {
            let now = look.transfers() + look.confirmations();
            (now >= before + 40 || now >= 1_700).then_some(())
        })
        .await;
        // Any moment will do.
        tokio::time::sleep(Duration::from_millis(round * 29 % 70)).await;
        drop(program);
        look.transfers();
    }
    let _program = Program::start(directory.path(), database);
    eventually("everything has ended", async || {
        let queues = client.broker().queues().await.ok()?;
        let busy = |queue: &celeriac::ports::QueueStatus| {
            queue.ready + queue.active + queue.retrying + queue.scheduled
        };
        let left = queues.iter().map(busy).sum::<u64>();
        (left == 0 && look.waiting() == 0).then_some(())
    })
    .await;
    let queues = client.broker().queues().await.unwrap();
    let dead: u64 = queues.iter().map(|queue| queue.counters.dead).sum();
    let (made, confirmed) = (look.transfers(), look.confirmations());
    let hopeless = TRANSFERS.div_ceil(ledger::HOPELESS);
    // A storm of kills can hit one task as the only suspect twice, which cannot be told from a task that kills.
    let unlucky = i64::try_from(dead - hopeless).unwrap();
    assert!(unlucky <= 10, "{unlucky} more are dead than had to be");
    let wanted = i64::try_from(TRANSFERS - hopeless).unwrap();
    assert!(made + unlucky >= wanted && made <= wanted, "{made} made");
    assert!(confirmed + unlucky >= made, "{confirmed} of {made}");
}

#[tokio::test]
async fn nothing_is_there_by_half_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.db");
    let pool = ledger::sqlite(&file);
    ledger::create(&mut *pool.get().unwrap());
    let mut look = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let patience = "PRAGMA busy_timeout = 20000";
    diesel::connection::SimpleConnection::batch_execute(&mut look, patience).unwrap();
    nothing_is_there_by_half(file.to_str().unwrap(), Look::Sqlite(look)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn nothing_is_there_by_half_on_postgres() {
    let database = crate::store_postgres::Database::create();
    let mut look = PgConnection::establish(&database.url()).unwrap();
    ledger::create(&mut look);
    nothing_is_there_by_half(&database.url(), Look::Postgres(look)).await;
}

/// A relay on a broker in memory, and nobody who runs tasks.
struct Ground {
    broker: Arc<MemoryBroker>,
    producer: Producer,
    database: Database<SqliteConnection>,
    _directory: TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pool = ledger::sqlite(&directory.path().join("ledger.db"));
        ledger::create(&mut *pool.get().unwrap());
        let broker = Arc::new(MemoryBroker::new(Arc::new(RunningClock::default())));
        let producer = Producer::new(
            broker.clone(),
            Arc::new(SystemClock),
            ProducerOptions::default(),
        );
        Self {
            broker,
            producer,
            database: Database::new(pool).with_outbox(),
            _directory: directory,
        }
    }

    fn relay(&self) -> Runtime {
        self.relay_as("relay")
    }

    fn relay_as(&self, name: &str) -> Runtime {
        let worker = WorkerId::new(name).unwrap();
        let mut options = RuntimeOptions::new(self.broker.clone(), worker);
        options.tree.queues.clear();
        Runtime::start(ledger::app(self.database.clone()), options).unwrap()
    }

    fn put(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut conn = self.database.pool().get().unwrap();
        for number in numbers {
            let options = EnqueueOptions::default();
            outbox::enqueue(&mut *conn, &self.producer, &Confirm { number }, options).unwrap();
        }
    }

    fn sql(&self, sql: &str) {
        let mut conn = self.database.pool().get().unwrap();
        diesel::sql_query(sql).execute(&mut conn).unwrap();
    }

    async fn relayed(&self) {
        eventually("the outbox is empty", async || {
            let status = outbox::status(&mut *self.database.pool().get().unwrap()).unwrap();
            (status.pending == 0).then_some(())
        })
        .await;
    }

    /// Returns the tasks at the broker, in order.
    async fn jobs(&self, queue: &str) -> Vec<Job> {
        let queue = QueueName::new(queue).unwrap();
        let mut request = ScanRequest {
            queue,
            state: TaskState::Ready,
            after: None,
            limit: 500,
        };
        let mut tasks = Vec::new();
        loop {
            let page = self.broker.scan(&request).await.unwrap();
            tasks.extend(page.tasks);
            request.after = page.next;
            if request.after.is_none() {
                break;
            }
        }
        let open = |task: celeriac::ports::StoredTask| {
            let header = Header::read(&task.frame).unwrap();
            Job::open(header, task.frame, &FrameLimits::default()).unwrap()
        };
        tasks.into_iter().map(open).collect()
    }

    async fn numbers(&self) -> Vec<u64> {
        let number = |job: Job| {
            let args: Confirm = decode_value(job.args(), &FrameLimits::default()).unwrap();
            args.number
        };
        self.jobs("default").await.into_iter().map(number).collect()
    }
}

/// Goal: each task reaches the broker once and in order, although answers are lost, and although two relay at once.
#[tokio::test]
async fn tasks_are_relayed_once_and_in_order() {
    let ground = Ground::new();
    ground.put(0..700);
    ground.broker.plan(Fault::LostReply {
        method: Method::Enqueue,
        times: 3,
    });
    let first = ground.relay_as("first");
    let second = ground.relay_as("second");
    ground.put(700..800);
    ground.relayed().await;
    drop(first);
    ground.put(800..900);
    ground.relayed().await;
    assert_eq!(ground.numbers().await, (0..900).collect::<Vec<u64>>());
    drop(second);
}

/// Goal: a row written by plain SQL is a task as good as any, in its place among the others; one that is none is kept, with
/// why, and holds up nobody.
#[tokio::test]
async fn rows_may_be_written_by_plain_sql() {
    let ground = Ground::new();
    ground.put([1]);
    ground.sql(
        "INSERT INTO celeriac_outbox (task, args) VALUES ('ledger.confirm', '{\"number\": 2}')",
    );
    ground
        .sql("INSERT INTO celeriac_outbox (task, args) VALUES ('ledger.confirm', '{\"number\": ')");
    ground.sql("INSERT INTO celeriac_outbox (task, priority) VALUES ('ledger.confirm', 17)");
    ground.sql(
        "INSERT INTO celeriac_outbox (task, args, queue, priority, headers, id) VALUES \
         ('any.thing', '[1, \"two\"]', 'billing', 9, '{\"tenant\": \"a\"}', '0190a0b4-0000-7000-8000-000000000001')",
    );
    ground.put([3]);
    let _relay = ground.relay();
    ground.relayed().await;
    assert_eq!(ground.numbers().await, [1, 2, 3]);
    let jobs = ground.jobs("billing").await;
    let args: Value = decode_value(jobs[0].args(), &FrameLimits::default()).unwrap();
    assert_eq!(args, serde_json::json!([1, "two"]));
    assert_eq!(jobs[0].header.priority.level(), 9);
    assert_eq!(jobs[0].envelope.headers["tenant"], "a");
    assert_eq!(
        jobs[0].header.id.to_string(),
        "0190a0b4-0000-7000-8000-000000000001"
    );
    let status = outbox::status(&mut *ground.database.pool().get().unwrap()).unwrap();
    assert_eq!(status.rejected, 2);
}
