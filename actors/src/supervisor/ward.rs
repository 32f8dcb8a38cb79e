//! One child as its supervisor holds it: its spec, what it is doing, and what it has been through.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::attend::Order;
use super::board::{Board, Entry};
use super::plan::{Facts, Goal, Phase};
use crate::child::{ChildSpec, ChildState, ExitReason, LastExit, OnExhausted, TreeNode};
use crate::intensity::{Limit, Window};
use crate::time::Timestamp;

/// One child.
#[derive(Debug)]
pub(super) struct Ward {
    /// Unique over the life of the supervisor, also among children that were removed and added again.
    pub(super) id: u64,
    pub(super) spec: ChildSpec,
    pub(super) phase: Phase,
    pub(super) goal: Goal,
    /// The names from the root down to it.
    pub(super) path: Arc<str>,
    pub(super) incarnation: u64,
    /// Orders to the attendant of the running incarnation. Dropping it is an order to kill.
    pub(super) orders: Option<mpsc::Sender<Order>>,
    /// What the incarnation shows; a new one for each.
    pub(super) board: Option<Arc<Board>>,
    pub(super) tried: bool,
    /// Whether its slot has been told that it ended.
    pub(super) settled: bool,
    pub(super) unresponsive: bool,
    /// Incarnations that were abandoned and still occupy their thread.
    pub(super) abandoned: u32,
    pub(super) parked: bool,
    /// Whether its latest exits were all outages, the first of which has been logged.
    pub(super) in_outage: bool,
    /// Exits in a row since it was last stable: what backoff grows with.
    pub(super) streak: u32,
    /// Tries in a row since it was parked.
    pub(super) park_streak: u32,
    pub(super) crashes: Window,
    pub(super) restarts_total: u64,
    pub(super) last_exit: Option<LastExit>,
    pub(super) up_since: Option<Timestamp>,
    /// Whoever waits for it to have ended.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
    /// Whether it is forgotten once it has ended.
    pub(super) remove: bool,
}

impl Ward {
    /// The most who can wait for its end at once.
    const MAX_WAITERS: usize = 64;

    pub(super) fn new(id: u64, parent: &str, spec: ChildSpec, now: Duration) -> Self {
        Self {
            id,
            path: format!("{parent}/{}", spec.name()).into(),
            spec,
            phase: Phase::Idle { not_before: now },
            goal: Goal::Run,
            incarnation: 0,
            orders: None,
            board: None,
            tried: false,
            settled: false,
            unresponsive: false,
            abandoned: 0,
            parked: false,
            in_outage: false,
            streak: 0,
            park_streak: 0,
            crashes: Window::default(),
            restarts_total: 0,
            last_exit: None,
            up_since: None,
            waiters: Vec::new(),
            remove: false,
        }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            phase: self.phase,
            goal: self.goal,
            restart: self.spec.restart,
            tried: self.tried,
            parks: self.own_limit().is_some(),
            parked: self.parked,
        }
    }

    /// Returns the limit of a child that is counted alone.
    pub(super) fn own_limit(&self) -> Option<Limit> {
        match self.spec.on_exhausted {
            OnExhausted::Park { limit, .. } => Some(limit),
            OnExhausted::Escalate => None,
        }
    }

    /// Takes note of an exit that leads to a restart.
    pub(super) fn note_restart(&mut self, reason: &ExitReason, now: Duration, limit: Limit) {
        self.streak = self.streak.saturating_add(1);
        self.restarts_total += 1;
        if reason.counts_as_crash() {
            self.crashes.record(now, limit);
        }
    }

    /// Forgets what went wrong, since it has been up long enough. Returns whether anybody was told of trouble.
    pub(super) fn note_stable(&mut self) -> bool {
        self.streak = 0;
        self.park_streak = 0;
        self.crashes.reset();
        let recovered = self.parked || self.in_outage;
        self.parked = false;
        self.in_outage = false;
        recovered
    }

    /// Turns to `goal`. What is not running turns at once.
    pub(super) fn aim(&mut self, goal: Goal) {
        if self.facts().is_active() {
            self.goal = goal;
            return;
        }
        match goal {
            Goal::Run => {}
            Goal::Recycle { not_before } => {
                if let Phase::Idle { not_before: own } = self.phase {
                    self.phase = Phase::Idle {
                        not_before: own.max(not_before),
                    };
                }
            }
            Goal::End => self.phase = Phase::Ended,
        }
    }

    /// Restarts because somebody asked for it: nothing is counted, no backoff waited for.
    pub(super) fn restart_by_order(&mut self, now: Duration) {
        self.remove = false;
        self.goal = match self.phase {
            Phase::Idle { .. } | Phase::Ended => {
                self.phase = Phase::Idle { not_before: now };
                Goal::Run
            }
            Phase::Starting | Phase::Up | Phase::Stopping => Goal::Recycle { not_before: now },
        };
    }

    /// Tells `waiter` when it has ended. Those who have left make room; beyond the bound the oldest is told early.
    pub(super) fn wait_for_end(&mut self, waiter: oneshot::Sender<()>) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        if self.waiters.len() >= Self::MAX_WAITERS {
            drop(self.waiters.remove(0));
        }
        self.waiters.push(waiter);
    }

    pub(super) fn release_waiters(&mut self) {
        for waiter in self.waiters.drain(..) {
            // One that has left does not mind.
            let _unheard = waiter.send(());
        }
    }

    pub(super) fn entry(&self, limit: Limit) -> Entry {
        let node = TreeNode {
            name: self.spec.name().to_owned(),
            kind: self.spec.incubator.kind().to_owned(),
            state: self.state(),
            incarnation: self.incarnation,
            restarts_in_window: 0,
            restarts_total: self.restarts_total,
            last_exit: self.last_exit.clone(),
            up_since: self.up_since,
            backlog: 0,
            abandoned: self.abandoned,
            stale: false,
            strategy: None,
            children: Vec::new(),
        };
        Entry {
            node,
            window: self.crashes.clone(),
            within: self.own_limit().unwrap_or(limit).within,
            incubator: Arc::clone(&self.spec.incubator),
            board: self.board.clone(),
        }
    }

    fn state(&self) -> ChildState {
        match self.phase {
            Phase::Idle { .. } if self.parked => ChildState::Parked,
            Phase::Idle { .. } if self.tried => ChildState::Restarting,
            Phase::Idle { .. } => ChildState::Waiting,
            Phase::Starting => ChildState::Starting,
            Phase::Up if self.unresponsive => ChildState::Unresponsive,
            Phase::Up => ChildState::Up,
            Phase::Stopping => ChildState::Stopping,
            Phase::Ended => ChildState::Ended,
        }
    }
}
