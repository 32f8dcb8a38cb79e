//! Real daemons on one server: killed at any moment, stopped beyond their lease.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use celeriac_actors::state::TaskState;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::Ground;
use crate::redis_server::{RedisServer, ServerOptions};
use crate::redis_shared::{namespace, server, with};

/// How often a daemon is killed.
const ROUNDS: u64 = 50;

fn ground(config: &str) -> Ground {
    let url = with(&server().url(), "namespace", &namespace("daemon"));
    Ground::on_redis(&url, config)
}

/// Goal: whatever is killed whenever, the counters add up, every task ends, and no attempt is made twice but those of a
/// worker that was killed.
/// Method: rounds in which one of two daemons is killed at a moment that the round chooses. Tasks and killer write to one
/// file, whose lines stand in the order of what happened.
#[tokio::test]
async fn nothing_is_lost_over_fifty_kills() {
    let ground = ground("lease = \"2s\"\nsweep = \"400ms\"\n");
    let mut daemons = [ground.launch(&[], &[]), ground.launch(&[], &[])];
    let mut handles = Vec::new();
    let file = ground.path().join("journal");
    let killing = |pid: u32| {
        let mut file = OpenOptions::new().create(true).append(true).open(&file);
        let line = json!({ "what": "kill", "pid": pid });
        file.as_mut()
            .unwrap()
            .write_all(format!("{line}\n").as_bytes())
    };
    for round in 0..ROUNDS {
        for (task, args) in [
            (
                "demo.journal",
                json!({ "path": file, "ms": 20 + round * 13 % 130 }),
            ),
            ("demo.echo", json!({ "value": round })),
            ("demo.sleep", json!({ "ms": 10 + round * 7 % 90 })),
            ("demo.flaky", json!({ "fail_times": 1 })),
        ] {
            handles.extend(ground.enqueue(task, vec![args; 10]).await);
        }
        // Between at once and the middle of the work: no guess about what has happened by then is needed.
        tokio::time::sleep(Duration::from_millis(round * 97 % 400)).await;
        let victim = &mut daemons[usize::try_from(round % 2).unwrap()];
        killing(victim.pid()).unwrap();
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
    assert!(counted.rescued > 0, "{counted:?}");
    // Suspects run in processes of their own: a worker that is killed is no evidence against any of them.
    if counted.dead > 0 {
        let died = ground.letters(1).await.into_iter();
        let died: Vec<_> = died
            .map(|it| (it.reason, it.note, it.deliveries, it.task))
            .collect();
        panic!("{counted:?} {died:?}");
    }
    let journal = std::fs::read_to_string(&file).unwrap();
    let (runs, repeated) = explain(&journal);
    assert!(runs as u64 >= 10 * ROUNDS, "{runs} runs");
    assert!(repeated > 0, "no kill hit a task: {counted:?}");
    assert!(ends.iter().all(|end| end.state == TaskState::Succeeded));
}

/// Goal: a worker that comes back after its lease has ended changes nothing any more.
/// Method: stop a daemon's process while it holds tasks, let another one run them, let the first go on.
#[tokio::test]
async fn a_daemon_that_slept_through_its_lease_settles_nothing() {
    let ground = ground("lease = \"2s\"\nsweep = \"400ms\"\n");
    let sleeper = ground.daemon(&[]).await;
    let sleeps = ground
        .enqueue("demo.sleep", (0..40).map(|_| json!({ "ms": 400 })))
        .await;
    ground.holding(&sleeper, 10).await;
    sleeper.signal(Signal::STOP);
    let _other = ground.daemon(&[]).await;
    ground.all_succeed(&sleeps).await;
    sleeper.signal(Signal::CONT);
    sleeper.logs("lost a lease").await;
    // It runs again: it serves new tasks beside the other.
    let more = ground
        .enqueue("demo.sleep", (0..100).map(|_| json!({ "ms": 100 })))
        .await;
    ground.holding(&sleeper, 1).await;
    ground.all_succeed(&more).await;
    ground.settled().await;
    let counted = ground.audit().await;
    assert_eq!((counted.enqueued, counted.succeeded), (140, 140));
    assert!(counted.rescued > 0);
}

/// Goal: dead letters are stored although no embedded broker has made the data directory.
#[tokio::test]
async fn a_daemon_without_a_data_directory_stores_dead_letters() {
    let ground = ground("");
    assert!(!ground.data().exists());
    let _daemon = ground.daemon(&[]).await;
    let panics = ground.enqueue("demo.panic", vec![json!(null); 3]).await;
    for end in ground.ends(&panics).await {
        assert_eq!(end.state, TaskState::Dead);
    }
    assert_eq!(ground.letters(3).await.len(), 3);
    ground.settled().await;
    let mode = std::fs::metadata(ground.data())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Goal: a daemon whose server is away waits for it; one that is refused says why and ends.
#[tokio::test]
async fn a_daemon_waits_for_its_server_and_not_for_a_password() {
    let mut server = RedisServer::start(ServerOptions {
        users: vec!["user worker on >secret ~* &* +@all".to_owned()],
        ..ServerOptions::default()
    });
    let ground = Ground::on_redis(&server.url_as("worker", "secret"), "");
    server.kill();
    let waiting = ground.launch(&[], &[]);
    let line = waiting.logs("cannot be opened").await;
    assert!(
        line.contains("refused") && !line.contains("secret"),
        "{line}"
    );
    server.restart();
    waiting.logs("runs").await;
    let echoes = (0..20).map(|i| json!({ "value": i }));
    let echoes = ground.enqueue("demo.echo", echoes).await;
    ground.all_succeed(&echoes).await;

    let wrong = server.url_as("worker", "wrong");
    let mut refused = ground.launch(&["--broker", &wrong], &[]);
    assert_eq!(refused.code().await, 64);
    let line = refused.logs("password").await;
    assert!(!line.contains("wrong@"), "{line}");
}

/// Asserts that every run of an attempt but the last was a killed worker's, and that the next one came after the kill.
/// Returns how many runs there were, and how many of them were repeats.
fn explain(journal: &str) -> (usize, usize) {
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut killed = HashMap::new();
    let mut ran = HashMap::new();
    let (mut runs, mut repeats) = (0, 0);
    for (place, line) in lines.iter().enumerate() {
        let pid = match line["pid"].as_u64() {
            Some(pid) => pid,
            // A worker's name is its host, its process and a random part.
            None => line["worker"]
                .as_str()
                .unwrap()
                .rsplit(':')
                .nth(1)
                .unwrap()
                .parse()
                .unwrap(),
        };
        match line["what"].as_str().unwrap() {
            "kill" => drop(killed.insert(pid, place)),
            "start" => {
                runs += 1;
                let attempt = (line["id"].to_string(), line["attempt"].as_u64().unwrap());
                if let Some((before, started)) = ran.insert(attempt, (pid, place)) {
                    repeats += 1;
                    let kill = killed.get(&before);
                    assert!(
                        kill.is_some_and(|kill| *kill > started),
                        "an attempt of living process {before} was made again: {line}"
                    );
                }
            }
            _ => {}
        }
    }
    (runs, repeats)
}
