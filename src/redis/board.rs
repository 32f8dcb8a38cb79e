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
    /// Queues whose revocations changed while nobody waited.
    revoked: BTreeSet<QueueName>,
    /// How often listening failed so far, and why the last time.
    failures: u64,
    failure: Option<BrokerError>,
}

#[derive(Debug)]
struct Waiter {
    queues: BTreeSet<QueueName>,
    revoked: BTreeSet<QueueName>,
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
            revoked: std::mem::take(&mut state.revoked),
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

    /// Tells all who wait for a queue that its revocations changed. Where none does, all others are told: a process leaves
    /// a queue out that it has no room for, and has to hear of it all the same. Where nobody waits at all, it is kept for
    /// whoever comes next.
    pub(super) fn revoked(&self, queue: &QueueName) {
        self.lock().tell_revoked(queue);
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

impl State {
    fn tell_revoked(&mut self, queue: &QueueName) {
        let mut waiters = self.waiters.values();
        let is_waited_for = waiters.any(|waiter| waiter.queues.contains(queue));
        if self.waiters.is_empty() {
            self.revoked.insert(queue.clone());
        }
        for waiter in self.waiters.values_mut() {
            if waiter.queues.contains(queue) || !is_waited_for {
                waiter.revoked.insert(queue.clone());
                waiter.notify.notify_one();
            }
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
            let revoked = std::mem::take(&mut waiter.revoked);
            let mut wakes: Vec<_> = revoked.into_iter().map(Wake::Revoked).collect();
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
        let untold = state.waiters.remove(&self.id).map(|waiter| waiter.revoked);
        for queue in untold.unwrap_or_default() {
            state.tell_revoked(&queue);
        }
        if !state.tokens.is_empty() {
            // They may have been meant for this one.
            for waiter in state.waiters.values() {
                waiter.notify.notify_one();
            }
            self.board.abandoned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    /// Returns what has come for one who waits.
    fn heard(waiting: &Waiting) -> Vec<Wake> {
        let next = waiting.next().now_or_never();
        next.map(Result::unwrap).unwrap_or_default()
    }

    /// Goal: no change of revocations passes by a process that waits again and again: not between two waits, not with a wait
    /// that was given up, and not while the queue is left out for want of room.
    #[test]
    fn a_revocation_is_told_however_one_waits() {
        let board = Arc::new(Board::default());
        let (full, other) = (queue("full"), queue("other"));
        let told = vec![Wake::Revoked(full.clone())];
        board.revoked(&full);
        let waiting = board.wait(std::slice::from_ref(&other));
        assert_eq!(heard(&waiting), told, "told before the wait");
        assert_eq!(heard(&waiting), [], "told once");

        board.revoked(&full);
        drop(waiting);
        let waiting = board.wait(std::slice::from_ref(&other));
        assert_eq!(heard(&waiting), told, "the wait was given up");

        board.revoked(&full);
        assert_eq!(heard(&waiting), told, "left out");
        let of_full = board.wait(std::slice::from_ref(&full));
        board.revoked(&full);
        assert_eq!((heard(&of_full), heard(&waiting)), (told, Vec::new()));
    }
}
