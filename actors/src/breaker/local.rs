//! One breaker as one process sees it: a copy of where it stands, what was counted here, and what is still to be told.
//!
//! The way through a closed breaker reads one flag. Every change goes through [`Breaker::adopt`], which says so once in
//! the log; what this process decides holds here at once, and is told to the others by the keeper.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::{Rng, RngExt};
use slog::{Logger, info, warn};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::record::Act;
use super::window::{Counts, Window};
use super::{Board, BreakerPolicy, BreakerRecord, BreakerState};
use crate::ids::BreakerName;
use crate::time::{Clock, millis};

/// The longest time a task is parked in one go, chance aside: what is closed by hand is noticed by then.
const MAX_PARK: Duration = Duration::from_secs(15);

/// How long a task is parked where nobody knows until when: somebody else probes, or it was opened by hand.
const BLIND_PARK: Duration = Duration::from_secs(5);

/// The shortest time a task is parked, and the least by which parked tasks are spread.
const MIN_PARK: Duration = Duration::from_millis(100);

/// How many parked tasks a second come back to one process at most, about.
const PARKED_PER_SECOND: u32 = 2_000;

/// What all breakers of a process share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) worker: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Board,
    pub(super) log: Logger,
    /// When counting began: windows measure from here.
    pub(super) origin: Instant,
    /// How many breakers are not closed here.
    pub(super) restless: AtomicUsize,
    /// Rung when something is to be told.
    pub(super) untold: Notify,
}

/// How a call ended, as far as what is behind the breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered.
    Success,
    /// It failed.
    Failure,
    /// The end tells nothing: a cancellation, a snooze.
    Neutral,
}

/// What this process decided and the others do not know yet.
#[derive(Clone, Debug, PartialEq)]
enum Untold {
    Trip(BreakerRecord),
    Probe(u64, Verdict),
}

#[derive(Debug)]
struct State {
    record: BreakerRecord,
    /// Since when the record holds here.
    adopted: Instant,
    window: Window,
    untold: Option<Untold>,
    /// How many tasks were parked since the record changed.
    parked: u32,
}

/// One breaker of a process. See the file's header.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(super) name: BreakerName,
    pub(super) policy: BreakerPolicy,
    pub(super) common: Arc<Common>,
    shut: AtomicBool,
    /// An attempt of this process tries to probe it.
    trying: AtomicBool,
    /// How many tasks it has parked since the process began.
    pub(super) parked_in_all: AtomicU32,
    state: Mutex<State>,
}

impl Breaker {
    pub(super) fn new(name: BreakerName, policy: BreakerPolicy, common: Arc<Common>) -> Self {
        let state = State {
            record: BreakerRecord::closed(name.clone()),
            adopted: common.origin,
            window: Window::new(),
            untold: None,
            parked: 0,
        };
        Self {
            name,
            policy,
            common,
            shut: AtomicBool::new(false),
            trying: AtomicBool::new(false),
            parked_in_all: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether nothing passes but a probe.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// Returns where it stands here.
    pub(super) fn record(&self) -> BreakerRecord {
        self.state().record.clone()
    }

    /// Returns what was counted here within the window.
    pub(super) fn counts(&self) -> Counts {
        let now = self.common.origin.elapsed();
        self.state().window.counts_at(now, &self.policy)
    }

    /// Takes a record that was read for what holds now, unless this process knows something newer.
    pub(super) fn adopt(&self, record: BreakerRecord) {
        let mut state = self.state();
        // A turn of 0 is a breaker that is on no board any more.
        let older = record.turn != 0 && record.turn < state.record.turn;
        if state.untold.is_none() && !older {
            self.put(&mut state, record);
        }
    }

    fn put(&self, state: &mut State, record: BreakerRecord) {
        if state.record == record {
            return;
        }
        let shut = record.state != BreakerState::Closed;
        if self.shut.swap(shut, Ordering::AcqRel) != shut {
            if shut {
                self.common.restless.fetch_add(1, Ordering::AcqRel);
            } else {
                self.common.restless.fetch_sub(1, Ordering::AcqRel);
            }
        }
        if state.record.state != record.state {
            state.window.clear();
            self.tell(&record);
        }
        state.parked = 0;
        state.record = record;
        state.adopted = Instant::now();
    }

    /// Logs a change, once.
    fn tell(&self, record: &BreakerRecord) {
        let (name, by, cause) = (self.name.as_str(), &*record.by, &*record.cause);
        let log = &self.common.log;
        match record.state {
            BreakerState::Open => {
                let for_ms = record.until.map(|until| millis(until.since(record.since)));
                warn!(log, "breaker opened; the tasks that need it are parked";
                    "cause" => cause, "for_ms" => for_ms, "by" => by, "breaker" => name);
            }
            BreakerState::HalfOpen => {
                info!(log, "breaker lets one attempt probe"; "by" => by, "breaker" => name);
            }
            BreakerState::Closed => {
                info!(log, "breaker closed"; "cause" => cause, "by" => by, "breaker" => name);
            }
        }
    }

    /// Counts the end of a call that began at `began`; one that began before the breaker stood as it does tells nothing.
    pub(super) fn ended(&self, began: Instant, verdict: Verdict) {
        if verdict == Verdict::Neutral || self.is_shut() {
            return;
        }
        let now = self.common.origin.elapsed();
        let mut state = self.state();
        if state.record.state != BreakerState::Closed || began < state.adopted {
            return;
        }
        if verdict == Verdict::Success {
            return state.window.success(now, &self.policy);
        }
        let Some(cause) = state.window.failure(now, &self.policy) else {
            return;
        };
        let act = self.act(&cause);
        if let Some(open) = state.record.trip(&self.policy, act, &mut rand::rng()) {
            state.untold = Some(Untold::Trip(open.clone()));
            self.put(&mut state, open);
            self.common.untold.notify_one();
        }
    }

    fn act<'a>(&'a self, cause: &'a str) -> Act<'a> {
        Act {
            by: &self.common.worker,
            cause,
            now: self.common.clock.now(),
        }
    }

    /// Lets one attempt of this process try to probe it, if it is due and none does.
    pub(super) fn candidate(self: &Arc<Self>) -> Option<Candidate> {
        if !self.state().record.is_due(self.common.clock.now()) {
            return None;
        }
        let was = self.trying.swap(true, Ordering::AcqRel);
        (!was).then(|| Candidate(Arc::clone(self)))
    }

    /// Returns how long to park a task: until it may be probed, and some more by chance, the more tasks wait the more.
    pub(super) fn park(&self, rng: &mut impl Rng) -> Duration {
        let now = self.common.clock.now();
        let mut state = self.state();
        let wait = match state.record.state {
            BreakerState::Closed => Duration::ZERO,
            BreakerState::Open => state.record.remaining(now).unwrap_or(BLIND_PARK),
            // Soon it is closed or opened again.
            BreakerState::HalfOpen => self.policy.open_base.min(BLIND_PARK),
        };
        let wait = wait.min(MAX_PARK);
        self.parked_in_all.fetch_add(1, Ordering::Relaxed);
        state.parked = state.parked.saturating_add(1);
        let crowd = Duration::from_secs(1) * state.parked / PARKED_PER_SECOND;
        let spread = (wait / 4).max(crowd).max(MIN_PARK);
        (wait + spread.mul_f64(rng.random::<f64>())).max(MIN_PARK)
    }

    /// Tells the others what this process decided; `Err` when that must be tried again.
    pub(super) async fn publish(&self) -> Result<(), super::BoardError> {
        let Some(untold) = self.state().untold.clone() else {
            return Ok(());
        };
        let now = self.common.clock.now();
        let step = |current: &BreakerRecord| match &untold {
            Untold::Trip(open) => (current.state == BreakerState::Closed).then(|| BreakerRecord {
                turn: open.turn.max(current.turn.saturating_add(1)),
                ..open.clone()
            }),
            Untold::Probe(turn, verdict) => self.after_probe(current, *turn, *verdict),
        };
        let (record, _) = self.common.board.change(&self.name, now, step).await?;
        let mut state = self.state();
        if state.untold.as_ref() == Some(&untold) {
            state.untold = None;
            self.put(&mut state, record);
        }
        Ok(())
    }

    fn after_probe(
        &self,
        current: &BreakerRecord,
        turn: u64,
        verdict: Verdict,
    ) -> Option<BreakerRecord> {
        match verdict {
            Verdict::Success => current.probe_succeeded(turn, self.act("the probe succeeded")),
            Verdict::Failure => {
                let act = self.act("the probe failed");
                current.probe_failed(turn, &self.policy, act, &mut rand::rng())
            }
            Verdict::Neutral => {
                current.probe_returned(turn, self.act("the probe ended without telling anything"))
            }
        }
    }

    /// Ends the probe of a turn: here at once, for the others when the keeper tells them.
    fn probe_ended(&self, turn: u64, verdict: Verdict) {
        let mut state = self.state();
        if let Some(next) = self.after_probe(&state.record.clone(), turn, verdict) {
            self.put(&mut state, next);
        }
        state.untold = Some(Untold::Probe(turn, verdict));
        drop(state);
        self.common.untold.notify_one();
    }
}

/// The right of one attempt of this process to try to probe a breaker. Dropping it lets another one try.
#[derive(Debug)]
pub(crate) struct Candidate(Arc<Breaker>);

impl Drop for Candidate {
    fn drop(&mut self) {
        self.0.trying.store(false, Ordering::Release);
    }
}

impl Candidate {
    pub(super) fn breaker(&self) -> &Arc<Breaker> {
        &self.0
    }

    /// Takes the probe, if nobody else of the cluster has it; keeps the right to try until the probe ends.
    pub(super) async fn probe(self) -> Option<Probe> {
        let breaker = &self.0;
        let now = breaker.common.clock.now();
        let act = breaker.act("its time was over");
        let step = |current: &BreakerRecord| current.probe(breaker.policy.probe_limit, act);
        let changed = breaker.common.board.change(&breaker.name, now, step);
        let in_time = tokio::time::timeout(BLIND_PARK, changed).await;
        let (record, ours) = in_time.ok()?.ok()?;
        let turn = record.turn;
        breaker.adopt(record);
        ours.then_some(Probe {
            candidate: self,
            turn,
            ended: false,
        })
    }
}

/// The one probe of the cluster. Dropped without a verdict, it gives the breaker to the next one.
#[derive(Debug)]
pub(crate) struct Probe {
    candidate: Candidate,
    turn: u64,
    ended: bool,
}

impl Probe {
    pub(super) fn breaker(&self) -> &Arc<Breaker> {
        self.candidate.breaker()
    }

    /// Says how it ended.
    pub(super) fn end(mut self, verdict: Verdict) {
        self.ended = true;
        self.breaker().probe_ended(self.turn, verdict);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.ended {
            self.breaker().probe_ended(self.turn, Verdict::Neutral);
        }
    }
}
