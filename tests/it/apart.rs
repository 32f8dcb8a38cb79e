//! Attempts in processes of their own on a lane whose thread is blocked: who takes them away ends their processes, without
//! the help of that thread.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use celeriac::client::RevokeOptions;
use celeriac::clock::SystemClock;
use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::mode::Mode;
use celeriac_actors::producer::{EnqueueOptions, TaskHandle};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Clock as _;
use rustix::process::Signal;
use serde_json::json;

use crate::commands::is_alive;
use crate::daemon::{Daemon, Ground, eventually};

/// A script that does not hear SIGTERM, and starts another that does.
const HANG: &str = "#!/bin/sh\ntrap '' TERM\nsleep 3600 &\necho $$ $! > \"$PIDS.new\"\nmv \"$PIDS.new\" \"$PIDS\"\n\
                    wait\nsleep 3600\n";

/// An isolated attempt and a command that never end, on the one lane of a daemon, whose thread is then blocked for good.
struct Stage {
    ground: Ground,
    daemon: Daemon,
    isolated: TaskHandle,
    command: TaskHandle,
    pids: PathBuf,
    children: Vec<i32>,
}

impl Stage {
    /// Starts with these options for both attempts.
    async fn set(options: EnqueueOptions) -> Self {
        let ground = Ground::with("");
        let (script, pids) = (ground.path().join("hang.sh"), ground.path().join("pids"));
        std::fs::write(&script, HANG).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "arbiters = 1\ngrace = \"1s\"\n[[command]]\nname = \"scripts.hang\"\nprogram = {:?}\n[command.env]\nPIDS = {:?}\n",
            script.display().to_string(),
            pids.display().to_string()
        );
        std::fs::write(ground.path().join("celeriac.toml"), config).unwrap();
        let daemon = ground.daemon(&[]).await;
        let hour = [json!({ "ms": 3_600_000 })];
        let isolated = options.clone().mode(Mode::Isolated);
        let isolated = ground
            .enqueue_with(isolated, "demo.spin", hour.clone())
            .await;
        let command = ground
            .enqueue_with(options, "scripts.hang", [json!({})])
            .await;
        let mut children: Vec<i32> = eventually("the command has begun", async || {
            let told = std::fs::read_to_string(&pids).ok()?;
            told.split_whitespace()
                .map(|pid| pid.parse().ok())
                .collect()
        })
        .await;
        let detail = ground
            .detail_where(&daemon, |detail| {
                detail.children.iter().any(|child| child.task.is_some())
            })
            .await;
        let busy = detail.children.iter().filter(|child| child.task.is_some());
        children.extend(busy.map(|child| child.pid.cast_signed()));
        assert_eq!(children.len(), 3);
        ground.enqueue("demo.spin", hour).await;
        daemon.logs("thread is blocked by a task").await;
        Self {
            ground,
            daemon,
            isolated: isolated[0].clone(),
            command: command[0].clone(),
            pids,
            children,
        }
    }

    async fn are_dead(&self) {
        for pid in &self.children {
            eventually("the process has ended", async || {
                (!is_alive(*pid)).then_some(())
            })
            .await;
        }
    }
}

/// Goal: at their hard limit attempts on a blocked lane fail, and their processes are dead.
#[tokio::test]
async fn a_hard_limit_ends_the_process_of_an_attempt_on_a_blocked_lane() {
    let options = EnqueueOptions::default()
        .hard_limit(Duration::from_secs(8))
        .max_attempts(1);
    let stage = Stage::set(options).await;
    for task in [&stage.isolated, &stage.command] {
        let end = &stage.ground.ends(std::slice::from_ref(task)).await[0];
        assert_eq!(end.state, TaskState::Dead);
        let failure: Failure = decode_value(&end.body, &FrameLimits::default()).unwrap();
        assert_eq!(failure.kind, FailureKind::HardLimit, "{failure:?}");
    }
    stage.are_dead().await;
    let taken = stage.daemon.lines_with("its process killed");
    assert_eq!(taken.len(), 2, "{taken:?}");
}

/// Goal: a revocation that terminates reaches what runs on a blocked lane: the tasks are cancelled, their processes dead.
#[tokio::test]
async fn a_revocation_ends_the_process_of_an_attempt_on_a_blocked_lane() {
    let stage = Stage::set(EnqueueOptions::default()).await;
    for task in [&stage.isolated, &stage.command] {
        let revocation = Revocation::id(task.id).terminate();
        let options = RevokeOptions::default().queue(task.queue.clone());
        let client = &stage.ground.client;
        client
            .revoke_with(&revocation, options, SystemClock.now())
            .await
            .unwrap();
        let end = &stage.ground.ends(std::slice::from_ref(task)).await[0];
        assert_eq!(end.state, TaskState::Cancelled);
    }
    stage.are_dead().await;
}

/// Goal: the end of a daemon takes along what runs on its blocked lane, commands too, which nothing else would end.
#[tokio::test]
async fn a_stop_ends_the_processes_of_attempts_on_a_blocked_lane() {
    let mut stage = Stage::set(EnqueueOptions::default()).await;
    stage.daemon.signal(Signal::TERM);
    assert_eq!(stage.daemon.code().await, 0);
    stage.are_dead().await;
    assert_eq!(stage.ground.ready("default").await.len(), 3);
    assert!(stage.pids.exists());
}
