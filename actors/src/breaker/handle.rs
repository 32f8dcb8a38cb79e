//! What a task's code does with a breaker: calls through it, or learns that it is open.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::local::{Breaker, Probe, Verdict};
use crate::context::{Abort, AttemptContext};
use crate::ids::BreakerName;
use crate::task::{BoxError, TaskError, Verdict as Meaning};

/// The breaker is open: the call was not made. `?` parks the task until the breaker may be probed; that uses up no attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the breaker `{name}` is open")]
pub struct BreakerOpen {
    /// The breaker.
    pub name: BreakerName,
    #[source]
    wait: Wait,
}

/// Until when: as a source of its own, so that it is found behind whatever wraps the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is worth another try in {0:?}")]
struct Wait(Duration);

impl BreakerOpen {
    /// Returns how long the task will be parked.
    #[must_use]
    pub const fn retry_in(&self) -> Duration {
        self.wait.0
    }
}

/// Returns how long a task is to be parked, if an error says that a breaker was open.
pub(crate) fn park_of(error: &(dyn Error + 'static)) -> Option<Duration> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(wait) = error.downcast_ref::<Wait>() {
            return Some(wait.0);
        }
        next = error.source();
    }
    None
}

/// Why a call through a breaker gave nothing.
///
/// Becomes a [`TaskError`] by `?` where its inner error does. It is not itself an [`Error`], which is what allows that:
/// elsewhere, take it apart, or use [`into_boxed`](Self::into_boxed).
#[derive(Debug)]
pub enum BreakerError<E> {
    /// The breaker was open: nothing was called.
    Open(BreakerOpen),
    /// The call itself failed.
    Failed(E),
}

impl<E: Into<BoxError>> BreakerError<E> {
    /// Returns the error as any error is passed on; the runtime still finds in it that the breaker was open.
    pub fn into_boxed(self) -> BoxError {
        match self {
            Self::Open(open) => open.into(),
            Self::Failed(error) => error.into(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BreakerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: Into<TaskError>> From<BreakerError<E>> for TaskError {
    fn from(error: BreakerError<E>) -> Self {
        match error {
            BreakerError::Open(open) => Self {
                verdict: Meaning::Parked(open.retry_in()),
                error: open.into(),
            },
            BreakerError::Failed(error) => error.into(),
        }
    }
}

/// A breaker in the hands of one attempt. Made by [`AttemptContext::breaker`].
#[derive(Clone, Debug)]
pub struct BreakerHandle {
    /// `None` lets everything pass: its name cannot be used.
    breaker: Option<Arc<Breaker>>,
    context: AttemptContext,
}

impl BreakerHandle {
    /// Makes a call through the breaker. Every error of it counts as a failure.
    ///
    /// # Errors
    /// [`BreakerError::Open`] when nothing was called; [`BreakerError::Failed`] with the call's own error.
    ///
    /// # Cancel safety
    /// As cancel-safe as the call. A call that is dropped counts as a failure at the attempt's hard limit, and for
    /// nothing otherwise.
    pub async fn call<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        self.call_if(|_| true, work).await
    }

    /// Makes a call through the breaker; only the errors that `is_failure` picks speak against what is behind it, the
    /// others are answers.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn call_if<T, E>(
        &self,
        is_failure: impl FnOnce(&E) -> bool,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, BreakerError<E>> {
        let passage = self.enter().await.map_err(BreakerError::Open)?;
        let outcome = work.await;
        match &outcome {
            Err(error) if is_failure(error) => passage.failure(),
            _ => passage.success(),
        }
        outcome.map_err(BreakerError::Failed)
    }

    /// Passes through the breaker, for calls that do not fit into one future. Asks the broker only to probe.
    ///
    /// # Errors
    /// [`BreakerOpen`] when it does not let pass.
    pub async fn enter(&self) -> Result<Passage, BreakerOpen> {
        let pass = |probe| Passage {
            breaker: self.breaker.clone(),
            context: self.context.clone(),
            began: Instant::now(),
            probe,
            ended: false,
        };
        let Some(breaker) = self.breaker.as_ref().filter(|breaker| breaker.is_shut()) else {
            return Ok(pass(None));
        };
        let slots = self.context.slots();
        if slots.probes(breaker) {
            return Ok(pass(None));
        }
        if let Some(candidate) = slots.candidate(breaker).or_else(|| breaker.candidate()) {
            if let Some(probe) = candidate.probe().await {
                return Ok(pass(Some(probe)));
            }
            if !breaker.is_shut() {
                return Ok(pass(None));
            }
        }
        Err(BreakerOpen {
            name: breaker.name.clone(),
            wait: Wait(breaker.park(&mut rand::rng())),
        })
    }
}

/// The way through a breaker, until the call has ended. Dropped unended, it counts as a failure in a panic and at the
/// attempt's hard limit, and for nothing otherwise.
#[derive(Debug)]
#[must_use = "a passage that is dropped at once counts for nothing"]
pub struct Passage {
    breaker: Option<Arc<Breaker>>,
    context: AttemptContext,
    began: Instant,
    probe: Option<Probe>,
    ended: bool,
}

impl Passage {
    /// Says that what is behind the breaker answered.
    pub fn success(mut self) {
        self.end(Verdict::Success);
    }

    /// Says that what is behind the breaker failed. In an attempt that was cancelled, it says nothing.
    pub fn failure(mut self) {
        let aborted = self.context.aborted();
        let cancelled = self.context.is_cancelled() && aborted != Some(Abort::HardLimit);
        self.end(if cancelled {
            Verdict::Neutral
        } else {
            Verdict::Failure
        });
    }

    fn end(&mut self, verdict: Verdict) {
        self.ended = true;
        match (self.probe.take(), &self.breaker) {
            (Some(probe), _) => probe.end(verdict),
            (None, Some(breaker)) => breaker.ended(self.began, verdict),
            (None, None) => {}
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let overdue = self.context.aborted() == Some(Abort::HardLimit);
        self.end(if overdue || std::thread::panicking() {
            Verdict::Failure
        } else {
            Verdict::Neutral
        });
    }
}

impl AttemptContext {
    /// Returns the breaker of something that tasks depend on, such as `stripe`, which all workers of the broker share.
    ///
    /// The runtime remembers that tasks of this kind need it: while it is open, they are parked before they start. Names
    /// are few and fixed: at most [`MAX_BREAKERS`](super::MAX_BREAKERS) of a process; the breaker of a name that cannot be
    /// used lets everything pass, and an error is logged.
    ///
    /// ```
    /// # use celeriac_actors::attempt::Attempt;
    /// # use celeriac_actors::task::TaskError;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Serialize, Deserialize)]
    /// # struct Charge { cents: u64 }
    /// # celeriac_actors::task!(Charge as "billing.charge");
    /// # async fn charge_card(_cents: u64) -> Result<(), std::io::Error> { Ok(()) }
    /// async fn charge(attempt: Attempt<Charge>) -> Result<(), TaskError> {
    ///     let cents = attempt.args.cents;
    ///     attempt.breaker("stripe").call(charge_card(cents)).await?;
    ///     Ok(())
    /// }
    /// ```
    #[must_use]
    pub fn breaker(&self, name: &str) -> BreakerHandle {
        let breakers = &self.worker_context().breakers;
        let breaker = breakers.find(name, None);
        if let Some(breaker) = &breaker {
            breakers.depends(self.task(), breaker);
        }
        BreakerHandle {
            breaker,
            context: self.clone(),
        }
    }
}
