//! What a daemon does when what it works on is bad: the disk, the database, the tasks.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::envelope::Envelope;
use celeriac_actors::frame::{FrameLimits, encode, encode_value};
use celeriac_actors::header::{Header, Priority};
use celeriac_actors::ids::{ChannelId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::{Value, json};

use crate::daemon::{Daemon, Ground};

fn connect(ground: &Ground) -> SqliteConnection {
    SqliteConnection::establish(ground.data().join("broker.db").to_str().unwrap()).unwrap()
}

/// Bounds how large a file the daemon may write; `None` takes the bound away.
fn bound(daemon: &Daemon, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).unwrap();
}

/// Asserts that a daemon has told of one outage, when it began in these words and when it was over.
fn told_once(daemon: &Daemon, beginning: &str) {
    let begun = ["is away", "refuses writes"].map(|text| daemon.lines_with(text));
    let begun = begun.concat();
    assert!(
        begun.len() == 1 && begun[0].contains(beginning),
        "{begun:#?}"
    );
    let ended = daemon.lines_with("is back, away_ms");
    assert_eq!(ended.len(), 1, "{ended:#?}");
}

/// Goal: a disk that is full is a state: nobody crashes, nothing is lost, and work goes on when there is room again.
/// Method: the daemon may write no more bytes while it holds tasks; later it may.
#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let ground = Ground::new();
    let mut daemon = ground.launch_ignoring_file_limits();
    ground
        .detail_where(&daemon, |detail| detail.tree.is_complete())
        .await;
    let sleeps = ground
        .enqueue("demo.sleep", (0..20).map(|_| json!({ "ms": 200 })))
        .await;
    ground.holding(&daemon, 1).await;
    bound(&daemon, Some(1));
    daemon.logs("refuses writes: make room").await;
    assert_eq!(ground.audit().await.dead, 0);
    let mut late = Vec::new();
    for i in 0..10 {
        // Each rings, and whoever waits for bells is answered.
        let echo = json!({ "value": i });
        late.extend(ground.enqueue("demo.echo", [echo]).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!daemon.has_ended());
    bound(&daemon, None);
    daemon.logs("is back, away_ms").await;
    ground.all_succeed(&[sleeps, late].concat()).await;
    ground.settled().await;
    ground.audit().await;
    told_once(&daemon, "refuses writes");
    let tree = ground
        .detail_where(&daemon, |d| d.broker_away.is_none())
        .await
        .tree;
    assert!(tree.is_complete(), "{tree:?}");
}

/// Goal: a database that another process keeps locked is an outage as well.
/// Method: hold the lock for longer than the daemon waits for it, while tasks run.
#[tokio::test]
async fn a_locked_database_is_waited_for() {
    let ground = Ground::new();
    let mut daemon = ground.daemon(&[]).await;
    let sleeps = ground
        .enqueue("demo.sleep", (0..40).map(|_| json!({ "ms": 100 })))
        .await;
    ground.holding(&daemon, 1).await;
    let mut lock = connect(&ground);
    lock.batch_execute("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE")
        .unwrap();
    daemon.logs("is away").await;
    // Longer than anybody waits for a bell: reads are answered all the time.
    tokio::time::sleep(Duration::from_secs(6)).await;
    lock.batch_execute("ROLLBACK").unwrap();
    daemon.logs("is back, away_ms").await;
    ground.all_succeed(&sleeps).await;
    ground.settled().await;
    assert_eq!(ground.audit().await.succeeded, 40);
    told_once(&daemon, "is away");
    assert!(!daemon.has_ended());
}

/// Goal: a database of a newer version is not touched, and the exit code and the text say what to do.
#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let ground = Ground::new();
    connect(&ground)
        .batch_execute("PRAGMA user_version = 99")
        .unwrap();
    let mut daemon = ground.launch(&[], &[]);
    let code = daemon.code().await;
    daemon.logs("newer").await;
    assert_eq!(code, 64);
}

/// Goal: a data directory that cannot be used is named and waited for, until somebody mends it.
/// Method: a file stands where the directory should be; then it goes away.
#[tokio::test]
async fn a_data_directory_that_cannot_be_used_is_waited_for() {
    let ground = Ground::new();
    let place = ground.path().join("elsewhere");
    std::fs::write(&place, b"in the way").unwrap();
    let mut daemon = ground.launch(&["--data-dir", place.to_str().unwrap()], &[]);
    let line = daemon.logs("cannot be opened").await;
    assert!(line.contains("elsewhere"), "{line}");
    assert!(!daemon.has_ended());
    std::fs::remove_file(&place).unwrap();
    daemon.logs("runs").await;
    assert!(place.join("broker.db").exists());
    // Once it runs, it hears signals.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
}

/// Goal: bad tasks become dead letters with their bytes and the reason, and the queue goes on behind them.
#[tokio::test]
async fn bad_tasks_are_data() {
    let ground = Ground::with("unknown_task_grace = \"1s\"\n");
    let whole = framed("demo.echo", &json!({ "value": "x".repeat(300) }));
    let mut damaged = framed("demo.echo", &json!({ "value": 1 }));
    for byte in damaged.iter_mut().skip(40) {
        *byte = 0xc1;
    }
    let bad = [
        (whole[..whole.len() - 100].to_vec(), DeadReason::Undecodable),
        (damaged, DeadReason::Undecodable),
        (
            framed("demo.sleep", &json!({ "ms": "soon" })),
            DeadReason::Undecodable,
        ),
        (
            framed("demo.echo", &json!({ "value": "0".repeat(40 << 20) })),
            DeadReason::Oversized,
        ),
        (
            framed("demo.unheard_of", &Value::Null),
            DeadReason::UnknownTask,
        ),
    ];
    add(&ground, bad.iter().map(|(frame, _)| frame.clone())).await;
    let good = ground
        .enqueue("demo.echo", (0..20).map(|i| json!({ "value": i })))
        .await;
    let mut daemon = ground.daemon(&[]).await;
    ground.all_succeed(&good).await;
    let letters = ground.letters(bad.len()).await;
    for (frame, reason) in &bad {
        let id = Header::read(frame).unwrap().id;
        let letter = letters.iter().find(|letter| letter.id.task == id).unwrap();
        assert_eq!(letter.reason, *reason, "{}", letter.note);
        // A task that was given back meanwhile carries a note of since when it is unknown.
        if *reason != DeadReason::UnknownTask {
            assert_eq!(letter.frame, *frame);
            assert!(!letter.note.is_empty() || !letter.failures.is_empty());
        }
    }
    ground.settled().await;
    assert_eq!(ground.audit().await.dead, bad.len() as u64);
    assert!(!daemon.has_ended());
}

/// Makes the frame of a task without asking whether it is a good one.
fn framed(task: &str, args: &Value) -> Vec<u8> {
    let header = Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::NORMAL,
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: TaskId::fresh(),
        enqueued_at: Timestamp::from_millis(1),
        expires_at: None,
    };
    let envelope = Envelope::new(TaskName::new(task).unwrap());
    let limits = FrameLimits {
        max_frame: 1 << 30,
        max_body: 1 << 30,
        ..FrameLimits::default()
    };
    encode(header, &envelope, &encode_value(args).unwrap(), &limits).unwrap()
}

/// Adds frames as they are.
async fn add(ground: &Ground, frames: impl Iterator<Item = Vec<u8>>) {
    let call = EnqueueCall {
        queue: QueueName::new("default").unwrap(),
        channel: ChannelId::random(),
        number: 1,
        tasks: frames
            .map(|frame| NewTask {
                frame,
                when: When::Now,
            })
            .collect(),
        kind: EnqueueKind::New,
        remember: Duration::from_secs(60),
    };
    ground.broker().enqueue(Arc::new(call)).await.unwrap();
}
