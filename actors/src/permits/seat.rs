//! The part of one consumer in the permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Permits;
use crate::ids::QueueName;

/// The part of one consumer. Gives everything back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) permits: Permits,
    pub(super) queue: QueueName,
    pub(super) id: u64,
    pub(super) wake: Arc<Notify>,
    /// As it counts itself: what was reclaimed is among them.
    pub(super) held: usize,
    /// How many of them others took while its thread was blocked.
    pub(super) reclaimed: Arc<AtomicUsize>,
    pub(super) prefetched: usize,
    pub(super) standby: usize,
    pub(super) waiting: bool,
}

impl Seat {
    /// Takes up to `want` permits; returns how many it got. A seat that got none is woken when some came back.
    pub(crate) fn acquire(&mut self, want: usize) -> usize {
        if want == 0 {
            self.stop_waiting();
            return 0;
        }
        let mut shared = self.permits.lock();
        if shared.is_written_off(self.id) {
            return 0;
        }
        let granted = shared.grant(&self.queue, want);
        shared.free -= granted;
        let waits = granted == 0;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.held += granted;
        }
        if let Some(queue) = shared.queues.get_mut(&self.queue) {
            queue.active += granted;
            if waits {
                queue.waiting.insert(self.id, Arc::clone(&self.wake));
            } else if self.waiting {
                queue.waiting.remove(&self.id);
            }
        }
        if granted > 0 && shared.free > 0 {
            // Whoever is next may have been woken by the same return and found this one in its way.
            shared.wake_next();
        }
        drop(shared);
        self.waiting = waits;
        self.held += granted;
        granted
    }

    /// Gives `count` permits back.
    pub(crate) fn release(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut shared = self.permits.lock();
        // Only who has the lock takes some from it.
        let count = count.min(self.held());
        self.held -= count;
        if count == 0 || shared.is_written_off(self.id) {
            return;
        }
        shared.free += count;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.held -= count;
        }
        if let Some(queue) = shared.queues.get_mut(&self.queue) {
            queue.active -= count;
        }
        shared.wake_next();
        self.permits.tell_freed(&mut shared);
    }

    /// Takes up to `want` places for deliveries that wait for a permit; returns how many it got.
    pub(crate) fn reserve(&mut self, want: usize) -> usize {
        if want == 0 {
            return 0;
        }
        let mut shared = self.permits.lock();
        if shared.is_written_off(self.id) {
            return 0;
        }
        let granted = want.min(shared.max_prefetched.saturating_sub(shared.prefetched));
        shared.prefetched += granted;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.prefetched += granted;
        }
        self.prefetched += granted;
        granted
    }

    /// Gives `count` places back.
    pub(crate) fn unreserve(&mut self, count: usize) {
        let count = count.min(self.prefetched);
        if count == 0 {
            return;
        }
        self.prefetched -= count;
        let mut shared = self.permits.lock();
        if shared.is_written_off(self.id) {
            return;
        }
        shared.prefetched -= count;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.prefetched -= count;
        }
    }

    /// Takes a place for a delivery that waits for something else than a permit; returns whether there was one.
    pub(crate) fn stand_by(&mut self) -> bool {
        let mut shared = self.permits.lock();
        if shared.is_written_off(self.id) || shared.standby >= shared.max_prefetched {
            return false;
        }
        shared.standby += 1;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.standby += 1;
        }
        self.standby += 1;
        true
    }

    /// Gives such places back until `left` are left.
    pub(crate) fn stand_down(&mut self, left: usize) {
        let count = self.standby.saturating_sub(left);
        if count == 0 {
            return;
        }
        self.standby -= count;
        let mut shared = self.permits.lock();
        if shared.is_written_off(self.id) {
            return;
        }
        shared.standby -= count;
        if let Some(account) = shared.seats.get_mut(&self.id) {
            account.standby -= count;
        }
    }

    /// Returns how many permits it holds.
    pub(crate) fn held(&self) -> usize {
        let reclaimed = self.reclaimed.load(Ordering::Relaxed);
        self.held.saturating_sub(reclaimed)
    }

    /// Returns how many places for waiting deliveries it holds.
    pub(crate) fn reserved(&self) -> usize {
        self.prefetched
    }

    /// Returns whether another queue waits for a permit: then permits are given back rather than kept for the next task.
    pub(crate) fn is_contended(&self) -> bool {
        self.permits.lock().fair_share(&self.queue).is_some()
    }

    /// Completes when permits came back that this seat may try for.
    pub(crate) fn available(&self) -> Notified<'_> {
        self.wake.notified()
    }

    /// Says that it wants no permit now.
    pub(crate) fn stop_waiting(&mut self) {
        if self.waiting {
            self.waiting = false;
            let mut shared = self.permits.lock();
            if let Some(queue) = shared.queues.get_mut(&self.queue) {
                queue.waiting.remove(&self.id);
            }
            shared.wake_next();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stop_waiting();
        self.release(self.held);
        self.unreserve(self.prefetched);
        self.stand_down(0);
        self.permits.lock().seats.remove(&self.id);
    }
}
