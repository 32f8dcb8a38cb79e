//! Transactions of an attempt: what ends them how, and what becomes of what they wrote and enqueued.

use std::time::Duration;

use celeriac::client::{Client, WaitError};
use celeriac::database::{Database, Transactional as _};
use celeriac::failure::FailureKind;
use celeriac::hooks::{Enqueueing, Hooks};
use celeriac::ids::QueueName;
use celeriac::policy::Policy;
use celeriac::producer::{EnqueueOptions, TaskHandle};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::{App, Attempt, Task};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::daemon::{PATIENCE, eventually};
use crate::ledger;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Commit,
    Veto,
    Fail,
    Panic,
    Linger,
    LetGo,
}

/// Writes a row, enqueues a follow-up, and ends as it is told.
#[derive(Serialize, Deserialize)]
struct Write(How);

impl Task for Write {
    const NAME: &'static str = "test.write";
    type Output = i64;

    fn policy() -> Policy {
        Policy::default().max_attempts(1)
    }
}

#[derive(Serialize, Deserialize)]
struct FollowUp;

impl Task for FollowUp {
    const NAME: &'static str = "test.follow_up";
    const QUEUE: &'static str = "nobody";
    type Output = ();
}

async fn write(attempt: Attempt<Write>) -> Result<i64, celeriac::TaskError> {
    let how = attempt.args.0;
    let (inside, is_inside) = tokio::sync::oneshot::channel();
    let transaction = attempt.transaction(move |conn: &mut SqliteConnection, tx| {
        conn.batch_execute("INSERT INTO rows VALUES (1)")?;
        tx.enqueue(&FollowUp)?;
        // Nobody listens where it is not let go.
        let _unheard = inside.send(());
        match how {
            How::Commit => {}
            How::Veto => {
                let options = EnqueueOptions::default().header("veto", "not on a Sunday");
                tx.enqueue_with(&FollowUp, options)?;
            }
            How::Fail => return Err("as told".into()),
            How::Panic => panic!("as told"),
            How::Linger | How::LetGo => {
                while !tx.is_interrupted() {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        }
        Ok(7)
    });
    if matches!(how, How::LetGo) {
        tokio::select! {
            _ = transaction => {}
            _ = is_inside => {}
        }
        return Ok(0);
    }
    transaction.await
}

/// Vetoes follow-ups whose header says so.
struct Gate;

#[async_trait::async_trait]
impl Hooks for Gate {
    async fn before_enqueue(&self, task: &Enqueueing) -> Result<(), String> {
        match task.headers.get("veto") {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }
}

struct Ground {
    runtime: Runtime,
    client: Client,
    database: Database<SqliteConnection>,
    _directory: TempDir,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pool = ledger::sqlite(&directory.path().join("rows.db"));
        let tables = "CREATE TABLE rows (number BIGINT)";
        pool.get().unwrap().batch_execute(tables).unwrap();
        let database = Database::new(pool);
        let app = App::new()
            .hooks(Gate)
            .database(database.clone())
            .task(write);
        let options = RuntimeOptions::embedded(directory.path().join("data")).unwrap();
        let runtime = Runtime::start(app, options).unwrap();
        Self {
            client: runtime.client(),
            runtime,
            database,
            _directory: directory,
        }
    }

    async fn start(&self, how: How, options: EnqueueOptions) -> TaskHandle {
        let options = options.want_outcome();
        self.client
            .enqueue_with(&Write(how), options)
            .await
            .unwrap()
    }

    async fn end(&self, how: How) -> Result<i64, WaitError> {
        let handle = self.start(how, EnqueueOptions::default()).await;
        self.client.wait::<Write>(&handle, PATIENCE).await
    }

    /// Returns how many rows were committed, and how many follow-ups are at the broker.
    async fn written(&self) -> (i64, u64) {
        let mut conn = self.database.pool().get().unwrap();
        // Behind whoever writes still.
        let count = conn.immediate_transaction(|conn| {
            let count =
                diesel::dsl::sql::<diesel::sql_types::BigInt>("(SELECT count(*) FROM rows)");
            diesel::select(count).get_result::<i64>(conn)
        });
        let queues = self.client.broker().queues().await.unwrap();
        let nobody = QueueName::new("nobody").unwrap();
        let follow_ups = queues.iter().find(|status| status.queue == nobody);
        (count.unwrap(), follow_ups.map_or(0, |status| status.ready))
    }
}

fn failure(end: Result<i64, WaitError>) -> celeriac::failure::Failure {
    match end {
        Err(WaitError::Dead {
            failure: Some(failure),
            ..
        }) => *failure,
        other => panic!("it ended otherwise: {other:?}"),
    }
}

#[tokio::test]
async fn what_succeeds_is_committed_and_its_tasks_are_sent() {
    let ground = Ground::new();
    assert_eq!(ground.end(How::Commit).await.unwrap(), 7);
    assert_eq!(ground.written().await, (1, 1));
}

#[tokio::test]
async fn what_fails_leaves_nothing() {
    let ground = Ground::new();
    assert_eq!(failure(ground.end(How::Fail).await).message, "as told");
    assert_eq!(ground.written().await, (0, 0));
    let panic = failure(ground.end(How::Panic).await);
    assert!(panic.message.contains("as told"), "{}", panic.message);
    assert_eq!(ground.written().await, (0, 0));
    // The pool is as good as before.
    assert_eq!(ground.end(How::Commit).await.unwrap(), 7);
    assert_eq!(ground.written().await, (1, 1));
}

#[tokio::test]
async fn what_passes_its_soft_limit_leaves_nothing() {
    let ground = Ground::new();
    let mut options = EnqueueOptions::default();
    options.overrides.soft_limit_ms = Some(200);
    let handle = ground.start(How::Linger, options).await;
    let end = ground.client.wait::<Write>(&handle, PATIENCE).await;
    assert_eq!(failure(end).kind, FailureKind::SoftLimit);
    assert_eq!(ground.written().await, (0, 0));
}

#[tokio::test]
async fn what_is_revoked_leaves_nothing() {
    let ground = Ground::new();
    let handle = ground.start(How::Linger, EnqueueOptions::default()).await;
    eventually("it runs", async || {
        let lanes = ground.runtime.activity();
        let running: usize = lanes.iter().map(|lane| lane.running.len()).sum();
        (running == 1).then_some(())
    })
    .await;
    let now = celeriac_actors::time::Clock::now(&celeriac::clock::SystemClock);
    let revoked = ground.client.revoke(&handle.queue, handle.id, now);
    revoked.await.unwrap();
    let end = ground.client.wait::<Write>(&handle, PATIENCE).await;
    assert!(end.is_err(), "{end:?}");
    assert_eq!(ground.written().await, (0, 0));
}

#[tokio::test]
async fn what_its_attempt_lets_go_of_leaves_nothing() {
    let ground = Ground::new();
    assert_eq!(ground.end(How::LetGo).await.unwrap(), 0);
    assert_eq!(ground.written().await, (0, 0));
}

/// Goal: what a hook vetoes fails its transaction before the commit, with all that it wrote and enqueued.
#[tokio::test]
async fn what_a_hook_vetoes_leaves_nothing() {
    let ground = Ground::new();
    let failure = failure(ground.end(How::Veto).await);
    assert!(failure.message.contains("not on a Sunday"), "{failure:?}");
    assert_eq!(ground.written().await, (0, 0));
    assert_eq!(ground.end(How::Commit).await.unwrap(), 7);
    assert_eq!(ground.written().await, (1, 1));
}
