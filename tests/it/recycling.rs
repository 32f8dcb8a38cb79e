//! Daemons whose threads hang in blocking work for good: they give back what they hold and are replaced.

use serde_json::json;

use crate::daemon::Ground;

/// One thread for blocking work, none in its place.
fn config(recycle: &str) -> String {
    format!(
        "blocking_threads = 1\nmax_stuck_threads = 0\nrecycle = {recycle:?}\ngrace = \"3s\"\n\
         [tasks.\"demo.block\"]\nhard_limit = \"50ms\"\nmax_attempts = 1\n"
    )
}

#[tokio::test]
async fn a_daemon_whose_threads_hang_ends_with_75() {
    let ground = Ground::with(&config("exit"));
    let mut daemon = ground.daemon(&[]).await;
    ground
        .enqueue("demo.block", [json!({ "ms": 3_600_000 })])
        .await;
    assert_eq!(daemon.code().await, 75);
    daemon.logs("too many threads hang in blocking work").await;
    assert_eq!(ground.settled().await.len(), 4);
    assert_eq!(ground.audit().await.dead, 1);
}

#[tokio::test]
async fn a_daemon_starts_afresh_in_its_own_place() {
    let ground = Ground::with(&config("exec"));
    let mut daemon = ground.daemon(&[]).await;
    let before = ground.record(&daemon).await.worker;
    ground
        .enqueue("demo.block", [json!({ "ms": 3_600_000 })])
        .await;
    daemon.logs("wants to be replaced").await;
    let pid = daemon.pid();
    crate::daemon::eventually("a fresh worker lives in the same process", async || {
        let workers = ground.broker().workers().await.ok()?;
        let fresh = |w: &celeriac_actors::ports::WorkerRecord| w.pid == pid && w.worker != before;
        workers.iter().any(fresh).then_some(())
    })
    .await;
    let fresh = ground
        .enqueue("demo.echo", [json!({ "value": "again" })])
        .await;
    ground.all_succeed(&fresh).await;
    assert!(!daemon.has_ended());
}
