//! Who waits for what in this process: wake tokens of queues, and results of tasks.
//!
//! A token says that a queue may have something. There is at most one of a kind per queue, taken by whoever waits
//! first; revocations reach everybody who waits. Tokens are hints: nothing is lost with one but time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::ports::Wake;
use tokio::sync::Notify;

/// The board of one process.
#[derive(Debug, Default)]
pub(super) struct Board {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tokens: BTreeMap<QueueName, Tokens>,
    dead: bool,
    next_waiter: u64,
    waiters: BTreeMap<u64, Waiter>,
    results: HashMap<TaskId, Vec<Arc<Notify>>>,
}

#[derive(Debug, Default)]
struct Tokens {
    ready: bool,
    due: bool,
    revoked: bool,
}

#[derive(Debug)]
struct Waiter {
    queues: BTreeSet<QueueName>,
    revoked: BTreeSet<QueueName>,
    bell: Arc<Notify>,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts tokens up and wakes those whom they concern.
    pub(super) fn ring(&self, wakes: impl IntoIterator<Item = Wake>) {
        let mut state = self.lock();
        for wake in wakes {
            state.ring(wake);
        }
    }

    /// Takes down the token that says that `queue` has ready tasks.
    pub(super) fn silence(&self, queue: &QueueName) {
        if let Some(tokens) = self.lock().tokens.get_mut(queue) {
            tokens.ready = false;
        }
    }

    /// Wakes those who wait for the result of one of `tasks`.
    pub(super) fn finished(&self, tasks: impl IntoIterator<Item = TaskId>) {
        let state = self.lock();
        for task in tasks {
            for bell in state.results.get(&task).into_iter().flatten() {
                bell.notify_one();
            }
        }
    }

    /// Wakes everybody who waits for any result.
    pub(super) fn finished_somewhere(&self) {
        for bell in self.lock().results.values().flatten() {
            bell.notify_one();
        }
    }

    /// Begins to wait for tokens of `queues`.
    pub(super) fn wait(&self, queues: &[QueueName]) -> Waiting<'_> {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        state.next_waiter += 1;
        let id = state.next_waiter;
        let waiter = Waiter {
            queues: queues.iter().cloned().collect(),
            revoked: BTreeSet::new(),
            bell: Arc::clone(&bell),
        };
        state.waiters.insert(id, waiter);
        Waiting {
            board: self,
            id,
            bell,
        }
    }

    /// Begins to wait for results of `tasks`.
    pub(super) fn wait_results(&self, tasks: &[TaskId]) -> WaitingResults<'_> {
        let bell = Arc::new(Notify::new());
        let mut state = self.lock();
        for task in tasks {
            let bells = state.results.entry(*task).or_default();
            bells.push(Arc::clone(&bell));
        }
        WaitingResults {
            board: self,
            tasks: tasks.to_vec(),
            bell,
        }
    }
}

impl State {
    fn ring(&mut self, wake: Wake) {
        match wake {
            Wake::Ready(queue) => {
                self.tokens.entry(queue.clone()).or_default().ready = true;
                self.wake_one(&queue);
            }
            Wake::Due(queue) => {
                self.tokens.entry(queue.clone()).or_default().due = true;
                self.wake_one(&queue);
            }
            Wake::Revoked(queue) => self.ring_revoked(queue),
            Wake::Dead => {
                self.dead = true;
                self.waiters.values().for_each(|w| w.bell.notify_one());
            }
        }
    }

    /// Every waiter of the queue looks; one finds the token.
    fn wake_one(&self, queue: &QueueName) {
        let concerned = self.waiters.values().filter(|w| w.queues.contains(queue));
        concerned.for_each(|waiter| waiter.bell.notify_one());
    }

    fn ring_revoked(&mut self, queue: QueueName) {
        let mut heard = false;
        for waiter in self.waiters.values_mut() {
            if waiter.queues.contains(&queue) {
                waiter.revoked.insert(queue.clone());
                waiter.bell.notify_one();
                heard = true;
            }
        }
        if !heard {
            self.tokens.entry(queue).or_default().revoked = true;
        }
    }

    fn collect(&mut self, id: u64) -> Vec<Wake> {
        let mut wakes = Vec::new();
        let Some(waiter) = self.waiters.get_mut(&id) else {
            return wakes;
        };
        for queue in &waiter.queues {
            let tokens = self.tokens.get_mut(queue).map(std::mem::take);
            let tokens = tokens.unwrap_or_default();
            if tokens.ready {
                wakes.push(Wake::Ready(queue.clone()));
            }
            if tokens.due {
                wakes.push(Wake::Due(queue.clone()));
            }
            if waiter.revoked.remove(queue) || tokens.revoked {
                wakes.push(Wake::Revoked(queue.clone()));
            }
        }
        if std::mem::take(&mut self.dead) {
            wakes.push(Wake::Dead);
        }
        wakes
    }
}

/// Somebody who waits for tokens; no longer when dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    board: &'a Board,
    id: u64,
    bell: Arc<Notify>,
}

impl Waiting<'_> {
    /// Takes what is there, or waits for it.
    pub(super) async fn next(&self) -> Vec<Wake> {
        loop {
            let found = self.board.lock().collect(self.id);
            if !found.is_empty() {
                return found;
            }
            self.bell.notified().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.board.lock().waiters.remove(&self.id);
    }
}

/// Somebody who waits for results; no longer when dropped.
#[derive(Debug)]
pub(super) struct WaitingResults<'a> {
    board: &'a Board,
    tasks: Vec<TaskId>,
    bell: Arc<Notify>,
}

impl WaitingResults<'_> {
    /// Waits until it is worth looking.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Drop for WaitingResults<'_> {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        for task in &self.tasks {
            if let Some(bells) = state.results.get_mut(task) {
                bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
                if bells.is_empty() {
                    state.results.remove(task);
                }
            }
        }
    }
}
