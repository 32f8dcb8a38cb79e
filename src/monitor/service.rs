//! The monitor as a service: looks every second and a half, keeps the verdict, and writes a snapshot each minute.
//!
//! Two loops on one thread of its own: one looks and judges, and never waits for the store; the other probes the store,
//! writes what waits for it, and prunes. Everybody else reads the last verdict through [`Monitor`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::child::{Birth, ChildSpec};
use celeriac_actors::health::{Change, Health, Reach, Thresholds, Tracker, Verdict};
use celeriac_actors::ids::WorkerId;
use celeriac_actors::intensity::Limit;
use celeriac_actors::measure::KindFigures;
use celeriac_actors::ports::{Broker, DeadLetters, Snapshots, Span, StoreError};
use celeriac_actors::retention::{Removed, RetentionLimits, retain};
use celeriac_actors::service;
use celeriac_actors::time::Clock;
use slog::{Logger, error, info, warn};
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::facts::{Seen, Sources, board};
use super::minutes::{Gap, GapCause, Minutes};
use super::rates::Rates;

/// How often the monitor looks: a worker that was killed is silent after three seconds, and missed before five.
const LOOK: Duration = Duration::from_millis(1_500);

/// At every which look the board of breakers is read: workers tell of those they use at every look.
const BOARD: u32 = 3;

/// How long the broker has to answer a look.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// How long something must be away to count as away: a single late answer is none.
const AWAY_AFTER: Duration = Duration::from_millis(1_500);

/// How often the store is probed.
const PROBE: Duration = Duration::from_secs(2);

/// How long the store has to take a probe or a minute.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// How long one write of a minute may take: a busy store is slow, not away.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// How often snapshots are pruned.
const PRUNE: Duration = Duration::from_secs(600);

/// How many snapshots one step deletes.
const PRUNE_STEP: u32 = 1_000;

/// How many changes wait for a slow reader.
const CHANGES: usize = 256;

/// How many gaps are remembered.
const MAX_GAPS: usize = 64;

/// What a monitor watches beside the broker.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// From which figure on something is a reason.
    pub thresholds: Thresholds,
    /// Directories on the file systems that data lies on.
    pub directories: Vec<PathBuf>,
    /// Where snapshots are kept; `None` keeps none, and the store is not watched.
    pub snapshots: Option<Arc<dyn Snapshots>>,
    /// How many dead letters are kept. What is beyond it is deleted every ten minutes; by default nothing.
    pub retention: RetentionLimits,
}

/// What this process counted; asked at each look.
pub(crate) type OwnFigures = Arc<dyn Fn() -> Vec<KindFigures> + Send + Sync>;

/// The monitor of a process, as others see it. Cloning shares it.
#[derive(Clone)]
pub struct Monitor {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changes: broadcast::Sender<Change>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct State {
    tracker: Tracker,
    rates: Rates,
    seen: Option<Arc<Seen>>,
    store: Away,
    broker: Away,
    gaps: VecDeque<Gap>,
    waiting: usize,
}

/// Since when something has been away, by a clock that never goes back, and what it said.
#[derive(Clone, Debug, Default)]
struct Away {
    asked: bool,
    since: Option<(Duration, String)>,
}

impl Away {
    fn answered(&mut self) {
        (self.asked, self.since) = (true, None);
    }

    fn failed(&mut self, began: Duration, error: String) {
        self.asked = true;
        match &mut self.since {
            Some((_, last)) => *last = error,
            None => self.since = Some((began, error)),
        }
    }

    fn reach(&self, now: Duration) -> Reach {
        match &self.since {
            _ if !self.asked => Reach::Unasked,
            None => Reach::Here,
            Some((at, error)) => {
                let since = now.saturating_sub(*at);
                if since < AWAY_AFTER {
                    return Reach::Here;
                }
                let error = error.clone();
                Reach::Away { since, error }
            }
        }
    }
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("verdict", &self.health().verdict)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let state = Mutex::default();
        let inner = Arc::new(Inner {
            state,
            changes,
            clock,
        });
        Self { inner }
    }

    /// Returns the verdict with its reasons.
    #[must_use]
    pub fn health(&self) -> Health {
        let now = self.inner.clock.since_boot();
        self.lock().tracker.health(now)
    }

    /// Returns what changed of late, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<Change> {
        self.lock().tracker.history().cloned().collect()
    }

    /// Returns what the broker told at the last look that it answered.
    #[must_use]
    pub fn seen(&self) -> Option<Arc<Seen>> {
        self.lock().seen.clone()
    }

    /// Returns the minutes of late that no snapshot has, oldest first; at most 64 gaps.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.lock().gaps.iter().copied().collect()
    }

    /// Returns how many minutes wait for the store.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Returns changes as they come. Whoever is slow misses some, and is told.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.inner.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Its values are replaced whole.
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Specifies the service.
    pub(crate) fn service(&self, setup: MonitorSetup, limit: Limit) -> ChildSpec {
        let monitor = self.clone();
        let minutes = Arc::new(Mutex::new(Minutes::new(setup.worker.clone())));
        service::spec("monitor", limit, move |birth: Birth| {
            let watch = Watch {
                monitor: monitor.clone(),
                setup: setup.clone(),
                minutes: Arc::clone(&minutes),
                log: birth.log,
            };
            async move { watch.run().await }
        })
    }
}

/// What the service works with.
#[derive(Clone)]
pub(crate) struct MonitorSetup {
    pub(crate) worker: WorkerId,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) options: MonitorOptions,
    /// Where dead letters are kept.
    pub(crate) letters: Option<Arc<dyn DeadLetters>>,
    pub(crate) figures: OwnFigures,
}

struct Watch {
    monitor: Monitor,
    setup: MonitorSetup,
    minutes: Arc<Mutex<Minutes>>,
    log: Logger,
}

impl Watch {
    async fn run(&self) {
        tokio::join!(self.look(), self.keep());
    }

    /// Looks and judges, again and again.
    async fn look(&self) {
        let options = &self.setup.options;
        let sources = Sources {
            broker: Arc::clone(&self.setup.broker),
            directories: options.directories.clone(),
        };
        let clock = &self.monitor.inner.clock;
        let mut rhythm = interval(LOOK);
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut looks, mut on_board) = (0_u32, Vec::new());
        loop {
            rhythm.tick().await;
            let began = clock.since_boot();
            let read = async {
                if looks.is_multiple_of(BOARD) {
                    on_board = board(&self.setup.broker).await?;
                }
                Seen::read(&self.setup.broker).await
            };
            let seen = timeout(LOOK_LIMIT, read).await;
            looks = looks.wrapping_add(1);
            let seen = match seen {
                Ok(Ok(seen)) => Ok(Arc::new(seen.with_board(&on_board))),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {LOOK_LIMIT:?}")),
            };
            let (now, wall) = (clock.since_boot(), clock.now());
            if let Ok(seen) = &seen {
                self.count(seen, wall);
            }
            // Before the lock: a file system that hangs must hold up nobody who asks for the verdict.
            let disks = sources.disks();
            let mut state = self.monitor.lock();
            match &seen {
                Ok(seen) => {
                    state.broker.answered();
                    state.rates.take(now, &seen.queues);
                    state.seen = Some(Arc::clone(seen));
                }
                Err(error) => state.broker.failed(began, error.clone()),
            }
            let store = state.store.reach(now);
            let facts = match (seen, state.broker.reach(now)) {
                (_, away @ Reach::Away { .. }) => {
                    sources.facts(Err(away), &state.rates, (store, disks, wall))
                }
                (Ok(seen), _) => sources.facts(Ok(&seen), &state.rates, (store, disks, wall)),
                // Late once: what was seen last may hold still.
                (Err(_), _) => continue,
            };
            let changes = state.tracker.look(&facts, &options.thresholds, now, wall);
            drop(state);
            self.tell(changes);
        }
    }

    /// Ends the minute that is over.
    fn count(&self, seen: &Seen, wall: celeriac_actors::time::Timestamp) {
        if self.setup.options.snapshots.is_none() {
            return;
        }
        let mut minutes = lock(&self.minutes);
        let gap = minutes.look(wall, &seen.queues, (self.setup.figures)());
        let waiting = minutes.waiting();
        drop(minutes);
        let mut state = self.monitor.lock();
        state.waiting = waiting;
        if let Some(gap) = gap {
            if state.gaps.len() >= MAX_GAPS {
                state.gaps.pop_front();
            }
            state.gaps.push_back(gap);
            drop(state);
            let why = match gap.why {
                GapCause::Unseen => "the broker could not be asked, or this process did not run",
                GapCause::Overflow => "the store has been away for a day",
            };
            warn!(self.log, "snapshots of some minutes are missing"; "from" => %gap.from, "to" => %gap.to, "why" => why);
        }
    }

    fn tell(&self, changes: Vec<Change>) {
        for change in changes {
            match &change {
                Change::Verdict { from, to, .. } => match to {
                    Verdict::Critical => {
                        error!(self.log, "health is critical"; "was" => %from);
                    }
                    Verdict::Degraded | Verdict::Unknown => {
                        warn!(self.log, "health has changed"; "is" => %to, "was" => %from);
                    }
                    Verdict::Healthy => info!(self.log, "health is well"; "was" => %from),
                },
                Change::Raised { reason, .. } => {
                    warn!(self.log, "a reason for concern"; "reason" => %reason.kind,
                        "what" => &reason.text, "advice" => &reason.advice);
                }
                Change::Cleared { reason, .. } => {
                    info!(self.log, "a reason for concern is gone"; "reason" => %reason.kind,
                        "subject" => &reason.subject);
                }
            }
            // Nobody may be there to hear it.
            let _heard = self.monitor.inner.changes.send(change);
        }
    }

    /// Probes the store, writes the minutes that wait, and prunes.
    async fn keep(&self) {
        let Some(store) = self.setup.options.snapshots.clone() else {
            return std::future::pending().await;
        };
        let clock = &self.monitor.inner.clock;
        let mut rhythm = interval(PROBE);
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pruned = None::<Duration>;
        loop {
            rhythm.tick().await;
            let began = clock.since_boot();
            let probed = within(STORE_LIMIT, store.probe()).await;
            let is_here = probed.is_ok();
            {
                let mut state = self.monitor.lock();
                match probed {
                    Ok(()) => state.store.answered(),
                    Err(error) => state.store.failed(began, error.to_string()),
                }
            }
            if !is_here {
                continue;
            }
            self.write(&*store).await;
            let now = clock.since_boot();
            if pruned.is_none_or(|at| now.saturating_sub(at) >= PRUNE) {
                pruned = Some(now);
                self.prune(&*store).await;
                self.forget_letters().await;
            }
        }
    }

    async fn write(&self, store: &dyn Snapshots) {
        loop {
            let next = lock(&self.minutes).next().cloned();
            let Some(minute) = next else {
                return;
            };
            if let Err(error) = within(WRITE_LIMIT, store.write(&minute)).await {
                let waiting = lock(&self.minutes).waiting();
                warn!(self.log, "a snapshot cannot be written yet"; "error" => %error, "waiting" => waiting);
                return;
            }
            let mut minutes = lock(&self.minutes);
            minutes.written(minute.at);
            let waiting = minutes.waiting();
            drop(minutes);
            self.monitor.lock().waiting = waiting;
        }
    }

    /// Deletes dead letters that are not kept any longer, a bounded step at a time.
    async fn forget_letters(&self) {
        let limits = self.setup.options.retention;
        let Some(letters) = self.setup.letters.as_ref() else {
            return;
        };
        if limits.keep_everything() {
            return;
        }
        let mut all = Removed::default();
        loop {
            let now = self.monitor.inner.clock.now();
            match within(WRITE_LIMIT, retain(&**letters, now, &limits, PRUNE_STEP)).await {
                Ok(removed) => {
                    all.by_age += removed.by_age;
                    all.by_count += removed.by_count;
                    if !removed.more {
                        break;
                    }
                }
                Err(error) => {
                    warn!(self.log, "old dead letters cannot be deleted yet"; "error" => %error);
                    break;
                }
            }
        }
        all.report(&self.log);
    }

    /// Deletes snapshots that are old enough, a bounded step at a time.
    async fn prune(&self, store: &dyn Snapshots) {
        let now = self.monitor.inner.clock.now();
        for span in Span::ALL {
            let kept = celeriac_actors::time::millis(span.kept());
            let before = now.as_millis().saturating_sub(kept);
            let before = celeriac_actors::time::Timestamp::from_millis(before);
            let mut gone = 0;
            loop {
                match within(WRITE_LIMIT, store.prune(span, before, PRUNE_STEP)).await {
                    Ok(0) => break,
                    Ok(some) => gone += some,
                    Err(error) => {
                        warn!(self.log, "old snapshots cannot be deleted yet"; "error" => %error);
                        return;
                    }
                }
            }
            if gone > 0 {
                info!(self.log, "deleted old snapshots"; "span" => ?span, "count" => gone);
            }
        }
    }
}

async fn within<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match timeout(limit, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {limit:?}"
        ))),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Its values are replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
