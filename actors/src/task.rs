//! What a user writes: kinds of tasks, and the errors their attempts end with.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::policy::Policy;

/// A kind of task: its arguments are the value itself.
///
/// Tasks are delivered at least once, so their effects must be idempotent.
///
/// ```
/// use celeriac_actors::policy::{Policy, minutes};
/// use celeriac_actors::task::Task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct SendReceipt {
///     order: u64,
/// }
///
/// impl Task for SendReceipt {
///     const NAME: &'static str = "billing.send_receipt";
///     type Output = ();
///     fn policy() -> Policy {
///         Policy::default().max_attempts(8).hard_limit(minutes(2))
///     }
/// }
/// ```
pub trait Task: Serialize + DeserializeOwned + Send + 'static {
    /// The name under which it is stored, such as `billing.charge`. Never change it while tasks wait.
    const NAME: &'static str;

    /// The queue it goes to where neither its enqueueing nor a route says otherwise.
    const QUEUE: &'static str = "default";

    /// Which of its arguments are redacted wherever arguments are shown or kept in readable form: paths such as
    /// `card.number` or `items[].price`, `[]` for each element of a list, `[1]` for one of it, `*` for every field, and `*` alone for
    /// everything. Default none. They travel with the task, so that programs which do not know its kind obey them too.
    ///
    /// What its errors say is not redacted: keep such values out of them.
    const SENSITIVE: &'static [&'static str] = &[];

    /// What an attempt returns. Kept as the result unless it is `()`.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Returns how its attempts are run.
    #[must_use]
    fn policy() -> Policy {
        Policy::default()
    }
}

/// Implements [`Task`] for a type in one line.
///
/// ```
/// use celeriac_actors::task;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Ping;
/// task!(Ping as "ops.ping");
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64, i64);
/// task!(Add as "math.add" -> i64);
/// ```
#[macro_export]
macro_rules! task {
    ($type:ty as $name:literal) => {
        $crate::task!($type as $name -> ());
    };
    ($type:ty as $name:literal -> $output:ty) => {
        impl $crate::task::Task for $type {
            const NAME: &'static str = $name;
            type Output = $output;
        }
    };
    ($type:ty as $name:literal -> $output:ty, $policy:expr) => {
        impl $crate::task::Task for $type {
            const NAME: &'static str = $name;
            type Output = $output;
            fn policy() -> $crate::policy::Policy {
                $policy
            }
        }
    };
}

/// Any error with its causes.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Why an attempt did not succeed, and what that means for the task.
///
/// Made by `?` from any error, from text, and from `anyhow`'s error; it is not itself an [`Error`], which is what allows that.
#[derive(Debug)]
pub struct TaskError {
    /// What it means for the task.
    pub(crate) verdict: Verdict,
    /// What happened.
    pub(crate) error: BoxError,
}

/// What an error means for the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Verdict {
    /// Try again as the policy says.
    Retry,
    /// Try again as the policy says, but not before this long.
    RetryAfter(Duration),
    /// Trying again is no use.
    Permanent,
    /// No failure: run again after this long, uncounted.
    Snooze(Duration),
    /// No failure: a breaker is open; run again after this long, uncounted.
    Parked(Duration),
    /// Nobody needs the task any more.
    Cancel,
    /// The attempt gave up because its soft limit had passed.
    SoftLimit,
}

impl TaskError {
    /// The attempt failed, and trying again is no use: the task becomes a dead letter.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            verdict: Verdict::Permanent,
            error: error.into(),
        }
    }

    /// The attempt failed and counts; the next one comes after `delay` instead of the policy's backoff.
    pub fn retry_after(delay: Duration, error: impl Into<BoxError>) -> Self {
        Self {
            verdict: Verdict::RetryAfter(delay),
            error: error.into(),
        }
    }

    /// Nobody needs the task any more: it ends as cancelled, without another attempt and without a dead letter. What for is
    /// kept with its end where somebody waits for it.
    pub fn cancel(reason: impl Into<BoxError>) -> Self {
        Self {
            verdict: Verdict::Cancel,
            error: reason.into(),
        }
    }

    /// No failure: the task runs again after `delay`, and this attempt does not count. Nothing else of the task changes. How
    /// often it may be done is said by [`Policy::max_snoozes`](crate::policy::Policy::max_snoozes); one time more is a dead letter.
    #[must_use]
    pub fn snooze(delay: Duration) -> Self {
        Self {
            verdict: Verdict::Snooze(delay),
            error: "snoozed".into(),
        }
    }

    /// The attempt stops because its soft limit has passed. Counts as a failed attempt.
    #[must_use]
    pub fn soft_limit() -> Self {
        Self {
            verdict: Verdict::SoftLimit,
            error: "stopped at its soft limit".into(),
        }
    }

    /// Returns the error itself.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + 'static) {
        &*self.error
    }
}

impl<E: Into<BoxError>> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self {
            verdict: Verdict::Retry,
            error: error.into(),
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
