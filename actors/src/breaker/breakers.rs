//! The breakers of a process: found by name, with what each kind of task was seen to depend on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slog::{Logger, error, warn};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::local::{Breaker, Candidate, Common};
use super::{Board, BoardError, BreakerOverride, BreakerPolicy, BreakerRecord, MAX_BREAKERS};
use crate::ids::{BreakerName, TaskName, WorkerId};
use crate::ports::Broker;
use crate::time::Clock;

/// How many breakers a kind of task is remembered to depend on.
const MAX_OF_KIND: usize = 16;

/// What a program and its configuration say about breakers by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) policies: BTreeMap<BreakerName, BreakerPolicy>,
    pub(crate) overrides: BTreeMap<BreakerName, BreakerOverride>,
}

impl Rules {
    fn policy(&self, name: &BreakerName, own: Option<BreakerPolicy>) -> BreakerPolicy {
        let policy = own.or_else(|| self.policies.get(name).copied());
        let over = self.overrides.get(name).copied().unwrap_or_default();
        over.apply(policy.unwrap_or_default())
    }
}

/// One breaker as a worker tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerView {
    /// Where it stands, as far as this worker knows.
    #[serde(flatten)]
    pub record: BreakerRecord,
    /// How many calls this worker has counted within the window.
    pub calls: u32,
    /// How many of them failed.
    pub failures: u32,
    /// How many tasks this worker has parked for it since it started.
    pub parked: u32,
    /// The kinds of tasks that were seen to depend on it.
    pub tasks: Vec<TaskName>,
}

/// Whether a task may start, as far as breakers are concerned.
pub(crate) enum Admit {
    /// It may.
    Go,
    /// It may, to probe: the breaker of its own kind, and others it depends on.
    Try(Option<Candidate>, Vec<Candidate>),
    /// Not before this long.
    Park(Duration),
}

/// The breakers of a process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Breakers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    common: Arc<Common>,
    rules: Rules,
    known: RwLock<HashMap<Arc<str>, Arc<Breaker>>>,
    kinds: RwLock<HashMap<TaskName, Vec<Arc<Breaker>>>>,
    /// What the board said last, for breakers that are met later.
    seen: Mutex<BTreeMap<BreakerName, BreakerRecord>>,
    full: AtomicBool,
    unreadable: AtomicBool,
}

impl Breakers {
    /// Creates the breakers of a process, none yet.
    #[must_use]
    pub fn new(
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        worker: &WorkerId,
        log: Logger,
    ) -> Self {
        let common = Common {
            worker: worker.to_string(),
            clock,
            board: Board::of(broker),
            log,
            origin: Instant::now(),
            restless: AtomicUsize::new(0),
            untold: Notify::new(),
        };
        Self::with(Arc::new(common), Rules::default())
    }

    fn with(common: Arc<Common>, rules: Rules) -> Self {
        let inner = Inner {
            common,
            rules,
            known: RwLock::default(),
            kinds: RwLock::default(),
            seen: Mutex::default(),
            full: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the same with what a program says about its breakers; those it names are known from the start.
    #[must_use]
    pub fn of_program(self, registry: &crate::registry::Registry) -> Self {
        let rules = registry.breakers.clone();
        let breakers = Self::with(Arc::clone(&self.inner.common), rules);
        for (task, entry) in &registry.entries {
            if let Some(policy) = entry.policy.own_breaker() {
                breakers.find(task.as_str(), Some(*policy));
            }
        }
        for name in registry.breakers.policies.keys() {
            breakers.find(name.as_str(), None);
        }
        breakers
    }

    /// Returns the breaker of this name, made when it is met first; `None` when the name cannot be one or there are too
    /// many.
    pub(super) fn find(&self, name: &str, own: Option<BreakerPolicy>) -> Option<Arc<Breaker>> {
        let known = self.inner.known.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.get(name) {
            return Some(Arc::clone(breaker));
        }
        drop(known);
        self.make(name, own)
    }

    fn make(&self, text: &str, own: Option<BreakerPolicy>) -> Option<Arc<Breaker>> {
        let log = &self.inner.common.log;
        let full = |why: &str| {
            if !self.inner.full.swap(true, Ordering::AcqRel) {
                error!(log, "a breaker cannot be used and lets everything pass"; "breaker" => text, "error" => why);
            }
        };
        let name = BreakerName::new(text)
            .map_err(|why| full(&why.to_string()))
            .ok()?;
        let known = self.inner.known.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.get(text) {
            return Some(Arc::clone(breaker));
        }
        if known.len() >= MAX_BREAKERS {
            full("there are too many of them: names must not be made of data");
            return None;
        }
        let policy = self.inner.rules.policy(&name, own);
        let common = Arc::clone(&self.inner.common);
        let breaker = Arc::new(Breaker::new(name, policy, common));
        known.insert(Arc::from(text), Arc::clone(&breaker));
        drop(known);
        if let Some(record) = self.seen().get(&breaker.name) {
            breaker.adopt(record.clone());
        }
        // The keeper looks what the others say about it.
        self.inner.common.untold.notify_one();
        Some(breaker)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, BTreeMap<BreakerName, BreakerRecord>> {
        let seen = self.inner.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all breakers of this process, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Breaker>> {
        let known = self.inner.known.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known.values().cloned().collect();
        drop(known);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Remembers that tasks of a kind depend on a breaker.
    pub(super) fn depends(&self, task: &TaskName, breaker: &Arc<Breaker>) {
        let kinds = self.inner.kinds.read();
        let kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        let is_it = |other: &Arc<Breaker>| Arc::ptr_eq(other, breaker);
        let known = kinds.get(task).is_some_and(|all| all.iter().any(is_it));
        drop(kinds);
        if known {
            return;
        }
        let kinds = self.inner.kinds.write();
        let mut kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        let all = kinds.entry(task.clone()).or_default();
        if !all.iter().any(is_it) && all.len() < MAX_OF_KIND {
            all.push(Arc::clone(breaker));
        }
    }

    /// Decides whether a task of this kind may start now.
    pub(crate) fn admit(&self, task: &TaskName, own: Option<&BreakerPolicy>) -> Admit {
        if self.inner.common.restless.load(Ordering::Acquire) == 0 {
            return Admit::Go;
        }
        let own = own.and_then(|policy| self.find(task.as_str(), Some(*policy)));
        let own = own.filter(|breaker| breaker.is_shut());
        let kinds = self.inner.kinds.read();
        let kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        let named = kinds.get(task).into_iter().flatten();
        let is_own =
            |breaker: &Arc<Breaker>| own.as_ref().is_some_and(|it| Arc::ptr_eq(it, breaker));
        let named: Vec<Arc<Breaker>> = named
            .filter(|breaker| breaker.is_shut() && !is_own(breaker))
            .cloned()
            .collect();
        drop(kinds);
        if own.is_none() && named.is_empty() {
            return Admit::Go;
        }
        let try_own = own.as_ref().map(Breaker::candidate);
        let try_named: Vec<_> = named.iter().map(Breaker::candidate).collect();
        let refuses = |(breaker, candidate): (&Arc<Breaker>, &Option<Candidate>)| {
            candidate.is_none().then(|| breaker.park(&mut rand::rng()))
        };
        let pairs = own.iter().zip(&try_own).chain(named.iter().zip(&try_named));
        match pairs.filter_map(refuses).max() {
            Some(delay) => Admit::Park(delay),
            None => Admit::Try(try_own.flatten(), try_named.into_iter().flatten().collect()),
        }
    }

    /// Returns all breakers of this process, for people.
    #[must_use]
    pub fn views(&self) -> Vec<BreakerView> {
        let kinds = self.inner.kinds.read();
        let kinds = kinds.unwrap_or_else(PoisonError::into_inner);
        let view = |breaker: Arc<Breaker>| {
            let counts = breaker.counts();
            let depends = |all: &[Arc<Breaker>]| all.iter().any(|it| Arc::ptr_eq(it, &breaker));
            let tasks = kinds.iter().filter(|(_, all)| depends(all));
            let mut tasks: Vec<TaskName> = tasks.map(|(task, _)| task.clone()).collect();
            tasks.sort();
            BreakerView {
                record: breaker.record(),
                calls: counts.calls,
                failures: counts.failures,
                parked: breaker.parked_in_all.load(Ordering::Relaxed),
                tasks,
            }
        };
        self.all().into_iter().map(view).collect()
    }

    /// Completes when something is to be told or looked up at once.
    pub(super) async fn untold(&self) {
        self.inner.common.untold.notified().await;
    }

    /// Tells the others what this process decided, and takes over what they did. Returns whether all of that worked.
    pub(crate) async fn sync(&self) -> bool {
        let all = self.all();
        for breaker in &all {
            if let Err(error) = breaker.publish().await {
                self.complain(&error);
                return false;
            }
        }
        let common = &self.inner.common;
        let records = match common.board.look(common.clock.now()).await {
            Ok(records) => records,
            Err(error) => {
                self.complain(&error);
                return false;
            }
        };
        for breaker in &all {
            let closed = || BreakerRecord::closed(breaker.name.clone());
            let record = records.get(&breaker.name).cloned();
            breaker.adopt(record.unwrap_or_else(closed));
        }
        *self.seen() = records;
        self.inner.unreadable.store(false, Ordering::Release);
        true
    }

    /// Logs what no outage explains, once.
    fn complain(&self, error: &BoardError) {
        let outage = matches!(error, BoardError::Broker(error) if error.is_outage());
        if !outage && !self.inner.unreadable.swap(true, Ordering::AcqRel) {
            warn!(self.inner.common.log, "breakers cannot be shared with other workers; each goes by itself"; "error" => %error);
        }
    }
}
