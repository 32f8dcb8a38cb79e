//! The verdict, from a real daemon's monitor and from `celeriac health`: each trouble has its reason, and goes with it.

use std::process::Command;

use celeriac_actors::ids::QueueName;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Ground, eventually};

/// Asks for the verdict: the exit code, and the document.
fn health(ground: &Ground) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CELER") || name == "REDIS_URL" {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["health", "--json", "--config"])
        .arg(ground.path().join("celeriac.toml"))
        .env("CELERIAC_DATA_DIR", ground.data())
        .current_dir(ground.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code().unwrap(), document)
}

fn has(document: &Value, kind: &str, subject: &str) -> bool {
    let reasons = document["reasons"].as_array().unwrap();
    reasons.iter().any(|reason| {
        reason["kind"] == kind && reason["subject"].as_str().unwrap().contains(subject)
    })
}

/// Waits for a verdict and a reason.
async fn becomes(ground: &Ground, verdict: &str, kind: &str, subject: &str) {
    let what = format!("health is {verdict} for {kind} {subject}");
    eventually(&what, async || {
        let (code, document) = health(ground);
        let codes = [
            ("healthy", 0),
            ("degraded", 1),
            ("critical", 2),
            ("unknown", 3),
        ];
        assert!(
            codes.contains(&(document["verdict"].as_str().unwrap(), code)),
            "{document}"
        );
        let fits =
            document["verdict"] == verdict && (kind.is_empty() || has(&document, kind, subject));
        fits.then_some(())
    })
    .await;
}

/// A ground whose disk is never too full for this test.
fn ground(config: &str) -> Ground {
    let disk = "[health]\ndisk_free = 0.0\ndisk_free_critical = 0.0\n";
    Ground::with(&format!("{config}\n{disk}"))
}

/// Goal: a queue with work and nobody to do it is critical, also where no process is left to say so.
#[tokio::test]
async fn the_last_worker_of_a_queue_with_work_is_missed() {
    let ground = ground("");
    let mut daemon = ground.daemon(&[]).await;
    let other = ground.daemon(&["--queues", "billing"]).await;
    becomes(&ground, "healthy", "", "").await;
    ground.enqueue("demo.sleep", [json!({"ms": 600_000})]).await;
    ground.running(&daemon, 1).await;
    daemon.kill();
    becomes(&ground, "critical", "no_worker", "default").await;
    // Another process's monitor says so too, once.
    other.logs("queue default has").await;
    other.logs("health is critical").await;
    let _again = ground.daemon(&[]).await;
    becomes(&ground, "healthy", "", "").await;
    other.logs("a reason for concern is gone").await;
    assert_eq!(other.lines_with("queue default has").len(), 1);
    drop(other);
}

#[tokio::test]
async fn no_worker_at_all_is_degraded_and_nothing_at_all_unknown() {
    let ground = ground("");
    // The client has made the broker.
    becomes(&ground, "degraded", "no_worker", "").await;
    let nowhere = crate::cli_support::Place::new();
    let output = nowhere.run(&["health", "--quiet"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"unknown\n");
}

/// Goal: a store that others have locked is a reason, for as long as it is locked.
#[tokio::test]
async fn a_locked_store_is_degraded() {
    let ground = ground("");
    let daemon = ground.daemon(&[]).await;
    let path = ground.data().join("store.db");
    eventually("the store is made", async || path.exists().then_some(())).await;
    becomes(&ground, "healthy", "", "").await;
    let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    eventually("the store is locked", async || {
        other.batch_execute("BEGIN IMMEDIATE").ok()
    })
    .await;
    becomes(&ground, "degraded", "store_away", "").await;
    daemon.logs("the store has been away").await;
    other.batch_execute("ROLLBACK").unwrap();
    becomes(&ground, "healthy", "", "").await;
    daemon.logs("health is well").await;
}

#[tokio::test]
async fn a_blocked_thread_has_a_name() {
    let ground = ground("arbiters = 2\n");
    let daemon: Daemon = ground.daemon(&[]).await;
    ground.enqueue("demo.spin", [json!({"ms": 8_000})]).await;
    becomes(&ground, "degraded", "blocked_thread", "lane-").await;
    daemon.logs("demo.spin").await;
    becomes(&ground, "healthy", "", "").await;
}

/// Goal: many deaths at once are a reason, by the queue's own threshold.
#[tokio::test]
async fn deaths_are_a_reason() {
    let ground = ground("[queues.billing]\ndead_per_minute = 5\n");
    let daemon = ground.daemon(&[]).await;
    daemon.logs("health is well").await;
    let fails = (0..40).map(|_| json!({"permanent": true, "message": "no"}));
    let handles = ground.enqueue_to("billing", "demo.fail", fails).await;
    ground.ends(&handles).await;
    daemon.logs("tasks of queue billing die a minute").await;
    daemon.logs("attempts of queue billing failed").await;
    daemon.logs("health is critical").await;
}

#[tokio::test]
async fn a_frozen_worker_is_missed_and_a_paused_queue_is_not() {
    let ground = ground("");
    let mut daemon = ground.daemon(&[]).await;
    let queue = QueueName::new("default").unwrap();
    ground.enqueue("demo.sleep", [json!({"ms": 600_000})]).await;
    ground.running(&daemon, 1).await;
    ground.freeze(&daemon).await;
    becomes(&ground, "critical", "no_worker", "default").await;
    // Frozen in the midst of a write it would keep everybody else from writing.
    daemon.kill();
    ground.broker().pause(&queue, true).await.unwrap();
    becomes(&ground, "degraded", "no_worker", "").await;
}

/// Goal: dead letters beyond what is kept go by themselves, and that is said.
#[tokio::test]
async fn dead_letters_beyond_the_limit_are_deleted() {
    let ground = ground("");
    let daemon = ground.daemon(&[]).await;
    let fails = (0..12).map(|_| json!({"permanent": true, "message": "no"}));
    let handles = ground.enqueue("demo.fail", fails).await;
    ground.ends(&handles).await;
    ground.letters(12).await;
    drop(daemon);
    let ground = ground.configured("[dead_letters]\nmax_count = 5\n");
    let daemon = ground.daemon(&[]).await;
    daemon
        .logs("deleted dead letters that are not kept any longer")
        .await;
    assert_eq!(ground.letters(5).await.len(), 5);
}

/// Goal: a minute of work becomes a snapshot in the store.
#[tokio::test]
async fn the_daemon_writes_snapshots() {
    use celeriac::store::{Store, StoreOptions, StoreUrl};
    use celeriac_actors::ports::{SnapshotRange, Snapshots as _, Span};
    use celeriac_actors::time::Timestamp;

    let ground = ground("");
    let daemon = ground.daemon(&[]).await;
    let handles = ground
        .enqueue("demo.echo", (0..30).map(|n| json!({"value": n})))
        .await;
    ground.all_succeed(&handles).await;
    let url = StoreUrl::file(ground.data().join("store.db"));
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    let range = SnapshotRange {
        span: Span::Minute,
        since: Timestamp::EPOCH,
        until: Timestamp::from_millis(u64::MAX >> 1),
        queue: Some(QueueName::new("default").unwrap()),
        limit: 100,
    };
    // The next full minute may be nearly a minute away.
    let tasks = crate::daemon::eventually_slowly("a minute is over", async || {
        let tasks = store.task_snapshots(&range).await.ok()?;
        (!tasks.is_empty()).then_some(tasks)
    })
    .await;
    assert_eq!(
        (tasks[0].task.as_str(), tasks[0].sum.succeeded),
        ("demo.echo", 30)
    );
    assert_eq!(
        (tasks[0].sum.wait.count(), tasks[0].sum.run.count()),
        (30, 30)
    );
    let queues = store.queue_snapshots(&range).await.unwrap();
    assert_eq!(queues[0].counters.succeeded, 30);
    drop(daemon);
}
