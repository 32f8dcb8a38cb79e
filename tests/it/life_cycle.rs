//! The life of a daemon from its start to its end: readiness, draining, giving back, bursts.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::daemon::{Ground, PATIENCE};

/// Goal: the first signal lets what runs end, and gives back what does not run.
#[tokio::test]
async fn a_signal_drains_and_ends_with_0() {
    let ground = Ground::new();
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = ground.daemon(&["--concurrency", "4"]).await;
        let sleeps = ground
            .enqueue("demo.sleep", (0..30).map(|_| json!({ "ms": 700 })))
            .await;
        ground.running(&daemon, 4).await;
        let before = ground.audit().await;
        daemon.signal(signal);
        assert_eq!(daemon.code().await, 0);
        let after = ground.audit().await;
        let ended = after.succeeded - before.succeeded;
        assert!((1..30).contains(&ended), "{ended} ended while draining");
        assert_eq!(after.rescued, 0);
        assert!(ground.active().await.is_empty());
        // Another one runs the rest, each for the first time.
        let mut burst = ground.launch(&["--burst"], &[]);
        for end in ground.ends(&sleeps).await {
            assert_eq!(end.attempts, 1);
        }
        assert_eq!(burst.code().await, 0);
    }
}

/// Goal: a daemon that still waits for its broker has nothing to finish, and ends at once.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_signal_ends_the_wait_for_the_broker_with_0() {
    // One that refuses connections, and one that takes them and says nothing, so that the signal comes while opening.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = silent.local_addr().unwrap().port();
    for (port, options) in [(crate::ports::free_port(), ""), (mute, "?timeout=60s")] {
        let url = format!("redis://127.0.0.1:{port}{options}");
        let ground = Ground::with(&format!("broker = {url:?}\n"));
        for signal in [Signal::TERM, Signal::INT] {
            let mut daemon = ground.launch(&[], &[]);
            match options {
                "" => drop(daemon.logs("the broker cannot be opened").await),
                _ => drop(silent.accept().unwrap()),
            }
            daemon.signal(signal);
            assert_eq!(daemon.code().await, 0);
            daemon
                .logs("told to stop before the broker could be opened")
                .await;
        }
    }
}

/// Goal: the second signal gives back what runs, at once, to the front and uncounted.
#[tokio::test]
async fn a_second_signal_gives_back_at_once() {
    // Longer than anything here waits for.
    let ground = Ground::with("grace = \"10m\"\n");
    let mut daemon = ground.daemon(&["--concurrency", "2"]).await;
    let slow = ground
        .enqueue("demo.sleep", (0..2).map(|_| json!({ "ms": 600_000 })))
        .await;
    ground.running(&daemon, 2).await;
    ground
        .enqueue("demo.sleep", (0..10).map(|_| json!({ "ms": 5 })))
        .await;
    daemon.signal(Signal::TERM);
    daemon.logs("told to stop; finishing").await;
    // A second one, and not what comes together with the first and means the same.
    tokio::time::sleep(Duration::from_millis(200)).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    let counted = ground.audit().await;
    assert_eq!(
        (counted.succeeded, counted.rescued, counted.retried),
        (0, 0, 0)
    );
    // What ran is in front of what did not, and as if it had never been started.
    let ready = ground.ready("default").await;
    assert_eq!(ready.len(), 12);
    let front = &ready[..2];
    assert!(
        slow.iter()
            .all(|task| front.iter().any(|header| header.id == task.id)),
        "{ready:?}"
    );
    assert!(
        ready
            .iter()
            .all(|header| (header.attempts, header.deliveries) == (0, 0)),
        "{ready:?}"
    );
}

/// Goal: draining ends with the grace period.
#[tokio::test]
async fn the_grace_period_is_kept() {
    let ground = Ground::with("grace = \"1s\"\n");
    let mut daemon = ground.daemon(&[]).await;
    ground
        .enqueue("demo.sleep", [json!({ "ms": 600_000 })])
        .await;
    ground.holding(&daemon, 1).await;
    let started = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(ground.ready("default").await.len(), 1);
    ground.audit().await;
}

/// Goal: while the broker is away, too, the whole stop is the grace period and a little more, however many queues there
/// are to leave; what becomes of the tasks is told.
#[cfg(feature = "redis")]
#[tokio::test]
async fn the_grace_period_is_kept_while_the_broker_is_away() {
    use std::fmt::Write as _;

    let mut server = crate::redis_server::RedisServer::start(Default::default());
    let mut config = "grace = \"1s\"\narbiters = 2\n".to_owned();
    for queue in 0..30 {
        writeln!(config, "[queues.q{queue}]").unwrap();
    }
    let ground = Ground::on_redis(&server.url(), &config);
    let mut daemon = ground.daemon(&[]).await;
    let sleep = [json!({ "ms": 60_000 }), json!({ "ms": 60_000 })];
    ground.enqueue("demo.sleep", sleep).await;
    ground.holding(&daemon, 2).await;
    server.kill();
    daemon.logs("is away; retrying").await;
    let started = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    // One queue after the other would take half a minute.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let line = daemon.logs("other workers run those tasks again").await;
    assert!(line.contains("tasks_at_most: 2"), "{line}");
}

/// Goal: `--burst` ends when nothing is left to do, retries included, and not before.
#[tokio::test]
async fn a_burst_ends_with_0_when_everything_has_ended() {
    let ground = Ground::new();
    let mut handles = ground
        .enqueue("demo.flaky", (0..10).map(|_| json!({ "fail_times": 2 })))
        .await;
    handles.extend(
        ground
            .enqueue("demo.sleep", (0..50).map(|_| json!({ "ms": 20 })))
            .await,
    );
    ground
        .enqueue("demo.fail", [json!({ "message": "no", "permanent": true })])
        .await;
    let mut daemon = ground.launch(&["--burst"], &[]);
    assert_eq!(daemon.code().await, 0);
    let queues = ground.broker().queues().await.unwrap();
    assert!(
        queues.iter().all(|q| q.held() == 0 && q.dead_outbox == 0),
        "{queues:?}"
    );
    ground.all_succeed(&handles).await;
    assert_eq!(ground.letters(1).await.len(), 1);
    let counted = ground.audit().await;
    assert_eq!((counted.succeeded, counted.dead), (60, 1));
}

/// Goal: a service manager hears that the daemon is ready, not earlier than it is, and that it stops.
#[tokio::test]
async fn a_service_manager_is_told() {
    let ground = Ground::new();
    let path = ground.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut daemon = ground.launch(&[], &[("NOTIFY_SOCKET", &path)]);
    assert!(hear(&socket).contains("READY=1"));
    assert!(ground.record(&daemon).await.alive);
    daemon.signal(Signal::TERM);
    assert!(hear(&socket).contains("STOPPING=1"));
    assert_eq!(daemon.code().await, 0);
}

fn hear(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
