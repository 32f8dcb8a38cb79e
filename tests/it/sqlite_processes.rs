//! Several processes on one data directory: kill -9, proof of death, bells.
//!
//! A second process is this test binary again, running one ignored test in the data directory as its working
//! directory; it talks over its standard input and output.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac_actors::ports::{Broker, Wake, id_of};
use celeriac_actors::testkit::conformance::run;

use crate::daemon::PATIENCE;
use crate::sqlite_faults::{adding, exchange, opened, queue};

struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts a process that runs the ignored test `name`.
    fn start(directory: &Path, name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg(format!("sqlite_processes::{name}"))
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads the next line that the test itself wrote.
    fn hear(&mut self) -> String {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(said) = line.split("> ").nth(1) {
                return said.to_owned();
            }
        }
    }

    fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[expect(clippy::print_stdout, reason = "it is how the two processes talk")]
fn say(line: &str) {
    println!("> {line}");
    std::io::stdout().flush().unwrap();
}

fn open(directory: &Path) -> SqliteBroker {
    SqliteBroker::open(SqliteOptions::new(directory)).unwrap()
}

/// Goal: what was acknowledged is there after a kill -9.
/// Method: a process enqueues and says so after each acknowledgement; it is killed in the middle of it.
#[test]
fn an_acknowledged_task_survives_the_kill_of_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start(dir.path(), "enqueue_and_say_so");
    let mut acknowledged = 0;
    while acknowledged < 100 {
        acknowledged = other.hear().parse().unwrap();
    }
    other.kill();
    run(async {
        let broker = open(dir.path());
        let consumer = opened(&broker, "w1").await;
        let fetched = exchange(&broker, (consumer, 1), &[], 500).await.unwrap();
        let ids = fetched.deliveries.iter().filter_map(|d| id_of(&d.frame));
        let ids: BTreeSet<u128> = ids.map(|id| id.as_uuid().as_u128()).collect();
        let lost = (1..=acknowledged).filter(|number| !ids.contains(number));
        assert_eq!(lost.collect::<Vec<_>>(), Vec::<u128>::new());
    });
}

#[test]
#[ignore = "the other process of a test"]
fn enqueue_and_say_so() {
    run(async {
        let broker = open(Path::new("."));
        for number in 1..100_000 {
            broker.enqueue(adding([number], 0)).await.unwrap();
            say(&number.to_string());
        }
    });
}

/// Goal: a worker killed with SIGKILL is proven dead at the next sweep, whatever its lease.
#[test]
fn a_killed_worker_is_proven_dead() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = open(dir.path());
        broker.enqueue(adding(0..3, 0)).await.unwrap();
        let mut other = Other::start(dir.path(), "hold_tasks");
        assert_eq!(other.hear(), "held 3");
        broker.sweep(&queue(), 500).await.unwrap();
        let swept = broker.sweep(&queue(), 500).await.unwrap();
        assert_eq!(swept.rescued, 0, "it lives");
        other.kill();
        let swept = broker.sweep(&queue(), 500).await.unwrap();
        assert_eq!(swept.rescued, 3);
        assert!(swept.closed[0].proven_dead);
    });
}

#[test]
#[ignore = "the other process of a test"]
fn hold_tasks() {
    run(async {
        let options = SqliteOptions::new(".").worker("other:1:a".parse().unwrap());
        let broker = SqliteBroker::open(options).unwrap();
        let consumer = opened(&broker, "other:1:a").await;
        let fetched = exchange(&broker, (consumer, 1), &[], 500).await.unwrap();
        say(&format!("held {}", fetched.deliveries.len()));
        std::future::pending::<()>().await;
    });
}

/// Goal: a task enqueued by another process wakes one who waits here, and not the look that is made once a second.
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
#[test]
fn a_bell_is_heard_across_processes() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = open(dir.path());
        let mut other = Other::start(dir.path(), "enqueue_when_told");
        assert_eq!(other.hear(), "here");
        let queues = [queue()];
        let mut times = Vec::new();
        for round in 0..20 {
            // Nothing is waiting: tokens of the last round are taken.
            broker
                .wait(&queues, Duration::from_millis(20))
                .await
                .unwrap();
            let from = Instant::now();
            other.tell(&round.to_string());
            let heard = broker.wait(&queues, PATIENCE).await.unwrap();
            times.push(from.elapsed());
            assert!(heard.contains(&Wake::Ready(queue())), "{heard:?}");
            other.hear();
        }
        times.sort_unstable();
        // Looks alone would hit so many of twenty by chance once in hundreds of runs.
        assert!(times[10] < Duration::from_millis(250), "{times:?}");
        other.kill();
    });
}

#[test]
#[ignore = "the other process of a test"]
fn enqueue_when_told() {
    run(async {
        let broker = open(Path::new("."));
        say("here");
        for line in std::io::stdin().lines() {
            let number = line.unwrap().parse().unwrap();
            broker.enqueue(adding([number], 0)).await.unwrap();
            say("done");
        }
    });
}

/// Goal: two processes drain one queue: every task once, and neither starves.
#[test]
fn two_processes_share_a_queue() {
    const TASKS: u128 = 4_000;
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = open(dir.path());
        for first in (0..TASKS).step_by(500) {
            broker.enqueue(adding(first..first + 500, 0)).await.unwrap();
        }
        let mut other = Other::start(dir.path(), "drain");
        assert_eq!(other.hear(), "here");
        other.tell("go");
        let mut mine = drain_all(&broker).await;
        let theirs = other.hear();
        let theirs: Vec<u128> = theirs.split(' ').map(|id| id.parse().unwrap()).collect();
        let shares = (mine.len(), theirs.len());
        assert!(shares.0 > 200 && shares.1 > 200, "{shares:?}");
        mine.extend(theirs);
        mine.sort_unstable();
        assert_eq!(mine, (0..TASKS).collect::<Vec<_>>());
        other.kill();
    });
}

#[test]
#[ignore = "the other process of a test"]
fn drain() {
    let ids = |ids: Vec<u128>| ids.iter().map(u128::to_string).collect::<Vec<_>>();
    run(async {
        let broker = open(Path::new("."));
        say("here");
        std::io::stdin().lines().next().unwrap().unwrap();
        let drained = drain_all(&broker).await;
        say(&ids(drained).join(" "));
    });
}

/// Fetches and settles, eight at a time, until nothing is left. Returns which.
async fn drain_all(broker: &SqliteBroker) -> Vec<u128> {
    let consumer = opened(broker, "w1").await;
    let (mut drained, mut settled) = (Vec::new(), Vec::new());
    for number in 1.. {
        let fetched = exchange(broker, (consumer, number), &settled, 8).await;
        let fetched = fetched.unwrap();
        assert!(fetched.stale.is_empty());
        if fetched.deliveries.is_empty() {
            break;
        }
        settled = fetched.deliveries.iter().map(|d| d.tag).collect();
        let ids = fetched.deliveries.iter().filter_map(|d| id_of(&d.frame));
        drained.extend(ids.map(|id| id.as_uuid().as_u128()));
    }
    drained
}
