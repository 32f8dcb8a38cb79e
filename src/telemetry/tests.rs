//! The whole log, from call to line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

use celeriac_actors::time::Timestamp;
use slog::{Level, debug, error, info};

use super::*;

/// Long enough for any machine; only a failure takes it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_709_164_799_999)
    }

    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }
}

/// A writer that keeps what it gets.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(bytes.clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config(format: LogFormat) -> LogConfig {
    LogConfig {
        level: Level::Info,
        format,
        color: Color::Auto,
        buffer: 64,
    }
}

/// Returns what the log makes of `say`.
fn logged(format: LogFormat, color: bool, say: impl FnOnce(&Logger)) -> String {
    let sink = Sink::default();
    let (root, guard) = start_to(sink.clone(), color, &config(format), Arc::new(StoppedClock));
    say(&root);
    assert!(guard.finish(PATIENCE));
    sink.text()
}

fn attempt(root: &Logger) {
    let log = root
        .new(o!(keys::WORKER => "w-1", keys::QUEUE => "billing", keys::TASK => "billing.charge"));
    debug!(log, "not severe enough");
    info!(log, "attempt started"; keys::ATTEMPT => 2);
}

#[test]
fn json_lines_have_the_instant_the_level_the_message_and_the_keys() {
    let text = logged(LogFormat::Json, true, attempt);
    assert!(
        text.starts_with(
            r#"{"ts":"2024-02-28T23:59:59.999Z","level":"info","msg":"attempt started","#
        ),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["worker"], "w-1");
    assert_eq!(line["task"], "billing.charge");
    assert_eq!(line["attempt"], 2);
}

#[test]
fn lines_for_people_are_plain_without_colour() {
    assert_eq!(
        logged(LogFormat::Term, false, attempt),
        "2024-02-28T23:59:59.999Z info     attempt started, attempt: 2, task: billing.charge, queue: billing, worker: w-1\n"
    );
    assert!(logged(LogFormat::Term, true, attempt).contains("\u{1b}[32minfo"));
}

#[test]
fn no_name_forges_a_line_or_steers_the_terminal() {
    let name = "x\n2024-01-01 critical \u{1b}[2J\u{9b}31m\u{2028}\r";
    for format in [LogFormat::Json, LogFormat::Term] {
        let text = logged(format, false, |root| {
            error!(root, "failed {}", name; keys::TASK => name, keys::ERROR => name);
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let body = text.strip_suffix('\n').unwrap();
        assert!(
            !body.contains(|c: char| c.is_control() || c == '\u{2028}'),
            "{text:?}"
        );
    }
    let text = logged(
        LogFormat::Json,
        false,
        |root| info!(root, "m"; keys::TASK => name),
    );
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["task"], name);
}

#[test]
fn a_value_that_panics_costs_its_keys_and_not_the_log() {
    struct Bomb;
    impl fmt::Display for Bomb {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("a value that cannot be shown")
        }
    }
    for format in [LogFormat::Json, LogFormat::Term] {
        let text = logged(format, false, |root| {
            // A logger's own values are only formatted by the log's thread.
            let log = root.new(
                o!("bomb" => slog::FnValue(|_: &slog::Record| -> String { Bomb.to_string() })),
            );
            info!(log, "first");
            info!(root, "second");
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("first") && text.contains("second"), "{text}");
    }
}

/// Goal: a reader of standard error that has stalled holds up nobody, neither a task nor the exit.
/// Method: log far more than the pipe and the channel hold to a pipe that nobody reads, then end the log; only after
/// that read the pipe, and find every line either there or counted.
#[test]
fn a_stalled_reader_blocks_nothing() {
    const LINES: u64 = 20_000;
    let (reader, writer) = io::pipe().unwrap();
    let (root, guard) = start_to(
        writer,
        false,
        &config(LogFormat::Json),
        Arc::new(StoppedClock),
    );
    let (done, wait) = mpsc::sync_channel(1);
    thread::spawn(move || {
        for number in 0..LINES {
            info!(root, "attempt started"; keys::ATTEMPT => number, keys::TASK => "x".repeat(100));
        }
        let dropped = guard.dropped();
        let finished = guard.finish(Duration::from_millis(50));
        drop(root); // The last logger goes while the thread is still blocked.
        done.send((dropped, finished)).unwrap();
    });
    let (dropped, finished) = wait
        .recv_timeout(PATIENCE)
        .expect("logging must not wait for its reader");
    assert!(
        !finished,
        "the reader is stalled, so not everything can have been written"
    );
    assert!(dropped > 0);

    let mut reader = BufReader::new(reader);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap(); // To the end: the log's thread ends once it can write again.
    let started = text
        .lines()
        .filter(|line| line.contains("attempt started"))
        .count();
    assert_eq!(started as u64 + dropped, LINES);
}

/// Goal: what was dropped is said as soon as there is room.
/// Method: fill pipe and channel, read until there is room, log one more line and find the number before it.
#[test]
fn the_number_of_dropped_lines_is_reported() {
    let (reader, writer) = io::pipe().unwrap();
    let (root, guard) = start_to(
        writer,
        false,
        &config(LogFormat::Json),
        Arc::new(StoppedClock),
    );
    while guard.dropped() == 0 {
        info!(root, "filler"; keys::TASK => "x".repeat(1_000));
    }
    let (lines, heard) = mpsc::sync_channel(100_000);
    thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            lines.send(line.unwrap()).unwrap();
        }
    });
    let report = loop {
        info!(root, "one more");
        let line = heard.recv_timeout(PATIENCE).unwrap();
        if line.contains("log lines were dropped") {
            break serde_json::from_str::<serde_json::Value>(&line).unwrap();
        }
    };
    assert_eq!(report["level"], "warning");
    assert!(report[keys::DROPPED].as_u64().unwrap() >= 1);
    assert!(guard.finish(PATIENCE));
}

#[test]
fn lines_after_the_end_go_nowhere() {
    let sink = Sink::default();
    let (root, guard) = start_to(
        sink.clone(),
        false,
        &config(LogFormat::Term),
        Arc::new(StoppedClock),
    );
    info!(root, "before");
    drop(guard);
    info!(root, "after");
    assert!(sink.text().contains("before") && !sink.text().contains("after"));
}
