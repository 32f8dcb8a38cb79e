//! `explain`, `queues pause|resume|purge`, `workers`, `status --watch`: real daemons, seen and steered from another process.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use celeriac::store::{Store, StoreOptions, StoreUrl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};

const LONG: [&str; 3] = ["demo.sleep", "--args", r#"{"ms":600000}"#];

fn add(place: &Place, flags: &[&str]) -> String {
    place.lines(&[&["enqueue"], flags].concat())[0].clone()
}

/// Returns the kinds of reasons, and the whole answer.
fn why(place: &Place, asked: &[&str]) -> (Vec<String>, Value) {
    let answer = place.json(&[&["explain", "--json"], asked].concat());
    let reasons = answer["reasons"].as_array().unwrap();
    let kinds = reasons
        .iter()
        .map(|it| it["kind"].as_str().unwrap().to_owned());
    (kinds.collect(), answer)
}

/// Waits until the first reason is of a kind; returns it.
fn until_first(place: &Place, id: &str, kind: &str) -> Value {
    let mut last = Value::Null;
    place.until(&format!("{id} is explained as {kind}"), || {
        let (kinds, answer) = why(place, &[id]);
        last = answer["reasons"][0].clone();
        kinds[0] == kind
    });
    last
}

fn audit_of(place: &Place) -> Value {
    place.json(&["queues", "--json"])["audit"].clone()
}

/// Goal: what waits without a worker, is paused and is purged says so, and nothing is lost.
fn without_a_worker(place: &Place) {
    let first = add(place, &LONG);
    let second = add(place, &LONG);
    let later = add(place, &[&LONG[..], &["--countdown", "1h"]].concat());
    let (kinds, answer) = why(place, &[&second]);
    assert_eq!(kinds, ["no-consumer", "behind"], "{answer}");
    assert_eq!(answer["state"], "ready");
    let command = &answer["reasons"][0]["command"];
    assert_eq!(command, "celeriac run --queues default");
    assert_eq!(why(place, &[&first]).0, ["no-consumer", "next"]);
    assert_eq!(why(place, &[&later]).0, ["due-later", "no-consumer"]);
    assert_eq!(why(place, &["--queue", "default"]).0, ["no-consumer"]);

    let paused = place.lines(&["queues", "pause", "default"]);
    assert!(paused[0].contains("is paused"), "{paused:?}");
    let again = place.json(&["queues", "pause", "default", "--json"]);
    assert_eq!(again["changed"], false);
    let (kinds, answer) = why(place, &[&first]);
    assert_eq!(kinds[0], "paused");
    let command = &answer["reasons"][0]["command"];
    assert_eq!(command, "celeriac queues resume default");
    let text = place.lines(&["explain", &first]).join("\n");
    assert!(text.contains("the queue default is paused"), "{text}");
    assert_eq!(
        place.lines(&["queues", "resume", "default"]),
        ["the queue default is resumed"]
    );
    a_purge(place, &first, &later);
}

/// Goal: a purge takes what it was told to, tells whoever waits, and the audit stays right.
fn a_purge(place: &Place, first: &str, later: &str) {
    let wanted = "018f0000-0000-7000-8000-000000000077";
    let wait = ["--id", wanted, "--wait", "--timeout", "1ms"];
    let output = place.run(&[&["enqueue"], &LONG[..], &wait].concat());
    assert_eq!(code(&output), 1, "{}", said(&output));
    let output = place.run(&["queues", "purge", "default"]);
    assert_eq!(code(&output), 64);
    assert!(
        said(&output).contains("3 ready of the queue default for good: say --yes"),
        "{}",
        said(&output)
    );
    let purged = place.json(&["queues", "purge", "default", "--yes", "--json"]);
    assert_eq!(
        purged,
        json!({ "queue": "default", "purged": 3, "at_least": false })
    );
    assert_eq!(why(place, &[later]).0[0], "due-later");
    let purged = place.lines(&["queues", "purge", "default", "--yes", "--scheduled"]);
    assert!(
        purged[0].starts_with("purged 1 task of the queue default"),
        "{purged:?}"
    );
    let audit = audit_of(place);
    assert_eq!(
        (&audit["held"], &audit["lost"], &audit["ended"]),
        (&json!(0), &json!(0), &json!(4))
    );
    let (kinds, answer) = why(place, &[wanted]);
    assert_eq!(
        (kinds[0].as_str(), &answer["state"]),
        ("ended", &json!("cancelled")),
        "{answer}"
    );
    let (kinds, answer) = why(place, &[first]);
    assert_eq!(
        (kinds[0].as_str(), &answer["state"]),
        ("unknown", &Value::Null),
        "{answer}"
    );
    assert_eq!(
        why(place, &["--queue", "default"]).0,
        ["no-consumer", "empty"]
    );
    let typo = place.run(&["queues", "pause", "defualt"]);
    assert_eq!(code(&typo), 64);
    assert!(
        said(&typo).contains("did you mean `default`?"),
        "{}",
        said(&typo)
    );
}

/// Goal: every change leaves a record.
fn changes_are_in_the_audit(place: &Place) {
    let url = StoreUrl::file(place.data().join("store.db"));
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let audit = runtime.unwrap().block_on(store.audit(None, 100)).unwrap();
    let mut actions: Vec<&str> = audit.iter().map(|it| it.entry.action.as_str()).collect();
    actions.sort_unstable();
    assert_eq!(
        actions,
        ["queue.pause", "queue.purge", "queue.purge", "queue.resume"]
    );
    assert!(audit.iter().all(|it| it.entry.target == "default"));
    assert!(audit.iter().any(|it| it.entry.detail == "3 purged: ready"));
}

/// Goal: with a worker of one place, what runs, waits for it, was killed with it, died, or is of nobody's kind says so.
fn with_workers(place: &Place) {
    let mut daemon = place.daemon(&["--concurrency", "1"]);
    let running = add(place, &LONG);
    let told = until_first(place, &running, "running");
    let command = told["command"].as_str().unwrap();
    assert_eq!(
        command,
        format!("celeriac task revoke {running} --terminate")
    );
    let waits = add(place, &LONG);
    place.until("it waits for a place", || {
        let (kinds, _) = why(place, &[&waits]);
        kinds.contains(&"concurrency-full".to_owned())
    });

    let lines = place.lines(&["workers", "--json"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let worker: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (&worker["pid"], &worker["running"]),
        (&daemon.pid().into(), &1.into())
    );
    let names = worker["tasks"]["names"].as_array().unwrap();
    assert!(names.contains(&json!("demo.sleep")), "{worker}");
    let table = place.lines(&["workers"]);
    assert!(
        table[0].starts_with("WORKER") && table[1].contains(" 1/1 "),
        "{table:?}"
    );

    let strange = add(
        place,
        &[
            "no.such",
            "--queue",
            "default",
            "--args",
            "{}",
            "--priority",
            "9",
        ],
    );
    place.lines(&["task", "revoke", &running, "--terminate"]);
    place.lines(&["task", "revoke", &waits]);
    // Nobody waits for it, so nothing is kept of it.
    until_first(place, &running, "unknown");
    place.until("nobody knows the kind", || {
        let (kinds, _) = why(place, &[&strange]);
        kinds.contains(&"unknown-kind".to_owned())
    });
    let fails = add(place, &["demo.fail", "--args", r#"{"permanent":true}"#]);
    let dead = until_first(place, &fails, "dead");
    let command = dead["command"].as_str().unwrap();
    assert!(command.starts_with("celeriac dead revive "), "{dead}");
    let revive: Vec<&str> = command.split(' ').skip(1).collect();
    place.lines(&revive);

    let lost = add(place, &LONG);
    until_first(place, &lost, "running");
    daemon.kill();
    let rescue = until_first(place, &lost, "rescue");
    assert_eq!(rescue["command"], "celeriac run --queues default");
    let _another = place.daemon(&["--concurrency", "1"]);
    until_first(place, &lost, "running");
    assert_eq!(audit_of(place)["lost"], 0);
}

#[test]
fn sqlite_explains_what_waits() {
    let place = Place::new();
    without_a_worker(&place);
    changes_are_in_the_audit(&place);
    with_workers(&place);
}

#[test]
fn what_cannot_be_explained_is_refused() {
    let place = Place::new();
    for arguments in [&["explain"][..], &["explain", "nonsense"]] {
        assert_eq!(code(&place.run(arguments)), 64, "{arguments:?}");
    }
    let id = "018f0000-0000-7000-8000-000000000001";
    assert_eq!(code(&place.run(&["explain", id])), 69);
    let _daemon = place.daemon(&[]);
    assert_eq!(why(&place, &[id]).0, ["unknown"]);
    assert_eq!(code(&place.run(&["explain", "--queue", "defualt"])), 64);
}

/// Goal: the watch shows the whole again and again, and ends cleanly with a signal.
#[test]
fn a_watch_goes_on_until_it_is_interrupted() {
    let place = Place::new();
    let _daemon = place.daemon(&[]);
    let mut watch = place.command(&["status", "--watch", "1", "--json"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let (first, second) = (next(), next());
    assert_eq!(first["audit"]["lost"], 0);
    assert_ne!(first["now"], second["now"]);
    let pid = Pid::from_raw(i32::try_from(watch.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));

    let mut unread = place.command(&["status", "--watch=1"]);
    let mut unread = unread.stdout(Stdio::piped()).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(
        unread.wait().unwrap().code(),
        Some(0),
        "nobody reads it any more"
    );
}

#[cfg(feature = "redis")]
#[test]
fn redis_explains_what_waits() {
    use crate::redis_server::{RedisServer, ServerOptions};

    let server = RedisServer::start(ServerOptions::default());
    let place = Place::new();
    let config = format!("broker = \"{}\"\n", server.url());
    std::fs::write(place.path().join("celeriac.toml"), config).unwrap();
    // The store, for the audit: a daemon would have made its directory.
    std::fs::create_dir_all(place.data()).unwrap();
    without_a_worker(&place);
    changes_are_in_the_audit(&place);
    with_workers(&place);
}
