//! Real daemons with tasks that crash, hang or fill the process they run in: only their child ends.

use std::time::Duration;

use celeriac::runtime::WorkerDetail;
use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::state::{DeadReason, TaskState};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Ground, eventually};

/// These kinds of tasks are isolated.
fn isolated(kinds: &[&str], more: &str) -> String {
    let section = |kind: &&str| format!("[tasks.\"demo.{kind}\"]\nmode = \"isolated\"\n{more}");
    kinds.iter().map(section).collect()
}

fn failure(record: &FinalRecord) -> Failure {
    decode_value(&record.body, &FrameLimits::default()).unwrap()
}

/// Returns the processes that this one has started and that live, zombies left out.
fn children_of(pid: u32) -> Vec<u32> {
    let all = processes_of(pid).into_iter();
    all.filter(|(_, state)| state != "Z")
        .map(|(child, _)| child)
        .collect()
}

/// Returns the processes that this one has started and not waited for, with their state as the kernel names it.
fn processes_of(pid: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = behind_name.split_whitespace();
        let (state, parent) = (fields.next(), fields.next());
        if parent.is_some_and(|parent| parent == pid.to_string()) {
            found.push((child, state.unwrap_or_default().to_owned()));
        }
    }
    found
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

async fn all_gone(children: &[u32]) {
    eventually("no child is left behind", async || {
        children
            .iter()
            .all(|child| !is_running(*child))
            .then_some(())
    })
    .await;
}

/// Goal: whatever a task does to its process, it is ended at its limit or with its process, its cause is reported, and the
/// worker goes on.
/// Method: one of each at once among tasks that are well; one attempt each.
#[tokio::test]
async fn each_end_is_reported_with_its_cause() {
    let rough = ["spin", "deadlock", "abort", "overflow", "hog", "exit"];
    let limits = "hard_limit = \"300ms\"\nmax_attempts = 1\n";
    let config = isolated(&rough[..2], limits) + &isolated(&rough[2..], "");
    let config = format!("[isolation]\nmemory_limit = \"1GiB\"\n{config}");
    let ground = Ground::with(&config);
    let daemon = ground.daemon(&[]).await;
    let mut handles = Vec::new();
    for kind in rough {
        let args = json!({ "ms": 3_600_000 });
        handles.extend(ground.enqueue(&format!("demo.{kind}"), [args]).await);
    }
    let well = ground
        .enqueue("demo.sleep", (0..200).map(|_| json!({ "ms": 5 })))
        .await;
    ground.all_succeed(&well).await;
    let ends: Vec<Failure> = ground.ends(&handles).await.iter().map(failure).collect();
    for (kind, end) in rough.iter().zip(&ends) {
        let expected = match *kind {
            "spin" | "deadlock" => FailureKind::HardLimit,
            _ => FailureKind::Crash,
        };
        assert_eq!(end.kind, expected, "{kind}: {end:?}");
    }
    let said = |kind: &str| {
        let index = rough.iter().position(|other| *other == kind).unwrap();
        format!("{} {}", ends[index].message, ends[index].causes.join(" "))
    };
    for (kind, text) in [
        ("spin", "SIGTERM"),
        ("deadlock", "SIGTERM"),
        ("abort", "signal 6 (SIGABRT)"),
        ("overflow", "overflowed its stack"),
        ("hog", "memory allocation of"),
        ("exit", "exit status 0"),
        ("abort", "peak memory"),
        ("abort", "on host"),
    ] {
        assert!(said(kind).contains(text), "{kind}: {}", said(kind));
    }
    let letters = ground.letters(rough.len()).await;
    let poison = |letter: &&celeriac_actors::ports::DeadLetter| letter.reason == DeadReason::Poison;
    assert_eq!(letters.iter().filter(poison).count(), 4);
    ground.settled().await;
    let counted = ground.audit().await;
    assert_eq!(
        (counted.succeeded, counted.dead, counted.rescued),
        (200, 6, 0)
    );
    drop(daemon);
}

/// Goal: what an isolated attempt returns, writes, logs and enqueues is as if it ran in the worker; a child is reused.
#[tokio::test]
async fn an_isolated_attempt_has_everything() {
    let config = isolated(&["echo", "print", "flaky", "panic", "block"], "");
    let ground = Ground::with(&format!("[results]\nmax_size = \"8MiB\"\n{config}"));
    let daemon = ground.daemon(&[]).await;
    let values = [
        json!({ "value": [1, "two"] }),
        json!({ "value": "x".repeat(6_000_000) }),
    ];
    let echo = ground.enqueue("demo.echo", values.clone()).await;
    for (end, value) in ground.ends(&echo).await.iter().zip(&values) {
        let returned: Value = decode_value(&end.body, &FrameLimits::default()).unwrap();
        assert_eq!(returned, value["value"]);
    }
    let print = ground
        .enqueue("demo.print", [json!({ "line": "hear, hear" })])
        .await;
    ground.all_succeed(&print).await;
    for text in ["line: hear, hear", "printed"] {
        let line = daemon.logs(text).await;
        assert!(line.contains(&print[0].id.to_string()), "{line}");
    }
    assert_eq!(
        daemon.lines_with("line: hear, hear").len(),
        2,
        "stdout and stderr"
    );
    let flaky = ground
        .enqueue("demo.flaky", [json!({ "fail_times": 2 })])
        .await;
    assert_eq!(ground.ends(&flaky).await[0].attempts, 3);
    let panic = ground.enqueue("demo.panic", [json!({})]).await;
    let end = failure(&ground.ends(&panic).await[0]);
    assert_eq!(end.kind, FailureKind::Panic);
    assert!(end.location.unwrap().contains("demo_tasks"));
    let block = ground.enqueue("demo.block", [json!({ "ms": 5 })]).await;
    ground.all_succeed(&block).await;
    let detail = ground
        .detail_where(&daemon, |detail| {
            detail.children.iter().any(|c| c.attempts > 2)
        })
        .await;
    assert!(
        detail
            .children
            .iter()
            .all(|child| child.memory.unwrap() > 1 << 20)
    );
}

/// Goal: a child that writes without end costs no memory and is not heard without end.
#[tokio::test]
async fn a_chatty_task_is_bounded() {
    let ground = Ground::with(&isolated(&["print"], ""));
    let daemon = ground.daemon(&[]).await;
    let line = "chatter ".repeat(100);
    let print = ground
        .enqueue("demo.print", [json!({ "line": line, "times": 20_000 })])
        .await;
    ground.all_succeed(&print).await;
    daemon.logs("task wrote more lines than are logged").await;
    assert!(daemon.lines_with("chatter").len() <= 5_000);
}

/// Goal: a child that has run its share of attempts is replaced.
#[tokio::test]
async fn a_child_that_has_had_enough_is_replaced() {
    let config = isolated(&["echo"], "");
    let ground = Ground::with(&format!(
        "[isolation]\nchildren = 1\nmax_tasks_per_child = 3\n{config}"
    ));
    let daemon = ground.daemon(&[]).await;
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..10 {
        let echo = ground
            .enqueue("demo.echo", [json!({ "value": number })])
            .await;
        ground.all_succeed(&echo).await;
        seen.extend(children_of(daemon.pid()));
    }
    assert!(seen.len() >= 3, "{seen:?}");
    assert_eq!(ground.audit().await.succeeded, 10);
}

/// Goal: a burst of deaths neither starts more children than there may be nor leaves one unwaited for.
/// Method: tasks that end their process in a row, one of them with the code of a child that cannot begin; the daemon's
/// processes are counted all along.
#[tokio::test]
async fn a_burst_of_deaths_is_bounded_and_cleared_away() {
    let config = isolated(&["abort", "exit"], "");
    let ground = Ground::with(&format!("[isolation]\nchildren = 2\n{config}"));
    let daemon = ground.daemon(&[]).await;
    let mut handles = ground
        .enqueue("demo.abort", [(); 6].map(|()| json!({})))
        .await;
    handles.extend(ground.enqueue("demo.exit", [json!({ "code": 195 })]).await);
    let ends = ground.ends(&handles);
    let mut ends = std::pin::pin!(ends);
    let ends = loop {
        let look = Duration::from_millis(2);
        if let Ok(ends) = tokio::time::timeout(look, &mut ends).await {
            break ends;
        }
        let all = processes_of(daemon.pid());
        assert!(all.len() <= 2, "{all:?}");
    };
    assert!(ends.iter().all(|end| end.state == TaskState::Dead));
    let last = failure(ends.last().unwrap());
    assert!(last.message.contains("exit status 195"), "{last:?}");
    eventually("none is left unwaited for", async || {
        let all = processes_of(daemon.pid());
        all.iter().all(|(_, state)| state != "Z").then_some(())
    })
    .await;
}

async fn busy(ground: &Ground, daemon: &Daemon, count: usize) -> Vec<u32> {
    let at_work = |detail: &WorkerDetail| {
        let at_work = detail.children.iter().filter(|child| child.task.is_some());
        at_work.count() == count
    };
    ground.detail_where(daemon, at_work).await;
    let children = children_of(daemon.pid());
    assert!(children.len() >= count);
    children
}

/// Goal: attempts that wait for a child leave permits to others of their queue, and are shown as what they are.
/// Method: more of them than permits beside one that never ends; then what the commands say.
#[tokio::test]
async fn waiting_for_a_child_is_shown_and_holds_nobody_up() {
    let config = isolated(&["spin"], "");
    let ground = Ground::with(&format!(
        "concurrency = 4\n[isolation]\nchildren = 1\n{config}"
    ));
    let daemon = ground.daemon(&[]).await;
    let spins = [(); 6].map(|()| json!({ "ms": 3_600_000 }));
    let spins = ground.enqueue("demo.spin", spins).await;
    let waiting = |detail: &WorkerDetail| {
        let waiting = detail.lanes.iter().map(|lane| lane.waiting_total);
        waiting.sum::<usize>() == 5
    };
    ground.detail_where(&daemon, waiting).await;
    let sleeps = (0..50).map(|_| json!({ "ms": 1 }));
    let sleeps = ground.enqueue("demo.sleep", sleeps).await;
    ground.all_succeed(&sleeps).await;
    ground.detail_where(&daemon, waiting).await;
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_celeriac"));
        command
            .arg("--config")
            .arg(ground.path().join("celeriac.toml"))
            .arg("--data-dir")
            .arg(ground.data());
        let output = command.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Each command sees what the worker said last: when five wait for good, that is what it says from then on.
    crate::daemon::eventually("five wait, whoever asks", async || {
        command(&["status"])
            .contains("waiting for a child: 5 attempts")
            .then_some(())
    })
    .await;
    let status = command(&["status"]);
    assert!(
        status.contains("waiting for a child: 5 attempts"),
        "{status}"
    );
    assert!(command(&["tree"]).contains(" waiting for a child"));
    let document: Value = serde_json::from_str(&command(&["--json", "status"])).unwrap();
    assert_eq!(
        (&document["running"], &document["waiting_for_child"]),
        (&json!(1), &json!(5))
    );
    let shown = spins.iter().filter(|spin| {
        let shown = command(&["task", "show", &spin.id.to_string()]);
        shown.contains("for a child, ")
    });
    assert_eq!(shown.count(), 5);
}

/// Goal: a stop gives isolated attempts back within the grace period and leaves no child behind; neither does SIGKILL.
#[tokio::test]
async fn no_child_outlives_its_worker() {
    let config = isolated(&["spin"], "");
    let ground = Ground::with(&format!(
        "grace = \"200ms\"\n[isolation]\nchildren = 2\n{config}"
    ));
    let mut daemon = ground.daemon(&[]).await;
    ground
        .enqueue("demo.spin", [(); 2].map(|()| json!({ "ms": 3_600_000 })))
        .await;
    let children = busy(&ground, &daemon, 2).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    assert!(children.iter().all(|child| !is_running(*child)));
    assert_eq!(ground.ready("default").await.len(), 2, "given back");
    assert!(
        ground
            .ready("default")
            .await
            .iter()
            .all(|h| h.deliveries == 0 && h.attempts == 0)
    );

    let mut daemon = ground.daemon(&[]).await;
    let children = busy(&ground, &daemon, 2).await;
    daemon.kill();
    all_gone(&children).await;
}

/// Goal: a task that kills every worker is found among its neighbours, and nobody else is buried for it.
/// Method: the demo's `abort` runs inline among 16 tasks that run when it strikes; daemons are started again until it
/// is a suspect and runs in a child.
#[tokio::test]
async fn a_killer_among_co_runners_is_buried_alone() {
    let ground = Ground::with("lease = \"1s\"\nsweep = \"250ms\"\nconcurrency = 32\n");
    let mut sleepers = Vec::new();
    for _ in 0..16 {
        sleepers.extend(ground.enqueue("demo.sleep", [json!({ "ms": 1_500 })]).await);
    }
    let abort = ground.enqueue("demo.abort", [json!({})]).await;
    let mut crashes = 0;
    let mut daemon = ground.launch(&[], &[]);
    let end = loop {
        match ground
            .client
            .outcome(&abort[0], Duration::from_millis(200))
            .await
        {
            Ok(end) => break end,
            Err(_) if daemon.has_ended() => {
                crashes += 1;
                assert!(crashes <= 2, "its third start is in a child");
                daemon = ground.launch(&[], &[]);
            }
            Err(_) => {}
        }
    };
    assert_eq!((crashes, end.state), (2, TaskState::Dead));
    ground.all_succeed(&sleepers).await;
    let letters = ground.letters(1).await;
    assert_eq!((letters.len(), letters[0].reason), (1, DeadReason::Poison));
    let said = failure(&end);
    let said = format!("{} {}", said.message, said.causes.join(" "));
    for text in [
        "signal 6 (SIGABRT)",
        "peak memory",
        "on host",
        "wrote: aborting as asked",
    ] {
        assert!(said.contains(text), "{said}");
    }
}
