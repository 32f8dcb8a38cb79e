//! The demo tasks that are not to be had inside a worker: what they do ends, fills or blocks the process they run in.

use std::sync::Mutex;
use std::time::Duration;

use celeriac_actors::attempt::Attempt;
use celeriac_actors::policy::Policy;
use celeriac_actors::task::{Task, TaskError};
use serde::{Deserialize, Serialize};

/// Calls itself until its stack is full.
#[derive(Debug, Serialize)]
pub(crate) struct Overflow {}

impl Task for Overflow {
    const NAME: &'static str = "demo.overflow";
    type Output = ();
}

pub(super) async fn overflow(_: Attempt<Overflow>) -> Result<(), TaskError> {
    #[expect(unconditional_recursion, reason = "that is what it is for")]
    fn deeper(depth: u64) -> u64 {
        std::hint::black_box(deeper(std::hint::black_box(depth + 1))) + 1
    }
    deeper(0);
    Ok(())
}

/// Takes memory until there is none left. Give the children a `memory_limit` first.
#[derive(Debug, Serialize)]
pub(crate) struct Hog {}

impl Task for Hog {
    const NAME: &'static str = "demo.hog";
    type Output = ();
}

pub(super) async fn hog(_: Attempt<Hog>) -> Result<(), TaskError> {
    const PIECE: usize = 16 << 20;
    let mut held = Vec::new();
    loop {
        // Written to, so that it is there and not only promised.
        held.push(std::hint::black_box(vec![1_u8; PIECE]));
    }
}

/// Waits for a mutex that is never released.
#[derive(Debug, Serialize)]
pub(crate) struct Deadlock {}

impl Task for Deadlock {
    const NAME: &'static str = "demo.deadlock";
    type Output = ();
}

pub(super) async fn deadlock(_: Attempt<Deadlock>) -> Result<(), TaskError> {
    static LOCK: Mutex<()> = Mutex::new(());
    let first = LOCK.lock();
    // Another thread would release it; this one waits for itself.
    let second = std::thread::scope(|scope| scope.spawn(|| LOCK.lock().is_ok()).join());
    drop(first);
    second
        .map(drop)
        .map_err(|_| "the waiting thread panicked".into())
}

/// Ends its process with an exit code, as if that were its own.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Quit {
    #[serde(default)]
    pub(crate) code: u8,
}

impl Task for Quit {
    const NAME: &'static str = "demo.exit";
    type Output = ();
}

pub(super) async fn quit(attempt: Attempt<Quit>) -> Result<(), TaskError> {
    std::process::exit(attempt.args.code.into())
}

/// Writes lines to standard output and error, logs one, and returns how many it wrote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Print {
    pub(crate) line: String,
    #[serde(default = "Print::once")]
    pub(crate) times: u32,
}

impl Print {
    const fn once() -> u32 {
        1
    }
}

impl Task for Print {
    const NAME: &'static str = "demo.print";
    type Output = u32;

    fn policy() -> Policy {
        Policy::default().hard_limit(Duration::from_secs(600))
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "that is what it is for"
)]
pub(super) async fn print(attempt: Attempt<Print>) -> Result<u32, TaskError> {
    let Print { line, times } = &attempt.args;
    for _ in 0..*times {
        println!("{line}");
        eprintln!("{line}");
    }
    slog::info!(attempt.log(), "printed"; "times" => times);
    Ok(2 * times)
}
