//! What ends a daemon by itself, and what does not: actors of its own that keep crashing do, tasks never do.

use std::collections::HashSet;

use celeriac_actors::ids::TaskId;
use celeriac_actors::producer::TaskHandle;
use serde_json::json;

use crate::daemon::Ground;
use crate::examples::path_of;

/// Three restarts are accepted, far enough apart for something to happen between them on a busy machine.
const SUPERVISION: &str = "lease = \"60s\"
[supervision]
max_restarts = 3
backoff_base = \"3s\"
backoff_ceiling = \"3s\"
";

fn ids(handles: &[TaskHandle]) -> HashSet<TaskId> {
    handles.iter().map(|handle| handle.id).collect()
}

/// Goal: a service that crashes once too often ends the process with 70, which says who, of what and what to do; until
/// then the others work, and afterwards nothing is lost.
/// Method: dead letters go through code that panics; a task dies while others are in flight. Then it is mended.
#[tokio::test]
async fn a_service_that_keeps_crashing_ends_the_daemon_and_loses_nothing() {
    let ground = Ground::with(SUPERVISION);
    let mut daemon = ground.launch_program(&path_of("mirror"));
    ground
        .detail_where(&daemon, |detail| detail.tree.is_complete())
        .await;
    let in_flight = ground
        .enqueue("demo.sleep", (0..4).map(|_| json!({ "ms": 600_000 })))
        .await;
    ground.holding(&daemon, 4).await;
    ground
        .enqueue("demo.fail", [json!({ "message": "no" })])
        .await;
    daemon.logs("a child panicked").await;
    // One restart later at the earliest it is over.
    let meanwhile = ground
        .enqueue("demo.echo", (0..20).map(|i| json!({ "value": i })))
        .await;
    ground.all_succeed(&meanwhile).await;

    assert_eq!(daemon.code().await, 70);
    let line = daemon.logs("the supervisor gave up").await;
    let panics = daemon.lines_with("a child panicked");
    assert_eq!(panics.len(), 4, "{panics:?}");
    for told in [
        "dead-letter",
        "`mirror` is here",
        "examples/mirror.rs:",
        "RUST_BACKTRACE",
    ] {
        assert!(line.contains(told), "{told} is missing: {line}");
    }

    // Given back at once, not by the end of a lease.
    let ready: HashSet<TaskId> = ground.ready("default").await.iter().map(|h| h.id).collect();
    assert_eq!(ready, ids(&in_flight));
    let counted = ground.audit().await;
    assert_eq!(
        (counted.enqueued, counted.succeeded, counted.dead),
        (25, 20, 1)
    );

    std::fs::create_dir(ground.path().join("mirror")).unwrap();
    let daemon = ground.launch_program(&path_of("mirror"));
    let held: HashSet<TaskId> = ground.holding(&daemon, 4).await.into_iter().collect();
    assert_eq!(held, ids(&in_flight));
    let letters = ground.letters(1).await;
    let mirror = std::fs::read_to_string(ground.path().join("mirror/dead-letters.txt")).unwrap();
    assert!(mirror.contains(&letters[0].id.to_string()), "{mirror}");
}
