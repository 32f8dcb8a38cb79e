//! What an isolated attempt enqueues is treated as what its worker enqueues: the hooks are asked, once and in the worker, and
//! the spool takes what the broker does not.
//!
//! Without the usual harness: the children of a program are that program again, with its working directory.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac::database::{Database, Transactional as _};
use celeriac::hooks::{Enqueueing, Hooks};
use celeriac::mode::Mode;
use celeriac::policy::{Policy, seconds};
use celeriac::producer::EnqueueOptions;
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac::spool::{SpoolOptions, SqliteSpool};
use celeriac::testkit::{Fault, MemoryBroker, Method, RunningClock};
use celeriac::{App, Attempt, TaskError};
use diesel::connection::SimpleConnection as _;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = seconds(60);

#[derive(Clone, Copy, Serialize, Deserialize)]
enum How {
    Plainly,
    InTransaction,
    /// Once there is the file `go`.
    Late,
}

/// Enqueues a follow-up; returns what was said of it.
#[derive(Serialize, Deserialize)]
struct Parent(How, String);
celeriac::task!(Parent as "test.parent" -> String, Policy::default().mode(Mode::Isolated).max_attempts(1));

#[derive(Serialize, Deserialize)]
struct FollowUp;
celeriac::task!(FollowUp as "test.follow_up");

async fn parent(attempt: Attempt<Parent>) -> Result<String, TaskError> {
    let Parent(how, tenant) = &attempt.args;
    attempt.progress(1, 2, "about to enqueue");
    let options = EnqueueOptions::default().header("tenant", tenant);
    while matches!(how, How::Late) && !Path::new("go").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let said = if matches!(how, How::InTransaction) {
        let done = attempt.transaction(move |conn: &mut SqliteConnection, tx| {
            conn.batch_execute("INSERT INTO rows VALUES (1)")?;
            tx.enqueue_with(&FollowUp, options)?;
            Ok(())
        });
        done.await.map_err(|error| error.to_string())
    } else {
        let done = attempt.producer().enqueue(&FollowUp, options).await;
        done.map(drop).map_err(|error| error.to_string())
    };
    attempt.progress(2, 2, "enqueued");
    Ok(said.map_or_else(|error| error, |()| "enqueued".to_owned()))
}

/// Writes down who asks it for which follow-up, and refuses those of a tenant.
struct Gate;

#[async_trait]
impl Hooks for Gate {
    async fn before_enqueue(&self, task: &Enqueueing) -> Result<(), String> {
        let Some(tenant) = task.headers.get("tenant") else {
            return Ok(());
        };
        let mut file = OpenOptions::new().append(true).create(true).open("asked");
        let file = file.as_mut().expect("a file to write to");
        writeln!(file, "{} {tenant}", std::process::id()).expect("written");
        match tenant.as_str() {
            "banned" => Err("the tenant is banned".to_owned()),
            _ => Ok(()),
        }
    }
}

fn pool() -> Pool<ConnectionManager<SqliteConnection>> {
    let pool = Pool::builder().max_size(2);
    pool.build(ConnectionManager::new("rows.db"))
        .expect("a database")
}

fn app() -> App {
    App::new()
        .hooks(Gate)
        .database(Database::new(pool()))
        .task(parent)
        .task(|_: Attempt<FollowUp>| async { Ok(()) })
}

fn rows() -> i64 {
    let count = sql::<BigInt>("(SELECT count(*) FROM rows)");
    let mut conn = pool().get().expect("a connection");
    diesel::select(count).get_result(&mut conn).expect("rows")
}

fn asked() -> Vec<String> {
    let text = std::fs::read_to_string("asked").unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn eventually(what: &str, is: impl AsyncFn() -> bool) {
    let wait = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "{what}");
}

async fn enqueues_are_the_workers() {
    let broker = Arc::new(MemoryBroker::new(Arc::new(RunningClock::default())));
    let spool = SqliteSpool::open(SpoolOptions::new("spool.db"), broker.clone());
    let spool = Arc::new(spool.expect("a spool"));
    let mut options = RuntimeOptions::new(broker.clone(), fresh_worker_id());
    options.spool = Some(spool.clone());
    let runtime = Runtime::start(app(), options).expect("a runtime");
    let client = runtime.client();
    let me = std::process::id();
    let run = async |how, tenant: &str| {
        let parent = client.enqueue(&Parent(how, tenant.to_owned())).await;
        let parent = parent.expect("enqueued");
        client.wait::<Parent>(&parent, PATIENCE).await.expect("run")
    };

    // Asked once each, here, and heeded.
    assert_eq!(run(How::Plainly, "good").await, "enqueued");
    // How far it came is told, and its last word is kept.
    let parent = client
        .enqueue(&Parent(How::Plainly, "good".to_owned()))
        .await;
    let end = client
        .outcome(&parent.expect("enqueued"), PATIENCE)
        .await
        .expect("an end");
    let progress = end.progress.expect("its progress");
    assert_eq!((progress.done, progress.note.as_str()), (2, "enqueued"));
    std::fs::remove_file("asked").expect("asked about it");
    assert_eq!(run(How::Plainly, "good").await, "enqueued");
    let said = run(How::Plainly, "banned").await;
    assert!(said.contains("the tenant is banned"), "{said}");
    assert_eq!(asked(), [format!("{me} good"), format!("{me} banned")]);

    // The same before a commit.
    assert_eq!(run(How::InTransaction, "good").await, "enqueued");
    assert_eq!(rows(), 1);
    let said = run(How::InTransaction, "banned").await;
    assert!(said.contains("the tenant is banned"), "{said}");
    assert_eq!(rows(), 1, "a veto rolls back");
    assert_eq!(asked().len(), 4, "once each: {:?}", asked());

    // While the broker takes nothing, the spool does, and gives it on afterwards.
    let late = client.enqueue(&Parent(How::Late, "good".to_owned())).await;
    let late = late.expect("enqueued");
    broker.plan(Fault::Unanswered {
        method: Method::Enqueue,
        times: u32::MAX,
    });
    std::fs::write("go", "").expect("written");
    let said = client.wait::<Parent>(&late, PATIENCE).await.expect("run");
    assert_eq!(said, "enqueued");
    assert_eq!(spool.status().expect("a status").tasks, 1);
    broker.heal();
    eventually("the follow-up is relayed", async || {
        spool.status().expect("a status").tasks == 0
    })
    .await;
    assert_eq!(asked().len(), 5);
    runtime.stop(seconds(10)).await;
}

fn main() {
    celeriac::isolation::enter(app);
    let directory = tempfile::tempdir().expect("a directory");
    std::env::set_current_dir(directory.path()).expect("a directory to work in");
    let table = "CREATE TABLE rows (number BIGINT)";
    let made = pool().get().expect("a connection").batch_execute(table);
    made.expect("a table");
    let threads = tokio::runtime::Runtime::new().expect("threads");
    threads.block_on(enqueues_are_the_workers());
}
