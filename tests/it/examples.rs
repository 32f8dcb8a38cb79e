//! Every example, run as a user runs it, with its output asserted.

use std::path::PathBuf;
use std::process::Command;

/// Returns where cargo has put an example; `cargo test` builds them all.
pub(crate) fn path_of(example: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(example);
    assert!(
        path.exists(),
        "{} is missing: build it with `cargo build --examples`",
        path.display()
    );
    path
}

fn output_of(example: &str) -> String {
    let output = Command::new(path_of(example)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{example} failed: {}\n{text}\n{complaints}",
        output.status
    );
    text
}

#[test]
fn hello_prints_the_result() {
    assert_eq!(output_of("hello"), "Hello, celery!\n");
}

#[test]
fn billing_retries_what_is_worth_it() {
    let expected = "sub-42 was charged at attempt 3\n\
                    sub-without-funds died at attempt 1: card declined\n";
    assert_eq!(output_of("billing"), expected);
}

#[test]
fn breaker_parks_what_needs_the_bank() {
    let expected = "the breaker opened\n\
                    200 tasks waited, the bank was left alone: true\n\
                    200 orders were charged once the bank was back\n\
                    the breaker is closed\n";
    assert_eq!(output_of("breaker"), expected);
}

#[test]
fn embedding_takes_up_what_the_first_run_left() {
    let expected = "resized to 320\nthe first run ended: Stopped\nthe second run resized to 400\n";
    assert_eq!(output_of("embedding"), expected);
}

#[test]
fn dead_letters_are_kept_counted_and_revived() {
    let expected = "dead letter: reports.export (exhausted)\n\
                    \x20 attempt 1: the disk is not mounted\n\
                    \x20 attempt 2: the disk is not mounted\n\
                    statistics: 1 in all, 1 of reports.export\n\
                    revived: 2026-01.csv\n\
                    status: revived\n";
    assert_eq!(output_of("dead_letters"), expected);
}

#[test]
fn isolation_survives_what_ends_a_process() {
    let output = output_of("isolation");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    assert!(lines[0].contains("signal 6 (SIGABRT)"), "{output}");
    assert!(lines[1].contains("hard limit"), "{output}");
    assert_eq!(lines[2], "parsed 11 bytes");
}

#[test]
fn supervision_parks_and_escalates() {
    let output = output_of("supervision");
    let (before, after) = output.split_once("after:").unwrap();
    assert!(before.contains("glass Up"), "{output}");
    assert_eq!(
        before.matches("died of a panic: broken glass").count(),
        3,
        "{output}"
    );
    assert!(after.contains("glass Parked"), "{output}");
    assert!(after.contains("the other task still runs: 42"), "{output}");
    let escalated = "escalated: error: restart intensity exceeded by child inner";
    assert!(after.contains(escalated), "{output}");
}

#[test]
fn transactions_write_all_or_nothing() {
    let expected = "order 1 was placed: 3 apples are left\n\
                    order 2 was rolled back: 2 apples are missing\n\
                    order 1 was shipped: 7 apples\n\
                    order 3 was shipped: 3 apples\n";
    assert_eq!(output_of("transactions"), expected);
}
