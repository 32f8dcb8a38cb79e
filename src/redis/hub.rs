//! The hub: the one connection of the process that listens to channels. Results and revocations come over it.
//!
//! A channel's message says that something is there to be read, never what: whoever waits reads after subscribing and
//! after each message, so a message that was lost costs time and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::ids::QueueName;
use futures_util::StreamExt;
use redis::aio::PubSub;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::board::Board;
use super::keys::Keys;
use super::link::{Links, Slot};
use super::node::Node;

/// How long subscribing may take.
const ANSWER: Duration = Duration::from_secs(2);
/// The most channels one command subscribes to.
const BATCH: usize = 500;
/// How often it looks whether its broker is gone, and shows the server that it lives.
const BEAT: Duration = Duration::from_secs(15);
/// How often it looks whether it is at a server that others have left.
const LOOK: Duration = Duration::from_secs(1);
/// Every server of a cluster passes on what is published at any of them: it listens at that of the first slot.
const ANY: Slot = Slot(0);

/// What the process listens to.
#[derive(Debug, Default)]
pub(super) struct Channels {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Who waits on a channel.
    ears: HashMap<String, HashMap<u64, Arc<Notify>>>,
    /// Queues whose revocations are listened for, by their channel.
    news: HashMap<String, QueueName>,
    /// Channels the server was told of and confirmed.
    subscribed: HashSet<String>,
    /// Channels of which something may have changed since the server was told last.
    touched: HashSet<String>,
    /// Who waits for their channels to be confirmed.
    pending: HashMap<u64, Pending>,
    /// For which of them a channel counts, until it is confirmed.
    awaited: HashMap<String, Vec<u64>>,
}

/// Somebody who waits for channels to be confirmed.
#[derive(Debug)]
struct Pending {
    channels: Vec<String>,
    missing: usize,
    confirm: oneshot::Sender<()>,
}

impl State {
    fn is_wanted(&self, channel: &str) -> bool {
        self.ears.contains_key(channel) || self.news.contains_key(channel)
    }

    /// Begins to wait for the channels of `pending` that are not confirmed; none left, that is told at once.
    fn await_all(&mut self, id: u64, mut pending: Pending) {
        pending.missing = 0;
        for channel in &pending.channels {
            if !self.subscribed.contains(channel) {
                self.awaited.entry(channel.clone()).or_default().push(id);
                pending.missing += 1;
            }
        }
        if pending.missing > 0 {
            self.pending.insert(id, pending);
        } else {
            // Who gave up needs no answer.
            let _told = pending.confirm.send(());
        }
    }
}

impl Channels {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens for a queue's revocations from now on.
    pub(super) fn hear_news(&self, keys: &Keys, queues: &[QueueName]) {
        let mut state = self.lock();
        let mut changed = false;
        for queue in queues {
            let channel = keys.of(queue, "news");
            if !state.news.contains_key(&channel) {
                state.touched.insert(channel.clone());
                state.news.insert(channel, queue.clone());
                changed = true;
            }
        }
        drop(state);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Subscribes to channels; completes when the server has confirmed them all.
    pub(super) async fn listen(self: &Arc<Self>, channels: Vec<String>) -> Ear {
        let (confirm, confirmed) = oneshot::channel();
        let notify = Arc::new(Notify::new());
        let ear = {
            let mut state = self.lock();
            state.next += 1;
            let id = state.next;
            for channel in &channels {
                let ears = state.ears.entry(channel.clone()).or_default();
                ears.insert(id, Arc::clone(&notify));
                state.touched.insert(channel.clone());
            }
            let pending = Pending {
                channels: channels.clone(),
                missing: 0,
                confirm,
            };
            state.await_all(id, pending);
            Ear {
                hub: Arc::clone(self),
                id,
                channels,
                notify,
            }
        };
        self.changed.notify_one();
        // Unconfirmed, one reads more seldom and misses nothing.
        if timeout(ANSWER, confirmed).await.is_err() {
            self.lock().pending.remove(&ear.id);
        }
        ear
    }

    fn heard(&self, channel: &str, board: &Board) {
        let state = self.lock();
        if let Some(ears) = state.ears.get(channel) {
            for notify in ears.values() {
                notify.notify_one();
            }
        }
        if let Some(queue) = state.news.get(channel).cloned() {
            drop(state);
            board.revoked(&queue);
        }
    }

    /// Returns what is to be subscribed to, and what no more: that counts as left from now on.
    ///
    /// Looks only at what changed since the last time.
    fn changes(&self) -> (Vec<String>, Vec<String>) {
        let mut state = self.lock();
        let (mut new, mut old) = (Vec::new(), Vec::new());
        for channel in std::mem::take(&mut state.touched) {
            if !state.is_wanted(&channel) {
                if state.subscribed.remove(&channel) {
                    old.push(channel);
                }
            } else if !state.subscribed.contains(&channel) {
                new.push(channel);
            }
        }
        (new, old)
    }

    /// Notes what the server confirmed, and tells whoever waits for it. What was said before was not heard: whoever listens
    /// for revocations reads them now.
    fn confirmed(&self, new: &[String], board: &Board) {
        let mut state = self.lock();
        for channel in new {
            if let Some(queue) = state.news.get(channel) {
                board.revoked(queue);
            }
            state.subscribed.insert(channel.clone());
            if !state.is_wanted(channel) {
                // Left meanwhile.
                state.touched.insert(channel.clone());
            }
            for id in state.awaited.remove(channel).unwrap_or_default() {
                let Some(pending) = state.pending.get_mut(&id) else {
                    continue;
                };
                pending.missing -= 1;
                if pending.missing == 0
                    && let Some(pending) = state.pending.remove(&id)
                {
                    // Who gave up needs no answer.
                    let _told = pending.confirm.send(());
                }
            }
        }
    }

    /// Forgets what a connection that broke was subscribed to; everybody reads again.
    fn broke(&self, board: &Board) {
        let mut state = self.lock();
        state.subscribed.clear();
        state.awaited.clear();
        let wanted = state.ears.keys().chain(state.news.keys());
        state.touched = wanted.cloned().collect();
        for (id, pending) in std::mem::take(&mut state.pending) {
            state.await_all(id, pending);
        }
        for notify in state.ears.values().flat_map(HashMap::values) {
            notify.notify_one();
        }
        let queues: Vec<_> = state.news.values().cloned().collect();
        drop(state);
        for queue in queues {
            board.revoked(&queue);
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.lock();
        state.ears.is_empty() && state.news.is_empty()
    }
}

/// Somebody who listens to channels. Dropped, it listens no more.
#[derive(Debug)]
pub(super) struct Ear {
    hub: Arc<Channels>,
    id: u64,
    channels: Vec<String>,
    notify: Arc<Notify>,
}

impl Ear {
    /// Completes at the next message.
    pub(super) async fn rung(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.pending.remove(&self.id);
        for channel in &self.channels {
            if let Some(ears) = state.ears.get_mut(channel) {
                ears.remove(&self.id);
                if ears.is_empty() {
                    state.ears.remove(channel);
                    state.awaited.remove(channel);
                    state.touched.insert(channel.clone());
                }
            }
        }
        drop(state);
        self.hub.changed.notify_one();
    }
}

/// Keeps the connection.
pub(super) struct Hub {
    pub(super) channels: Arc<Channels>,
    pub(super) board: Weak<Board>,
    pub(super) links: Arc<Links>,
}

impl Hub {
    /// Listens until the board is gone.
    pub(super) async fn run(self) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0;
        while self.board.strong_count() > 0 {
            if self.channels.is_idle() {
                drop(timeout(BEAT, self.channels.changed.notified()).await);
                continue;
            }
            if let Ok((connection, node)) = self.links.listener(ANY).await
                && self.listen(connection, &node).await
            {
                failures = 0;
            }
            if let Some(board) = self.board.upgrade() {
                self.channels.broke(&board);
            }
            failures += 1;
            let delay = backoff.delay(failures, &mut rand::rng());
            sleep(delay).await;
        }
    }

    /// Listens until the connection breaks or leads to the wrong server. Returns whether it ever worked.
    async fn listen(&self, connection: PubSub, node: &Node) -> bool {
        let (mut sink, mut stream) = connection.split();
        let mut worked = false;
        let mut beat = Instant::now() + BEAT;
        loop {
            if self.links.has_left(ANY, node) {
                return worked;
            }
            let (new, old) = self.channels.changes();
            for some in old.chunks(BATCH) {
                if !matches!(timeout(ANSWER, sink.unsubscribe(some)).await, Ok(Ok(()))) {
                    return worked;
                }
            }
            let Some(board) = self.board.upgrade() else {
                return worked;
            };
            for some in new.chunks(BATCH) {
                match timeout(ANSWER, sink.subscribe(some)).await {
                    Ok(Ok(())) => self.channels.confirmed(some, &board),
                    _ => return worked,
                }
            }
            worked = true;
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.channels.heard(message.get_channel_name(), &board),
                    None => return worked,
                },
                () = self.channels.changed.notified() => {}
                () = sleep(LOOK) => {}
                () = sleep_until(beat) => {
                    beat = Instant::now() + BEAT;
                    if !matches!(timeout(ANSWER, sink.ping::<redis::Value>()).await, Ok(Ok(_))) {
                        return worked;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
