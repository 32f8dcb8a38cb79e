//! The board: where tokens arrive, and where those who wait for them find them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{BrokerError, Wake};
use tokio::sync::Notify;

/// Where tokens arrive and are waited for.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
    /// Rung when somebody begins to wait for a queue.
    pub(super) wanted: Notify,
    /// Rung when a token may lie here for nobody.
    pub(super) abandoned: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    /// The queues that are listened for.
    heard: BTreeSet<QueueName>,
    /// Tokens nobody has taken yet.
    tokens: Vec<Wake>,
    /// How often listening failed so far, and why the last time.
    failures: u64,
    failure: Option<BrokerError>,
}

#[derive(Debug)]
struct Waiter {
    queues: BTreeSet<QueueName>,
    revoked: Vec<QueueName>,
    notify: Arc<Notify>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for queues; tokens come from now on.
    pub(super) fn wait(self: &Arc<Self>, queues: &[QueueName]) -> Waiting {
        let notify = Arc::new(Notify::new());
        let mut state = self.lock();
        state.next += 1;
        let id = state.next;
        let waiter = Waiter {
            queues: queues.iter().cloned().collect(),
            revoked: Vec::new(),
            notify: Arc::clone(&notify),
        };
        let is_heard = waiter.queues.is_subset(&state.heard);
        state.waiters.insert(id, waiter);
        let failures = state.failures;
        drop(state);
        if !is_heard {
            self.wanted.notify_one();
        }
        Waiting {
            board: Arc::clone(self),
            id,
            notify,
            failures,
        }
    }

    /// Returns the queues somebody waits for: they count as listened for from now on.
    pub(super) fn wanted(&self) -> BTreeSet<QueueName> {
        let mut state = self.lock();
        let waiters = state.waiters.values();
        let queues = waiters.flat_map(|waiter| waiter.queues.iter());
        let queues: BTreeSet<_> = queues.cloned().collect();
        state.heard.clone_from(&queues);
        queues
    }

    /// Puts a token up for whoever waits for it.
    pub(super) fn post(&self, wake: Wake) {
        let mut state = self.lock();
        match state.waiters.values().find(|waiter| waiter.hears(&wake)) {
            Some(waiter) => waiter.notify.notify_one(),
            None => self.abandoned.notify_one(),
        }
        if !state.tokens.contains(&wake) {
            state.tokens.push(wake);
        }
    }

    /// Takes back the tokens of ready tasks that nobody waits for.
    pub(super) fn withdraw(&self) -> Vec<QueueName> {
        let mut state = self.lock();
        let State {
            waiters, tokens, ..
        } = &mut *state;
        let mut withdrawn = Vec::new();
        tokens.retain(|token| {
            if let Wake::Ready(queue) = token
                && !waiters.values().any(|waiter| waiter.hears(token))
            {
                withdrawn.push(queue.clone());
                return false;
            }
            true
        });
        withdrawn
    }

    /// Leaves out of what a line listens for the queues that nobody waits for.
    pub(super) fn forget_the_unwanted(&self, line: &mut BTreeSet<QueueName>) {
        let mut state = self.lock();
        let State { waiters, heard, .. } = &mut *state;
        line.retain(|queue| {
            let wanted = waiters.values().any(|waiter| waiter.queues.contains(queue));
            if !wanted {
                heard.remove(queue);
            }
            wanted
        });
    }

    /// Tells all who wait for a queue that its revocations changed.
    pub(super) fn revoked(&self, queue: &QueueName) {
        let mut state = self.lock();
        for waiter in state.waiters.values_mut() {
            if waiter.queues.contains(queue) && !waiter.revoked.contains(queue) {
                waiter.revoked.push(queue.clone());
                waiter.notify.notify_one();
            }
        }
    }

    /// Tells all who wait that nobody listens for them.
    pub(super) fn fail(&self, error: &BrokerError) {
        let mut state = self.lock();
        state.failures += 1;
        state.failure = Some(error.clone());
        for waiter in state.waiters.values() {
            waiter.notify.notify_one();
        }
    }
}

impl Waiter {
    fn hears(&self, wake: &Wake) -> bool {
        match wake {
            Wake::Ready(queue) | Wake::Due(queue) | Wake::Revoked(queue) => {
                self.queues.contains(queue)
            }
            Wake::Dead => true,
        }
    }
}

/// Somebody who waits. Dropped, it waits no more.
#[derive(Debug)]
pub(super) struct Waiting {
    board: Arc<Board>,
    id: u64,
    notify: Arc<Notify>,
    failures: u64,
}

impl Waiting {
    /// Waits for tokens.
    pub(super) async fn next(&self) -> Result<Vec<Wake>, BrokerError> {
        loop {
            if let Some(answer) = self.take() {
                return answer;
            }
            self.notify.notified().await;
        }
    }

    fn take(&self) -> Option<Result<Vec<Wake>, BrokerError>> {
        let mut state = self.board.lock();
        let State {
            waiters, tokens, ..
        } = &mut *state;
        if let Some(waiter) = waiters.get_mut(&self.id) {
            let mut wakes: Vec<_> = waiter.revoked.drain(..).map(Wake::Revoked).collect();
            wakes.extend(tokens.extract_if(.., |token| waiter.hears(token)));
            if !wakes.is_empty() {
                return Some(Ok(wakes));
            }
        }
        let failed = state.failures != self.failures;
        state.failure.clone().filter(|_| failed).map(Err)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        state.waiters.remove(&self.id);
        if !state.tokens.is_empty() {
            // They may have been meant for this one.
            for waiter in state.waiters.values() {
                waiter.notify.notify_one();
            }
            self.board.abandoned.notify_one();
        }
    }
}
