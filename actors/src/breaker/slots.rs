//! What an attempt carries of breakers, and what its end means for that of its kind.

use std::sync::{Mutex, PoisonError};

use futures_util::future::LocalBoxFuture;

use super::handle::park_of;
use super::local::{Breaker, Candidate, Probe, Verdict};
use crate::context::{Abort, AttemptContext};
use crate::policy::Policy;
use crate::runner::AttemptEnd;
use crate::task::Verdict as Meaning;

/// What an attempt carries of breakers: nothing, as long as all are closed.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<Option<Box<Held>>>);

#[derive(Debug, Default)]
struct Held {
    /// The probe of its kind's own breaker.
    probe: Option<Probe>,
    /// The right to try those of others.
    candidates: Vec<Candidate>,
}

impl Slots {
    fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(held.get_or_insert_default())
    }

    /// Keeps the right to try the breakers of others.
    pub(crate) fn carry(&self, candidates: Vec<Candidate>) {
        if !candidates.is_empty() {
            self.with(|held| held.candidates = candidates);
        }
    }

    /// Returns the right to try this breaker, once.
    pub(super) fn candidate(&self, breaker: &Breaker) -> Option<Candidate> {
        self.with(|held| {
            let is_it = |it: &Candidate| std::ptr::eq(&raw const **it.breaker(), breaker);
            let at = held.candidates.iter().position(is_it)?;
            Some(held.candidates.swap_remove(at))
        })
    }

    /// Returns whether the attempt is the probe of this breaker.
    pub(super) fn probes(&self, breaker: &Breaker) -> bool {
        let is_it = |probe: &Probe| std::ptr::eq(&raw const **probe.breaker(), breaker);
        self.with(|held| held.probe.as_ref().is_some_and(is_it))
    }

    fn take(&self) -> Option<Box<Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Has `body` run only if it gets the probe of its kind's breaker; it is parked otherwise.
pub(crate) fn probing(
    candidate: Candidate,
    context: AttemptContext,
    body: LocalBoxFuture<'static, AttemptEnd>,
) -> LocalBoxFuture<'static, AttemptEnd> {
    Box::pin(async move {
        let breaker = std::sync::Arc::clone(candidate.breaker());
        match candidate.probe().await {
            Some(probe) => {
                context.slots().with(|held| held.probe = Some(probe));
                body.await
            }
            // Somebody closed it meanwhile.
            None if !breaker.is_shut() => body.await,
            None => AttemptEnd::Parked(breaker.park(&mut rand::rng())),
        }
    })
}

/// Counts the end of an attempt for the breaker of its kind, and gives back what it held of others.
pub(crate) fn landed(
    context: &AttemptContext,
    policy: &Policy,
    end: &AttemptEnd,
    aborted: Option<Abort>,
) {
    let held = context.slots().take();
    let Some(own) = policy.own_breaker() else {
        return;
    };
    let verdict = match end {
        AttemptEnd::Returned(Ok(_)) => Verdict::Success,
        AttemptEnd::Returned(Err(error)) => match error.verdict {
            Meaning::Snooze(_) | Meaning::Parked(_) => Verdict::Neutral,
            _ if park_of(error.error()).is_some() => Verdict::Neutral,
            _ if context.is_cancelled() && aborted.is_none() => Verdict::Neutral,
            _ if own.is_failure(error.error()) => Verdict::Failure,
            _ => Verdict::Success,
        },
        AttemptEnd::Panicked(_) => Verdict::Failure,
        AttemptEnd::Aborted | AttemptEnd::Died(_) if aborted == Some(Abort::HardLimit) => {
            Verdict::Failure
        }
        AttemptEnd::Died(_) if aborted.is_none() => Verdict::Failure,
        AttemptEnd::Aborted
        | AttemptEnd::Undecodable(_)
        | AttemptEnd::Unavailable
        | AttemptEnd::Parked(_)
        | AttemptEnd::Died(_)
        | AttemptEnd::Lost => Verdict::Neutral,
    };
    if let Some(probe) = held.and_then(|held| held.probe) {
        return probe.end(verdict);
    }
    let breakers = &context.worker_context().breakers;
    if let Some(breaker) = breakers.find(context.task().as_str(), Some(*own)) {
        breaker.ended(context.started(), verdict);
    }
}
