//! `enqueue`: one kind of task, whole inputs, and waiting for ends.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};

const UUID: &str = "018f0000-0000-7000-8000-000000000001";

fn ends(output: &std::process::Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn arguments_come_back_as_they_were_typed() {
    let place = Place::new();
    let _daemon = place.daemon(&[]);
    let value = json!({ "id": UUID, "at": "2026-01-31T12:00:00+02:00", "n": 1.5, "none": null });
    let args = json!({ "value": value }).to_string();
    let output = place.run(&[
        "enqueue",
        "demo.echo",
        "--args",
        &args,
        "--wait",
        "--id",
        UUID,
    ]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let end = &ends(&output)[0];
    assert_eq!((&end["id"], &end["result"]), (&json!(UUID), &value));
    assert_eq!(
        (&end["state"], &end["attempts"]),
        (&json!("succeeded"), &json!(1))
    );
    assert!(end["elapsed_ms"].is_u64());

    let output = place.run(&["enqueue", "demo.fail", "--wait", "--count", "2"]);
    assert_eq!(code(&output), 1);
    let failed = ends(&output);
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[0]["state"], "dead");
    assert_eq!(failed[0]["error"]["message"], "failed as asked");

    let sleep = ["--args", r#"{"ms":60000}"#, "--wait", "--timeout", "200ms"];
    let output = place.run(&[&["enqueue", "demo.sleep"], &sleep[..]].concat());
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("1 of 1 have not ended in time"));
}

#[test]
fn mistakes_are_named_before_anything_is_sent() {
    let place = Place::new();
    for (arguments, word) in [
        (&["demo.echo"][..], "missing field `value`"),
        (&["demo.sleep", "--args", r#"{"ms":"x"}"#], "at `ms`"),
        (&["demo.echo", "--args", "{value:1}"], "--args is no JSON"),
        (&["a.b", "--queue", "biling"], "did you mean `billing`?"),
        (&["a.b", "--eta", "tomorrow"], "2026-01-31T12:00:00Z"),
        (
            &["a.b", "--countdown", "5m", "--eta", "2026-01-31T12:00:00Z"],
            "cannot be used with",
        ),
        (
            &["a.b", "--count", "2", "--id", UUID],
            "cannot be used with",
        ),
        (&["a.b", "--id", "7"], "no UUID"),
        (&["a.b", "--countdown", "101years"], "longer than 100 years"),
        (&["a.b", "--priority", "12"], "a priority is 0 (last) to 9"),
        (&["a.b", "--max-attempts", "0"], "at least one attempt"),
        (
            &["a.b", "--soft-limit", "2m", "--hard-limit", "1m"],
            "beyond its hard limit of 60s",
        ),
        (
            &["demo.fail", "--soft-limit", "1h"],
            "beyond its kind's hard limit of 1800s",
        ),
        (&["a.b", "--hard-limit", "0s"], "hard_limit is 0"),
        (&["a.b", "--header", "tenant"], "KEY=VALUE"),
        (&["a.b", "--header", "a=1", "--header", "a=2"], "twice"),
        (&["a.b", "--expires", "tomorrow"], "--expires `tomorrow`"),
        (
            &["a.b", "--countdown", "2h", "--expires", "1h"],
            "before it is due",
        ),
        (&["--jsonl", "-", "--header", "a=1"], "cannot be used with"),
        (&["a b"], "a task name consists of"),
        (&[], "required"),
    ] {
        let output = place.run(&[&["enqueue"], arguments].concat());
        assert_eq!(code(&output), 64, "{arguments:?}");
        assert!(
            said(&output).contains(word),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    place.lines(&["enqueue", "a.b"]);
    assert_eq!(place.json(&["queues", "--json"])["audit"]["came"], 1);
}

#[test]
fn bad_lines_are_named_and_stop_nothing() {
    let place = Place::new();
    let mut input = Vec::new();
    for number in 0..1_200 {
        input.extend(format!("{{\"task\":\"a.b\",\"args\":{number}}}\n").bytes());
    }
    input.extend(b"{\"task\":\"a.b\",\"quee\":\"x\"}\n\n\xff\n");
    input.extend(br#"{"task":"a.b","queue":"kyb","countdown":"1h","priority":9}"#);
    let output = place.feed(&["enqueue", "--jsonl", "-"], &input);
    assert_eq!(code(&output), 64);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1201 accepted, 2 bad lines\n"
    );
    let said = said(&output);
    assert!(said.contains("line 1201: unknown field `quee`"), "{said}");
    assert!(said.contains("line 1203: no UTF-8 at byte 1"), "{said}");
    let queues = place.json(&["queues", "--json"]);
    assert_eq!(queues["audit"]["came"], 1_201);
    let kyb = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|q| q["queue"] == "kyb");
    assert_eq!(kyb.unwrap()["scheduled"], 1);

    let missing = place.run(&["enqueue", "--jsonl", "nowhere.jsonl"]);
    assert_eq!(code(&missing), 64);
}

/// Goal: whoever writes lines slowly sees them run before the input ends.
#[test]
fn lines_run_while_the_input_is_open() {
    let place = Place::new();
    let _daemon = place.daemon(&[]);
    let mut command = place.command(&["enqueue", "--jsonl", "-", "--wait"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut ends = BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..3 {
        let line = json!({ "task": "demo.echo", "args": { "value": number } });
        writeln!(stdin, "{line}").unwrap();
        let end: Value = serde_json::from_str(&ends.next().unwrap().unwrap()).unwrap();
        assert_eq!(end["result"], number);
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(said(&output).contains("3 accepted"));
}

#[test]
fn many_tasks_are_waited_for() {
    let place = Place::new();
    let _daemon = place.daemon(&[]);
    let args = ["--args", r#"{"value":1}"#, "--count", "3000", "--wait"];
    let output = place.run(&[&["enqueue", "demo.echo"], &args[..]].concat());
    assert_eq!(code(&output), 0, "{}", said(&output));
    let ids: std::collections::HashSet<String> = ends(&output)
        .iter()
        .map(|end| end["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 3_000);
}

#[test]
fn what_is_asked_for_one_task_is_stored_with_it() {
    let place = Place::new();
    let flags = [
        "enqueue",
        "a.b",
        "--countdown",
        "1h",
        "--expires",
        "2099-01-31T12:00:00Z",
        "--retry-until",
        "2099-02-01T12:00:00+02:00",
        "--soft-limit",
        "1m",
        "--hard-limit",
        "90s",
        "--max-attempts",
        "3",
        "--header",
        "tenant=7",
        "--header",
        "trace=a=b",
    ];
    let flags = place.lines(&flags)[0].clone();
    let line = json!({ "task": "a.b", "id": UUID, "countdown": "1h", "expires": "2099-01-31T12:00:00Z",
        "retry_until": "2099-02-01T10:00:00Z", "soft_limit": "1m", "hard_limit": "1m 30s", "max_attempts": 3,
        "headers": { "tenant": "7", "trace": "a=b" } });
    let output = place.feed(&["enqueue", "--jsonl", "-"], format!("{line}\n").as_bytes());
    assert_eq!(code(&output), 0, "{}", said(&output));
    let id = flags.split_whitespace().next().unwrap();
    for id in [id, UUID] {
        let task = place.json(&["task", "show", id, "--json"]);
        assert_eq!(task["state"], "scheduled");
        assert_eq!(task["expires_at"], "2099-01-31T12:00:00.000Z");
        assert_eq!(task["retry_until"], "2099-02-01T10:00:00.000Z");
        assert_eq!(
            (&task["soft_limit_ms"], &task["hard_limit_ms"]),
            (&json!(60_000), &json!(90_000))
        );
        assert_eq!(task["max_attempts"], 3);
        assert_eq!(task["headers"], json!({ "tenant": "7", "trace": "a=b" }));
    }

    let bad = json!({ "task": "demo.fail", "soft_limit": "1h" });
    let output = place.feed(&["enqueue", "--jsonl", "-"], bad.to_string().as_bytes());
    assert_eq!(code(&output), 64);
    assert!(
        said(&output).contains("line 1: soft_limit is 3600s"),
        "{}",
        said(&output)
    );
}
