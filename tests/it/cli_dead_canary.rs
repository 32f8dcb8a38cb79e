//! `celeriac dead revive --canary` with a real daemon: what is cured is revived, what is not costs little, and it can be left
//! at any time.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cli_support::{Place, code, said};

const LETTERS: u64 = 14;

/// Lets tasks die of a directory that is not there.
fn bury(place: &Place) {
    let daemon = place.daemon(&[]);
    let count = LETTERS.to_string();
    let args = r#"{"path":"later/journal"}"#;
    let asked = ["--max-attempts", "1", "--count", &count, "--wait"];
    let output = place.run(&[&["enqueue", "demo.journal", "--args", args], &asked[..]].concat());
    assert_eq!(code(&output), 1, "{}", said(&output));
    drop(daemon);
    assert_eq!(letters(place, "new"), LETTERS);
}

fn letters(place: &Place, status: &str) -> u64 {
    let stats = place.json(&["dead", "stats", "--json", "--status", status]);
    stats["total"].as_u64().unwrap()
}

fn lines(output: &std::process::Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_canary_goes_on_when_the_cause_is_gone_and_stops_when_it_is_not() {
    let place = Place::new();
    bury(&place);
    let _daemon = place.daemon(&[]);
    let canary = [
        "dead",
        "revive",
        "--task",
        "demo.journal",
        "--canary",
        "--json",
    ];
    let output = place.run(&canary);
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(
        said(&output).contains("the rest is untouched"),
        "{}",
        said(&output)
    );
    let last = lines(&output).pop().unwrap();
    assert_eq!(last["outcome"], "too_many_failed");
    assert_eq!((&last["revived"], &last["failed"]), (&1.into(), &1.into()));
    // It died again, which makes a new letter of it.
    assert_eq!(
        (letters(&place, "revived"), letters(&place, "new")),
        (1, LETTERS)
    );

    std::fs::create_dir(place.path().join("later")).unwrap();
    let output = place.run(&canary);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let last = lines(&output).pop().unwrap();
    assert_eq!(last["outcome"], "done");
    assert_eq!(last["succeeded"], LETTERS);
    assert_eq!(
        (letters(&place, "new"), letters(&place, "reviving")),
        (0, 0)
    );
}

/// Goal: a canary that nobody works on stops when it is told to, or when it has waited enough, and says what is known.
#[test]
fn a_canary_that_is_left_has_revived_or_touched_nothing() {
    let place = Place::new();
    bury(&place);
    let args = ["dead", "revive", "--all", "--canary", "--json"];
    let mut command = place.command(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    seen.read_line(&mut line).unwrap();
    assert!(line.contains(r#""outcome":"revived""#), "{line}");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(
        said(&output).contains("it was interrupted: 1 revived, 0 succeeded, 0 failed, 1 not ended"),
        "{}",
        said(&output)
    );
    assert_eq!(
        (letters(&place, "revived"), letters(&place, "new")),
        (1, LETTERS - 1)
    );

    let output = place.run(&[&args[..], &["--wait", "10ms"]].concat());
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(
        said(&output).contains("does a worker run?"),
        "{}",
        said(&output)
    );
    assert_eq!(
        (letters(&place, "revived"), letters(&place, "new")),
        (2, LETTERS - 2)
    );

    for (arguments, said_of) in [
        (&["--bound", "0.5"][..], "--canary"),
        (&["--canary", "--bound", "7"], "a share from 0 to 1"),
        (&["--canary", "--status", "reviving"], "leave --status out"),
        (
            &["--canary", "019a0000-0000-7000-8000-000000000001"],
            "not ids",
        ),
    ] {
        let all = match arguments.len() {
            2 if arguments[1].len() == 36 => &[][..],
            _ => &["--all"],
        };
        let output = place.run(&[&["dead", "revive"], arguments, all].concat());
        assert_eq!(code(&output), 64, "{}", said(&output));
        assert!(said(&output).contains(said_of), "{}", said(&output));
    }
}
