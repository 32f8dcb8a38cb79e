//! Crashes of real daemons: what they held is rescued, nothing is lost, nothing is stored twice, and whoever kills
//! workers is found out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::ids::TaskId;
use celeriac_actors::producer::TaskHandle;
use celeriac_actors::state::{DeadReason, TaskState};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::daemon::{Ground, PATIENCE};

/// Goal: killing a worker in the middle costs no result and falsifies none.
/// Method: checksums of real files through two daemons; one is killed with tasks in hand and started again.
#[tokio::test]
async fn every_checksum_is_right_after_a_kill() {
    // What was lost comes back because its worker is dead, long before the lease ends.
    let ground = Ground::with("lease = \"10m\"\n");
    let files = files(ground.path());
    let mut first = ground.daemon(&[]).await;
    let _second = ground.daemon(&[]).await;
    let checksums = ground
        .enqueue(
            "demo.checksum",
            files.iter().map(|path| json!({ "path": path })),
        )
        .await;
    // Behind them, so that the worker still holds something whenever it is killed.
    let sleeps = ground
        .enqueue("demo.sleep", (0..200).map(|_| json!({ "ms": 300 })))
        .await;
    let held: HashSet<TaskId> = ground.holding(&first, 10).await.into_iter().collect();
    first.kill();
    let _again = ground.daemon(&[]).await;
    let all: Vec<TaskHandle> = checksums.iter().chain(&sleeps).cloned().collect();
    let rescued: Vec<TaskHandle> = all
        .iter()
        .filter(|handle| held.contains(&handle.id))
        .cloned()
        .collect();
    ground.all_succeed(&rescued).await;
    ground.all_succeed(&sleeps).await;
    for (end, path) in ground.ends(&checksums).await.iter().zip(&files) {
        let found: Value = decode_value(&end.body, &FrameLimits::default()).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let sha256: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let expected = json!({ "path": path, "bytes": bytes.len(), "sha256": sha256 });
        assert_eq!(found, expected);
    }
    ground.settled().await;
    let counted = ground.audit().await;
    assert_eq!(counted.succeeded, all.len() as u64);
    assert!(counted.rescued > 0);
}

/// Goal: a task that kills its worker is buried alone.
/// Method: one `demo.abort` among sleeps; a daemon that ends is started again until nothing is left.
#[tokio::test]
async fn a_task_that_kills_workers_is_poison_and_its_neighbours_are_not() {
    let ground = Ground::new();
    let mut handles = ground
        .enqueue("demo.sleep", (0..20).map(|_| json!({ "ms": 30 })))
        .await;
    let abort = ground.enqueue("demo.abort", [Value::Null]).await;
    handles.extend(
        ground
            .enqueue("demo.sleep", (0..20).map(|_| json!({ "ms": 30 })))
            .await,
    );
    let mut daemon = ground.launch(&[], &[]);
    let mut deaths = 0;
    let started = Instant::now();
    let letters = loop {
        if daemon.has_ended() {
            deaths += 1;
            daemon = ground.launch(&[], &[]);
        }
        let dead = ground.broker().queues().await.unwrap();
        if dead.iter().any(|queue| queue.counters.dead > 0) {
            break ground.letters(1).await;
        }
        assert!(started.elapsed() < PATIENCE, "it is not buried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].id.task, abort[0].id);
    assert_eq!(letters[0].reason, DeadReason::Poison);
    assert!((2..=6).contains(&deaths), "{deaths} workers died of it");
    ground.all_succeed(&handles).await;
    // Whoever waits for it is told.
    assert_eq!(ground.ends(&abort).await[0].state, TaskState::Dead);
    ground.settled().await;
    assert_eq!(ground.audit().await.dead, 1);
    assert!(!daemon.has_ended());
}

/// Goal: a task that always panics ends as a dead letter and harms nobody: no number of panics ends the daemon.
#[tokio::test]
async fn panics_never_end_the_daemon() {
    let ground = Ground::new();
    let mut daemon = ground.daemon(&[]).await;
    let panics = ground
        .enqueue("demo.panic", (0..100).map(|_| Value::Null))
        .await;
    let echoes = ground
        .enqueue("demo.echo", (0..30).map(|i| json!({ "value": i })))
        .await;
    ground.all_succeed(&echoes).await;
    for end in ground.ends(&panics).await {
        assert_eq!(end.state, TaskState::Dead);
    }
    let letters = ground.letters(panics.len()).await;
    for letter in &letters {
        let last = letter.failures.last().unwrap();
        assert_eq!(letter.reason, DeadReason::Exhausted);
        assert_eq!(last.message, "attempt 2 panicked as asked");
        assert!(last.location.as_ref().unwrap().contains("demo_tasks.rs"));
    }
    ground.settled().await;
    ground.audit().await;
    assert!(!daemon.has_ended());
    let tree = ground.detail_where(&daemon, |_| true).await.tree;
    assert!(tree.is_complete(), "{tree:?}");
}

/// Goal: a worker that comes back after its lease has ended changes nothing any more.
/// Method: stop a daemon's process while it holds tasks, let another one run them, let the first go on.
#[tokio::test]
async fn a_worker_that_slept_through_its_lease_settles_nothing() {
    let ground = Ground::with("lease = \"2s\"\nsweep = \"500ms\"\n");
    let sleeper = ground.daemon(&[]).await;
    let sleeps = ground
        .enqueue("demo.sleep", (0..40).map(|_| json!({ "ms": 400 })))
        .await;
    ground.holding(&sleeper, 10).await;
    ground.freeze(&sleeper).await;
    let _other = ground.daemon(&[]).await;
    ground.all_succeed(&sleeps).await;
    sleeper.signal(Signal::CONT);
    // It runs again: it tells of itself once more, and serves new tasks beside the other.
    let more = ground
        .enqueue("demo.sleep", (0..100).map(|_| json!({ "ms": 100 })))
        .await;
    ground.holding(&sleeper, 1).await;
    ground.all_succeed(&more).await;
    ground.settled().await;
    let counted = ground.audit().await;
    assert_eq!(counted.succeeded, 140);
    assert!(counted.rescued > 0);
}

/// Goal: whatever is killed whenever, the counters add up and every task ends.
/// Method: ten rounds in which one of two daemons is killed at a moment that the round chooses.
#[tokio::test]
async fn nothing_is_lost_over_ten_kills() {
    let ground = Ground::new();
    let mut daemons = [ground.launch(&[], &[]), ground.launch(&[], &[])];
    let mut handles = Vec::new();
    for round in 0..10_u64 {
        for (task, args) in [
            ("demo.echo", json!({ "value": round })),
            ("demo.sleep", json!({ "ms": 20 + round * 10 })),
            ("demo.flaky", json!({ "fail_times": 1 })),
        ] {
            handles.extend(ground.enqueue(task, vec![args; 40]).await);
        }
        // Between at once and the middle of the work: no guess about what has happened by then is needed.
        tokio::time::sleep(Duration::from_millis(round * 37 % 200)).await;
        let victim = &mut daemons[usize::try_from(round % 2).unwrap()];
        victim.kill();
        *victim = ground.launch(&[], &[]);
        ground.audit().await;
    }
    let ends = ground.ends(&handles).await;
    ground.settled().await;
    let counted = ground.audit().await;
    let all = handles.len() as u64;
    assert_eq!(
        (counted.enqueued, counted.succeeded + counted.dead),
        (all, all)
    );
    // A storm of kills can hit one task as the only suspect twice, which cannot be told from a task that kills.
    assert!(counted.dead <= all / 10, "{counted:?}");
    let dead = ends.iter().filter(|end| end.state == TaskState::Dead);
    assert_eq!(dead.count() as u64, counted.dead);
    if counted.dead > 0 {
        let letters = ground.letters(usize::try_from(counted.dead).unwrap());
        for letter in letters.await {
            assert_eq!(letter.reason, DeadReason::Poison);
        }
    }
}

/// Goal: a task that never yields is named, and the others go on.
#[tokio::test]
async fn a_task_that_never_yields_is_named_and_others_go_on() {
    let ground = Ground::new();
    let daemon = ground.daemon(&[]).await;
    let spin = ground
        .enqueue_to("kyb", "demo.spin", [json!({ "ms": 20_000 })])
        .await;
    let detail = ground
        .detail_where(&daemon, |detail| {
            detail.lanes.iter().any(|lane| lane.blocked_by.is_some())
        })
        .await;
    let culprit = detail
        .lanes
        .iter()
        .find_map(|lane| lane.blocked_by.as_ref());
    assert_eq!(culprit.unwrap().id, spin[0].id);
    let mut others = Vec::new();
    for queue in ["default", "billing", "kyb", "notifications"] {
        let echoes = (0..20).map(|i| json!({ "value": i }));
        others.extend(ground.enqueue_to(queue, "demo.echo", echoes).await);
    }
    ground.all_succeed(&others).await;
    let still = ground.broker().result(&spin[0].queue, spin[0].id).await;
    assert_eq!(still.unwrap(), None, "the others waited for it");
    // The lane gets a fresh thread, and the tree serves again while the old thread spins on.
    let detail = ground
        .detail_where(&daemon, |detail| {
            detail.tree.is_complete() && detail.lanes.iter().any(|lane| lane.retired)
        })
        .await;
    let retired = detail.lanes.iter().find(|lane| lane.retired).unwrap();
    assert_eq!(
        retired.blocked_by.as_ref().map(|by| by.id),
        Some(spin[0].id)
    );
    ground.all_succeed(&spin).await;
    ground.settled().await;
    assert_eq!(ground.audit().await.succeeded, 81);
}

/// Returns real files, or files made in `own` where it has too few.
fn files(own: &Path) -> Vec<PathBuf> {
    const COUNT: usize = 500;
    let (mut found, mut places) = (Vec::new(), vec![PathBuf::from("/usr/share")]);
    while let Some(place) = places.pop()
        && found.len() < COUNT
    {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let path = entry.path();
            if meta.is_dir() {
                places.push(path);
            } else if meta.is_file() && meta.len() < 1 << 20 && std::fs::File::open(&path).is_ok() {
                found.extend(path.to_str().is_some().then_some(path));
            }
        }
    }
    found.truncate(COUNT);
    for i in found.len()..COUNT {
        let path = own.join(format!("file-{i}"));
        std::fs::write(&path, format!("{i}\n").repeat(i)).unwrap();
        found.push(path);
    }
    found
}
