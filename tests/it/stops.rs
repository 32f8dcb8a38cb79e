//! The stop of a daemon whatever its tasks do: bounded, and all it held is there for others at once.

use std::fmt::Write as _;
use std::time::Duration;

use celeriac_actors::ids::QueueName;
use celeriac_actors::mode::Mode;
use celeriac_actors::producer::EnqueueOptions;
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::daemon::{Daemon, Ground, eventually};

/// Much longer than a stop takes on a busy machine, and much shorter than asking the actors of so many queues one by one.
const BOUND: Duration = Duration::from_secs(10);

/// Many queues, so that what is done for each of them on a blocked lane would show.
fn config(grace: &str, lanes: u16) -> String {
    let mut config = format!("grace = {grace:?}\narbiters = {lanes}\nlease = \"60s\"\n");
    for queue in 0..20 {
        writeln!(config, "[queues.q{queue}]").unwrap();
    }
    config
}

fn hour() -> [Value; 1] {
    [json!({ "ms": 3_600_000 })]
}

fn in_mode(mode: Mode) -> EnqueueOptions {
    let queue = QueueName::new("default").unwrap();
    EnqueueOptions::default().queue(queue).mode(mode)
}

/// Keeps every mode busy, then blocks every lane. Returns how many tasks run, and the processes that run some of them.
async fn busy(ground: &Ground, daemon: &Daemon, lanes: usize) -> (u64, Vec<u32>) {
    ground.enqueue("demo.sleep", hour()).await;
    ground.enqueue("demo.block", hour()).await;
    for (mode, task) in [
        (Mode::Blocking, "demo.spin"),
        (Mode::Blocking, "demo.sleep"),
        (Mode::Isolated, "demo.spin"),
        (Mode::Isolated, "demo.sleep"),
    ] {
        ground.enqueue_with(in_mode(mode), task, hour()).await;
    }
    ground.running(daemon, 6).await;
    let isolated = |detail: &celeriac::runtime::WorkerDetail| {
        let busy = detail.children.iter().filter(|child| child.task.is_some());
        busy.map(|child| child.pid).collect::<Vec<u32>>()
    };
    let detail = ground
        .detail_where(daemon, |detail| isolated(detail).len() == 2)
        .await;
    for spin in 1..=lanes {
        ground.enqueue("demo.spin", hour()).await;
        ground.running(daemon, 6 + spin).await;
    }
    (6 + lanes as u64, isolated(&detail))
}

/// Asserts that the daemon ends in time, and that all its tasks are ready, as if they had never been started.
async fn gives_all_back(ground: &Ground, daemon: &mut Daemon, tasks: u64, grace: Duration) {
    let told = Instant::now();
    assert_eq!(daemon.code().await, 0);
    let took = told.elapsed();
    assert!(took < grace + BOUND, "{took:?}");
    // Looked at once: nobody is there who could have rescued them.
    assert!(ground.active().await.is_empty());
    let ready = ground.ready("default").await;
    assert_eq!(ready.len() as u64, tasks);
    for header in ready {
        assert_eq!((header.attempts, header.deliveries), (0, 0), "{header:?}");
    }
    let counted = ground.audit().await;
    assert_eq!((counted.rescued, counted.retried, counted.dead), (0, 0, 0));
}

async fn are_gone(processes: &[u32]) {
    for pid in processes {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        eventually("the child is gone", async || test_kill_process(pid).err()).await;
    }
}

/// Goal: a graceful stop with every mode busy and every lane blocked releases everything within the grace period and a
/// moment, and takes its child processes along.
async fn a_stop_with_blocked_lanes(ground: &Ground, lanes: usize) {
    let grace = Duration::from_secs(2);
    let mut daemon = ground.daemon(&[]).await;
    let (tasks, children) = busy(ground, &daemon, lanes).await;
    daemon.signal(Signal::TERM);
    gives_all_back(ground, &mut daemon, tasks, grace).await;
    are_gone(&children).await;
}

#[tokio::test]
async fn a_stop_with_a_blocked_lane_releases_everything() {
    a_stop_with_blocked_lanes(&Ground::with(&config("2s", 2)), 1).await;
}

#[tokio::test]
async fn a_stop_with_two_blocked_lanes_releases_everything() {
    a_stop_with_blocked_lanes(&Ground::with(&config("2s", 2)), 2).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_stop_with_a_blocked_lane_releases_everything_on_redis() {
    use crate::redis_shared::{namespace, server, with};

    for lanes in [1, 2] {
        let url = with(&server().url(), "namespace", &namespace("stops"));
        let ground = Ground::on_redis(&url, &config("2s", 2));
        a_stop_with_blocked_lanes(&ground, lanes).await;
    }
}

/// Goal: a second signal ends the grace period for what is on a blocked lane as well.
#[tokio::test]
async fn a_second_signal_releases_what_is_on_blocked_lanes() {
    let ground = Ground::with(&config("10m", 2));
    let mut daemon = ground.daemon(&[]).await;
    let (tasks, children) = busy(&ground, &daemon, 2).await;
    daemon.signal(Signal::TERM);
    daemon.logs("told to stop; finishing").await;
    // A second one, and not what comes together with the first and means the same.
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.signal(Signal::TERM);
    gives_all_back(&ground, &mut daemon, tasks, Duration::ZERO).await;
    are_gone(&children).await;
}

/// Goal: with blocked lanes, too, the stop is bounded while the broker is away, and says what is left.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_stop_with_blocked_lanes_is_bounded_while_the_broker_is_away() {
    let mut server = crate::redis_server::RedisServer::start(Default::default());
    let ground = Ground::on_redis(&server.url(), &config("1s", 2));
    let mut daemon = ground.daemon(&[]).await;
    let (tasks, _children) = busy(&ground, &daemon, 2).await;
    server.kill();
    daemon.logs("is away; retrying").await;
    let told = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    assert!(told.elapsed() < 2 * BOUND, "{:?}", told.elapsed());
    let line = daemon.logs("other workers run those tasks again").await;
    assert!(line.contains(&format!("tasks_at_most: {tasks}")), "{line}");
}
