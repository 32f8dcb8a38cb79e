//! Isolated attempts: what travels between a worker and the child process that runs one of its attempts.
//!
//! An [`order`](IsolatedAttempt::order) carries the stored frame and the limits to the child; a [`Report`] carries back
//! how the attempt ended. Both processes run the same program, so the form needs no versions. Everything about the task
//! itself (another attempt? when?) is decided by the worker, by the same rules as for any other attempt.

use std::fmt;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slog::Logger;

use crate::context::{AttemptContext, AttemptProcess, Phase};
use crate::ids::{QueueName, TaskId, TaskName};
use crate::panics::PanicReport;
use crate::policy::Limits;
use crate::ports::{ChildPlace, IsolatedEnd, Isolation, Stop};
use crate::producer::Producer;
use crate::progress::Progress;
use crate::runner::{AttemptEnd, Withdrawal};
use crate::task::{TaskError, Verdict};
use crate::time::Timestamp;

mod host;

pub use host::{Host, Hosted};

/// An attempt that is to run in a child process, as who runs it there sees it.
#[derive(Debug)]
pub struct IsolatedAttempt(AttemptContext, Option<ChildPlace>);

impl IsolatedAttempt {
    /// Says that a child takes it now: its limits run from here on. Returns whether it may; it was withdrawn otherwise.
    #[must_use]
    pub fn begin(&self) -> bool {
        if self.0.is_revoked() {
            // It has waited for its place until nobody wants it any more; whoever fetches it next cancels it.
            return false;
        }
        let begins = self.0.claim();
        if begins {
            self.0.set_phase(Phase::Started);
        }
        begins
    }

    /// Says in which process it runs, so that it can be ended without the thread that waits for it. To be taken back by
    /// [`leaves_process`](Self::leaves_process) before anything else runs there.
    pub fn runs_in(&self, process: std::sync::Arc<dyn AttemptProcess>) {
        self.0.runs_in(process);
    }

    /// Says that its process is its own no longer. Returns whether that was killed meanwhile.
    #[must_use]
    pub fn leaves_process(&self) -> bool {
        self.0.leaves_process()
    }

    /// Takes the place that it has waited for, if it has.
    #[must_use]
    pub fn take_place(&mut self) -> Option<ChildPlace> {
        self.1.take()
    }

    /// Returns whether it should have a child that ran nothing before: it was given back by a death before, and the next
    /// one must not be blamed on what somebody else left behind.
    #[must_use]
    pub fn wants_new_child(&self) -> bool {
        self.0.deliveries() > 0
    }

    /// Returns what the child is told.
    #[must_use]
    pub fn order(&self) -> Vec<u8> {
        let limits = self.0.limits();
        let head = OrderHead {
            queue: self.0.queue().clone(),
            soft_ms: crate::time::millis(limits.soft),
            hard_ms: crate::time::millis(limits.hard),
            max_attempts: limits.max_attempts,
            delivered_at: self.0.job().delivered_at,
        };
        join(&head, &self.0.job().frame)
    }

    /// Completes when the attempt is to be ended, with why.
    pub async fn stopped(&self) -> Stop {
        self.0.until_aborted().await.into()
    }

    /// Completes when the task is asked to stop.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Returns its kind.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        self.0.task()
    }

    /// Returns its task.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.0.id()
    }

    /// Takes in how far it has come, as its child tells.
    pub fn progressed(&self, progress: Progress) {
        self.0.report().put(progress);
    }

    /// Returns a logger with its identity.
    pub fn log(&self) -> Logger {
        self.0.log()
    }

    /// Returns what enqueues its follow-up tasks.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        self.0.producer()
    }
}

/// Runs an attempt in a child process.
pub(crate) fn isolate(
    isolation: std::sync::Arc<dyn Isolation>,
    context: AttemptContext,
    place: Option<ChildPlace>,
) -> LocalBoxFuture<'static, AttemptEnd> {
    Box::pin(async move {
        // Not before it is polled: what a program puts around its attempts is dropped as any other code.
        context.hold();
        let _apart = context.isolated();
        let _withdrawal = Withdrawal(context.clone());
        match isolation.run(IsolatedAttempt(context, place)).await {
            IsolatedEnd::Reported(report) => report.into(),
            IsolatedEnd::Died(death) => AttemptEnd::Died(death),
            IsolatedEnd::Unavailable(_) => AttemptEnd::Unavailable,
            IsolatedEnd::Withdrawn => AttemptEnd::Aborted,
        }
    })
}

#[derive(Serialize, Deserialize)]
struct OrderHead {
    queue: QueueName,
    soft_ms: u64,
    hard_ms: u64,
    max_attempts: u16,
    delivered_at: Timestamp,
}

impl OrderHead {
    fn limits(&self) -> Limits {
        Limits {
            max_attempts: self.max_attempts,
            soft: Duration::from_millis(self.soft_ms),
            hard: Duration::from_millis(self.hard_ms),
            result_ttl: None,
            mode: None,
        }
    }
}

/// How an attempt ended in its child.
#[derive(Debug)]
pub struct Report {
    head: ReportHead,
    output: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
enum ReportHead {
    Returned,
    Failed {
        verdict: Verdict,
        message: String,
        causes: Vec<String>,
    },
    Panicked(PanicReport),
    Undecodable(String),
    Unavailable,
}

impl Report {
    /// Says that the child could not do anything with its order.
    #[must_use]
    pub fn undecodable(note: impl Into<String>) -> Self {
        ReportHead::Undecodable(note.into()).into()
    }

    /// Says that the attempt is no use, and why.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        let head = ReportHead::Failed {
            verdict: Verdict::Permanent,
            message: message.into(),
            causes: Vec::new(),
        };
        head.into()
    }

    /// Encodes it for the way to the worker.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        join(&self.head, &self.output)
    }

    /// Reads what a child sent; `None` when that is no report.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, output) = split(bytes)?;
        let output = output.to_vec();
        Some(Self { head, output })
    }

    fn of(end: AttemptEnd) -> Self {
        let head = match end {
            AttemptEnd::Returned(Ok(output)) => {
                let head = ReportHead::Returned;
                return Self { head, output };
            }
            AttemptEnd::Returned(Err(error)) => ReportHead::Failed {
                verdict: error.verdict,
                message: error.error.to_string(),
                causes: crate::execution::causes(error.error()),
            },
            AttemptEnd::Panicked(report) => ReportHead::Panicked(report),
            AttemptEnd::Undecodable(note) => ReportHead::Undecodable(note),
            // A child aborts nothing by itself; what it cannot run here may run elsewhere.
            AttemptEnd::Unavailable
            | AttemptEnd::Aborted
            | AttemptEnd::Lost
            | AttemptEnd::Parked(_)
            | AttemptEnd::Died(_) => ReportHead::Unavailable,
        };
        head.into()
    }
}

impl From<ReportHead> for Report {
    fn from(head: ReportHead) -> Self {
        let output = Vec::new();
        Self { head, output }
    }
}

impl From<Report> for AttemptEnd {
    fn from(report: Report) -> Self {
        match report.head {
            ReportHead::Returned => Self::Returned(Ok(report.output)),
            ReportHead::Failed {
                verdict,
                message,
                causes,
            } => {
                let error = Box::new(RemoteError::chain(message, causes));
                Self::Returned(Err(TaskError { verdict, error }))
            }
            ReportHead::Panicked(report) => Self::Panicked(report),
            ReportHead::Undecodable(note) => Self::Undecodable(note),
            ReportHead::Unavailable => Self::Unavailable,
        }
    }
}

/// An error of another process: its text, and that of its causes.
#[derive(Debug)]
struct RemoteError {
    message: String,
    cause: Option<Box<RemoteError>>,
}

impl RemoteError {
    fn chain(message: String, causes: Vec<String>) -> Self {
        let cause = causes.into_iter().rev().fold(None, |cause, message| {
            Some(Box::new(Self { message, cause }))
        });
        Self { message, cause }
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RemoteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Puts a value before bytes.
fn join(head: &impl Serialize, tail: &[u8]) -> Vec<u8> {
    let head = rmp_serde::to_vec(head).expect("plain data of ours can be written");
    let len = u32::try_from(head.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(4 + head.len() + tail.len());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(tail);
    out
}

/// Takes a value from before bytes.
fn split<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
    let (head, tail) = rest.split_at_checked(len)?;
    Some((rmp_serde::from_slice(head).ok()?, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(end: AttemptEnd) -> AttemptEnd {
        Report::decode(&Report::of(end).encode()).unwrap().into()
    }

    #[test]
    fn ends_keep_their_meaning_on_their_way() {
        let AttemptEnd::Returned(Ok(output)) = through(AttemptEnd::Returned(Ok(vec![1, 2]))) else {
            panic!()
        };
        assert_eq!(output, [1, 2]);
        let source = std::io::Error::other(TaskError::permanent("inner").error().to_string());
        let error = TaskError::retry_after(Duration::from_secs(3), source);
        let AttemptEnd::Returned(Err(error)) = through(AttemptEnd::Returned(Err(error))) else {
            panic!()
        };
        assert_eq!(error.verdict, Verdict::RetryAfter(Duration::from_secs(3)));
        assert_eq!(error.to_string(), "inner");
        let chain = RemoteError::chain("a".into(), vec!["b".into(), "c".into()]);
        assert_eq!(crate::execution::causes(&chain), ["b", "c"]);
        assert!(matches!(
            through(AttemptEnd::Undecodable("x".into())),
            AttemptEnd::Undecodable(note) if note == "x"
        ));
        assert!(Report::decode(b"nonsense").is_none() && Report::decode(&[]).is_none());
    }
}
