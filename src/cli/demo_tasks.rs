//! The demo tasks: one for each way in which a task can end, under names that start with `demo.`.
//!
//! Known to a daemon only with `run --demo`. None is a toy of the runtime: each is an ordinary [`Task`], registered as a
//! program of one's own would do it. Their backoff is short, so that whoever plays with them does not wait.

mod checksum;
mod journal;
mod rough;

use std::time::Duration;

use celeriac_actors::attempt::Attempt;
use celeriac_actors::policy::Policy;
use celeriac_actors::task::{Task, TaskError};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub(crate) use self::checksum::{Checksum, Digest, digest};

use crate::app::App;

/// Adds the demo tasks to a program.
pub(crate) fn add(app: App) -> App {
    app.task(echo)
        .task(sleep)
        .task(block)
        .task(spin)
        .task(flaky)
        .task(fail)
        .task(panic)
        .task(abort)
        .task(checksum::run)
        .task(journal::run)
        .task(rough::overflow)
        .task(rough::hog)
        .task(rough::deadlock)
        .task(rough::quit)
        .task(rough::print)
}

/// Five attempts within about a second.
fn quick() -> Policy {
    Policy::default().backoff(Duration::from_millis(50), Duration::from_millis(400))
}

/// Returns its value as it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Echo {
    pub(crate) value: Value,
}

impl Task for Echo {
    const NAME: &'static str = "demo.echo";
    type Output = Value;
}

async fn echo(attempt: Attempt<Echo>) -> Result<Value, TaskError> {
    Ok(attempt.args.value.clone())
}

/// Waits for so many milliseconds without holding its thread; stops when it is asked to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sleep {
    pub(crate) ms: u64,
}

impl Task for Sleep {
    const NAME: &'static str = "demo.sleep";
    type Output = ();
}

async fn sleep(attempt: Attempt<Sleep>) -> Result<(), TaskError> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(attempt.args.ms)) => Ok(()),
        () = attempt.cancelled() => Err("stopped as asked".into()),
    }
}

/// Blocks a thread of the blocking pool for so many milliseconds, as a driver without async would.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) ms: u64,
}

impl Task for Block {
    const NAME: &'static str = "demo.block";
    type Output = ();
}

async fn block(attempt: Attempt<Block>) -> Result<(), TaskError> {
    let length = Duration::from_millis(attempt.args.ms);
    #[expect(
        clippy::disallowed_methods,
        reason = "sleeps on the blocking pool, where that is allowed"
    )]
    attempt.blocking(move || std::thread::sleep(length)).await?;
    Ok(())
}

/// Never gives its thread back for so many milliseconds: what a task must not do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spin {
    pub(crate) ms: u64,
}

impl Task for Spin {
    const NAME: &'static str = "demo.spin";
    type Output = ();
}

async fn spin(attempt: Attempt<Spin>) -> Result<(), TaskError> {
    let length = Duration::from_millis(attempt.args.ms);
    while attempt.elapsed() < length {
        std::hint::spin_loop();
    }
    Ok(())
}

/// Fails so many times, then succeeds with the number of the attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flaky {
    pub(crate) fail_times: u16,
}

impl Task for Flaky {
    const NAME: &'static str = "demo.flaky";
    type Output = u16;

    fn policy() -> Policy {
        quick()
    }
}

async fn flaky(attempt: Attempt<Flaky>) -> Result<u16, TaskError> {
    let (number, failures) = (attempt.number(), attempt.args.fail_times);
    if number <= failures {
        return Err(format!("flaky: failure {number} of {failures}").into());
    }
    Ok(number)
}

/// Fails always; for good at the first attempt when `permanent`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fail {
    #[serde(default = "Fail::message")]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) permanent: bool,
}

impl Fail {
    fn message() -> String {
        "failed as asked".to_owned()
    }
}

impl Task for Fail {
    const NAME: &'static str = "demo.fail";
    type Output = ();

    fn policy() -> Policy {
        quick().max_attempts(3)
    }
}

async fn fail(attempt: Attempt<Fail>) -> Result<(), TaskError> {
    let message = attempt.args.message.clone();
    if attempt.args.permanent {
        return Err(TaskError::permanent(message));
    }
    Err(message.into())
}

/// Panics.
#[derive(Debug, Serialize)]
pub(crate) struct Panic {}

impl Task for Panic {
    const NAME: &'static str = "demo.panic";
    type Output = ();

    fn policy() -> Policy {
        quick().max_attempts(2)
    }
}

async fn panic(attempt: Attempt<Panic>) -> Result<(), TaskError> {
    panic!("attempt {} panicked as asked", attempt.number());
}

/// Kills the process that runs it.
#[derive(Debug, Serialize)]
pub(crate) struct Abort {}

impl Task for Abort {
    const NAME: &'static str = "demo.abort";
    type Output = ();
}

#[expect(clippy::print_stderr, reason = "its last words are evidence")]
async fn abort(_: Attempt<Abort>) -> Result<(), TaskError> {
    eprintln!("aborting as asked");
    std::process::abort();
}

/// Tasks without arguments take any: nothing, `null`, `{}`.
macro_rules! takes_anything {
    ($($task:ident),+) => {
        $(impl<'de> Deserialize<'de> for $task {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                IgnoredAny::deserialize(deserializer).map(|_| Self {})
            }
        })+
    };
}
use rough::{Deadlock, Hog, Overflow};
takes_anything!(Panic, Abort, Overflow, Hog, Deadlock);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_register_under_the_namespace() {
        let app = add(App::new());
        app.check().unwrap();
        let mut names: Vec<String> = app.registry().names().map(ToString::to_string).collect();
        names.sort();
        let expected = [
            "abort", "block", "checksum", "deadlock", "echo", "exit", "fail", "flaky", "hog",
            "journal", "overflow", "panic", "print", "sleep", "spin",
        ];
        assert_eq!(names, expected.map(|name| format!("demo.{name}")));
    }

    #[test]
    fn tasks_without_arguments_take_any() {
        for args in ["null", "{}", "[]", "{\"x\":1}"] {
            serde_json::from_str::<Panic>(args).unwrap();
            serde_json::from_str::<Abort>(args).unwrap();
        }
        let fail: Fail = serde_json::from_str("{}").unwrap();
        assert!(!fail.permanent && !fail.message.is_empty());
    }
}
