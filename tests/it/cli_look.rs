//! `status`, `tree`, `queues`, `tasks`, `task show`, `completions`: looking at a broker from another process.

use serde_json::Value;

use crate::cli_support::{Place, code, said};

#[test]
fn an_empty_place_says_so() {
    let place = Place::new();
    for look in [&["status"][..], &["queues"], &["tree"], &["tasks"]] {
        let output = place.run(look);
        assert_eq!(code(&output), 69, "{look:?}");
        assert!(
            said(&output).contains("there is no broker in"),
            "{}",
            said(&output)
        );
    }
    let nothing = place.feed(&["enqueue", "--jsonl", "-"], b"");
    assert_eq!(String::from_utf8_lossy(&nothing.stdout), "0 accepted\n");
    assert!(place.lines(&["tree"])[0].starts_with("no worker has been seen"));
    assert_eq!(place.lines(&["tasks"]), ["no task found"]);
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["durability"], "power-safe");
    let names: Vec<&Value> = status["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|q| &q["queue"])
        .collect();
    assert_eq!(names, ["billing", "default", "kyb", "notifications"]);
}

/// Goal: every look works while a daemon runs, and a task that blocks a thread is named.
#[test]
fn a_running_daemon_is_seen_whole() {
    let place = Place::new();
    let daemon = place.daemon(&["--concurrency", "4"]);
    let id = place.lines(&["enqueue", "demo.spin", "--args", r#"{"ms":25000}"#])[0].clone();
    place.until("the spinning task is named", || {
        place
            .lines(&["tree"])
            .iter()
            .any(|line| line.contains("BLOCKED by demo.spin"))
    });
    let status = place.lines(&["status"]).join("\n");
    assert!(status.contains("BLOCKS ITS THREAD"), "{status}");
    assert!(status.contains("lost = 0"), "{status}");

    let tree = place.json(&["tree", "--json"]);
    let worker = &tree["workers"][0];
    assert_eq!(
        (&worker["pid"], &worker["tree"]["state"]),
        (&daemon.pid().into(), &"up".into())
    );
    let beginning = worker["worker"]
        .as_str()
        .unwrap()
        .split(':')
        .next()
        .unwrap();
    let chosen = place.json(&["tree", beginning, "--json"]);
    assert_eq!(chosen["workers"][0]["worker"], worker["worker"]);
    assert_eq!(code(&place.run(&["tree", "nobody"])), 64);

    let shown = place.json(&["task", "show", &id, "--json"]);
    assert_eq!(
        (&shown["state"], &shown["args"]["ms"]),
        (&"active".into(), &25_000.into())
    );
    let tasks = place.lines(&["tasks", "--state", "active", "--json"]);
    assert!(tasks.iter().any(|line| line.contains(&id)), "{tasks:?}");
}

/// Goal: what a killed worker said last is not taken for what is.
#[test]
fn a_silent_worker_runs_nothing() {
    let place = Place::new();
    let mut daemon = place.daemon(&[]);
    place.lines(&["enqueue", "demo.sleep", "--args", r#"{"ms":600000}"#]);
    place.until("the worker tells that it runs the task", || {
        place.json(&["status", "--json"])["running"] == 1
    });
    daemon.kill();
    place.until("the worker is silent", || {
        place.json(&["status", "--json"])["workers"][0]["state"] == "silent"
    });
    let status = place.json(&["status", "--json"]);
    let worker = &status["workers"][0];
    assert_eq!(
        (&status["running"], &worker["running"]),
        (&0.into(), &0.into())
    );
    assert_eq!(worker["silent_since"], worker["seen_at"]);
    let seen = worker["seen_at"].as_str().unwrap();
    let since = format!("silent since {}", seen.split_once('.').unwrap().0);
    let text = place.lines(&["status"]).join("\n");
    assert!(text.contains(&since), "{text}");
    assert!(!text.contains(" 1/"), "{text}");
    assert!(
        text.contains("rescued as soon as a worker of its queues runs"),
        "{text}"
    );
    assert!(worker["lanes"].is_null(), "{worker}");
    let tree = &place.lines(&["tree"])[0];
    assert!(
        tree.contains("SILENT") && !tree.contains("running"),
        "{tree}"
    );
    let _another = place.daemon(&[]);
    let text = place.lines(&["status"]).join("\n");
    assert!(
        text.contains("the other workers of its queues run it again"),
        "{text}"
    );
}

/// Goal: whoever reads JSON gets his mistakes as JSON too, those of the command line included.
#[test]
fn mistakes_are_json_where_json_is_asked_for() {
    let place = Place::new();
    for (arguments, said) in [
        (&["--json"][..], "a command is missing"),
        (&["status", "--json", "--loud"], "'--loud'"),
        (&["queus", "--json"], "'queues'"),
        (&["task", "show", "--json"], "<ID>"),
        (&["task", "--json"], "a command is missing"),
        (&["task", "show", "7", "--json"], "no id of a task"),
    ] {
        let output = place.run(arguments);
        assert_eq!(code(&output), 64, "{arguments:?}");
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        let text = error["error"].as_str().unwrap();
        assert!(text.contains(said), "{arguments:?}: {text}");
        assert!(!text.contains("Usage"), "{arguments:?}: {text}");
        assert_eq!(error["exit"], 64);
    }
    let help = place.run(&["--json", "--help"]);
    assert_eq!(code(&help), 0);
    // What is behind `--` is no flag.
    let text = place.run(&["task", "show", "--", "--json", "7"]);
    assert!(said(&text).starts_with("error: "), "{}", said(&text));
}

#[test]
fn the_id_of_a_dead_letter_leads_to_its_command() {
    let place = Place::new();
    let id = "018f0000-0000-7000-8000-000000000001";
    let output = place.run(&["task", "show", &format!("{id}-7")]);
    assert_eq!(code(&output), 64);
    for told in [format!("`dead show {id}-7`"), format!("`task show {id}`")] {
        assert!(said(&output).contains(&told), "{}", said(&output));
    }
}

#[test]
fn tasks_are_found_wherever_they_are() {
    let place = Place::new();
    let later = &place.lines(&["enqueue", "a.later", "--countdown", "1h", "--args", "[7]"])[0];
    let ready = &place.lines(&["enqueue", "a.ready", "--count", "60"])[59];
    for (id, state) in [(later, "scheduled"), (ready, "ready")] {
        assert_eq!(place.json(&["task", "show", id, "--json"])["state"], state);
    }
    assert_eq!(place.json(&["task", "show", later, "--json"])["args"][0], 7);
    let some = place.run(&["tasks", "--limit", "5"]);
    assert_eq!(String::from_utf8_lossy(&some.stdout).lines().count(), 6);
    assert!(
        said(&some).contains("searched 5 of 61 tasks"),
        "{}",
        said(&some)
    );
    assert_eq!(place.lines(&["tasks", "--task", "a.l*", "--json"]).len(), 1);
    assert_eq!(
        place
            .lines(&["tasks", "--state", "ready", "--limit", "100"])
            .len(),
        61
    );

    let nobody = place.run(&["task", "show", "018f0000-0000-7000-8000-000000000001"]);
    assert_eq!(code(&nobody), 64);
    assert!(
        said(&nobody).ends_with("searched 61 of 61 tasks\n"),
        "{}",
        said(&nobody)
    );

    let _daemon = place.daemon(&[]);
    let dead = place.run(&[
        "enqueue",
        "demo.fail",
        "--wait",
        "--args",
        r#"{"permanent":true}"#,
    ]);
    let end: Value = serde_json::from_slice(&dead.stdout).unwrap();
    let id = end["id"].as_str().unwrap();
    place.until("the dead letter is found", || {
        let shown = place.json(&["task", "show", id, "--json"]);
        shown["state"] == "dead" && shown["dead_letters"][0]["reason"] == "permanent"
    });
    let text = place.lines(&["task", "show", id]).join("\n");
    assert!(text.contains("attempt 1     permanent after"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut command = place.command(&["enqueue", "a.b", "--count", "2000"]);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(place.json(&["queues", "--json"])["audit"]["came"], 2_000);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let place = Place::new();
    let mut command = place.command(&["enqueue", "a.b"]);
    command.stdout(std::fs::File::create("/dev/full").unwrap());
    let output = command
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the output cannot be written"), "{said}");
}

#[test]
fn every_shell_gets_its_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.lines(&["completions", shell]).join("\n");
        assert!(
            script.contains("enqueue") && script.contains("jsonl"),
            "{shell}"
        );
    }
    assert_eq!(code(&place.run(&["completions", "tcl"])), 64);
}
