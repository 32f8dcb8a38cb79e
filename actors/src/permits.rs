//! Permits: how many attempts run at once in the process, shared fairly by the consumers of all queues.
//!
//! Each consumer has a *seat*. A permit is one running attempt. While no other queue waits, a queue may take what is
//! free; as soon as one waits, each queue gets its weighted share, and permits that come back go first to the queue
//! that has the fewest for its weight, so that no queue starves. A queue's own cap always holds. One grant is at most
//! half of what is free (at least one), so that the consumers of one queue on several lanes share the work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ids::QueueName;

mod seat;
#[cfg(test)]
mod tests;

pub(crate) use seat::Seat;

/// How a queue takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueShare {
    /// Its share against the others', 1 to 100. Default 1.
    pub weight: u32,
    /// The most attempts of it at once; `None` is as many as the process has.
    pub cap: Option<usize>,
}

impl Default for QueueShare {
    fn default() -> Self {
        Self {
            weight: 1,
            cap: None,
        }
    }
}

/// The permits of a process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Permits {
    shared: Arc<Mutex<Shared>>,
    /// Rung when permits came back after a queue was found to have no room.
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    total: usize,
    free: usize,
    max_prefetched: usize,
    prefetched: usize,
    /// Deliveries that wait for something else than a permit; as many as may be prefetched.
    standby: usize,
    queues: HashMap<QueueName, Queue>,
    seats: HashMap<u64, Account>,
    next_seat: u64,
    /// Somebody wants to know when permits come back.
    watched: bool,
}

/// What one seat has. It stays while the seat's thread is blocked, so that others can dispose of it.
#[derive(Debug)]
struct Account {
    queue: QueueName,
    group: u64,
    held: usize,
    /// How many permits others took from it, ever: it has so many fewer than it counts itself.
    reclaimed: Arc<AtomicUsize>,
    prefetched: usize,
    standby: usize,
    /// What it had was given to others.
    written_off: bool,
}

#[derive(Debug)]
struct Queue {
    share: QueueShare,
    active: usize,
    /// Seats that want a permit and got none, with what wakes them.
    waiting: HashMap<u64, Arc<Notify>>,
}

impl Permits {
    /// Creates `total` permits (0 counts as 1) and room for `max_prefetched` deliveries that wait for one.
    #[must_use]
    pub fn new(total: usize, max_prefetched: usize, shares: &[(QueueName, QueueShare)]) -> Self {
        let total = total.max(1);
        let queues = shares
            .iter()
            .map(|(name, share)| (name.clone(), Queue::new(*share)))
            .collect();
        let shared = Shared {
            total,
            free: total,
            max_prefetched,
            prefetched: 0,
            standby: 0,
            queues,
            seats: HashMap::new(),
            next_seat: 0,
            watched: false,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            freed: Arc::default(),
        }
    }

    /// Returns how many permits there are and how many are free.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        let shared = self.lock();
        (shared.total, shared.free)
    }

    /// Returns whether another task of a queue could start here: a permit is free, or the queue has less than its share
    /// and the others will make room.
    pub(crate) fn has_room(&self, name: &QueueName) -> bool {
        let mut shared = self.lock();
        let room = shared.queues.get(name).is_none_or(|queue| {
            let claim = shared.free > 0 || queue.active < shared.share(queue);
            claim && queue.active < queue.cap(shared.total)
        });
        shared.watched |= !room;
        room
    }

    /// Completes when permits came back since a queue was found to have no room.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn tell_freed(&self, shared: &mut Shared) {
        if std::mem::take(&mut shared.watched) {
            self.freed.notify_one();
        }
    }

    /// Makes a seat for a consumer of `queue` on the thread `group`.
    pub(crate) fn seat(&self, queue: &QueueName, group: u64) -> Seat {
        let mut shared = self.lock();
        shared.next_seat += 1;
        let id = shared.next_seat;
        shared
            .queues
            .entry(queue.clone())
            .or_insert_with(|| Queue::new(QueueShare::default()));
        let reclaimed = Arc::<AtomicUsize>::default();
        let account = Account {
            queue: queue.clone(),
            group,
            held: 0,
            reclaimed: Arc::clone(&reclaimed),
            prefetched: 0,
            standby: 0,
            written_off: false,
        };
        shared.seats.insert(id, account);
        drop(shared);
        Seat {
            permits: self.clone(),
            queue: queue.clone(),
            id,
            wake: Arc::new(Notify::new()),
            held: 0,
            reclaimed,
            prefetched: 0,
            standby: 0,
            waiting: false,
        }
    }

    /// Has nobody wait for the seats of a thread that is blocked: they try again when it is not.
    pub(crate) fn step_aside(&self, group: u64) {
        let mut shared = self.lock();
        let Shared { queues, seats, .. } = &mut *shared;
        for (id, account) in seats.iter().filter(|(_, account)| account.group == group) {
            let queue = queues.get_mut(&account.queue);
            if let Some(wake) = queue.and_then(|queue| queue.waiting.remove(id)) {
                wake.notify_one();
            }
        }
        shared.wake_next();
    }

    /// Gives to others what the seats of a blocked thread have beyond the attempts that run there, `running` of a queue: it
    /// took them for tasks that it cannot start, and cannot give them back itself.
    pub(crate) fn reclaim(&self, group: u64, running: impl Fn(&QueueName) -> usize) {
        let mut shared = self.lock();
        let Shared {
            queues,
            seats,
            free,
            ..
        } = &mut *shared;
        let of_group = |account: &&mut Account| account.group == group && !account.written_off;
        let mut any = false;
        for account in seats.values_mut().filter(of_group) {
            let idle = account.held.saturating_sub(running(&account.queue));
            any |= idle > 0;
            account.held -= idle;
            account.reclaimed.fetch_add(idle, Ordering::Relaxed);
            *free += idle;
            if let Some(queue) = queues.get_mut(&account.queue) {
                queue.active -= idle;
            }
        }
        if any {
            shared.wake_next();
            self.tell_freed(&mut shared);
        }
    }

    /// Gives what the seats of a thread have to others: the thread was given up on and starts nothing any more.
    pub(crate) fn write_off(&self, group: u64) {
        let mut shared = self.lock();
        let Shared {
            queues,
            seats,
            free,
            prefetched,
            standby,
            ..
        } = &mut *shared;
        let of_group = |account: &&mut Account| account.group == group && !account.written_off;
        let mut any = false;
        for account in seats.values_mut().filter(of_group) {
            account.written_off = true;
            any = true;
            *free += account.held;
            *prefetched -= account.prefetched;
            *standby -= account.standby;
            if let Some(queue) = queues.get_mut(&account.queue) {
                queue.active -= account.held;
            }
        }
        if any {
            shared.wake_next();
            self.tell_freed(&mut shared);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Counts are changed whole before anything can panic.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn new(share: QueueShare) -> Self {
        let share = QueueShare {
            weight: share.weight.max(1),
            ..share
        };
        Self {
            share,
            active: 0,
            waiting: HashMap::new(),
        }
    }

    fn cap(&self, total: usize) -> usize {
        self.share.cap.unwrap_or(total).min(total)
    }

    /// Orders queues by who has the fewest permits for its weight.
    fn is_behind(&self, other: &Self) -> bool {
        self.active * other.share.weight as usize <= other.active * self.share.weight as usize
    }
}

impl Shared {
    fn is_written_off(&self, seat: u64) -> bool {
        self.seats
            .get(&seat)
            .is_none_or(|account| account.written_off)
    }

    /// Returns how many permits a queue that wants `want` gets now.
    fn grant(&self, name: &QueueName, want: usize) -> usize {
        let Some(queue) = self.queues.get(name) else {
            return 0;
        };
        let room = queue.cap(self.total).saturating_sub(queue.active);
        let spread = self.free.div_ceil(2);
        let granted = want.min(room).min(spread);
        match self.fair_share(name) {
            Some(share) if share > queue.active => granted.min(share - queue.active),
            // Shares are rounded down, and some want less than theirs: what is left goes to whoever is furthest behind.
            Some(_) if self.is_furthest_behind(name, queue) => granted.min(1),
            Some(_) => 0,
            None => granted,
        }
    }

    fn is_furthest_behind(&self, name: &QueueName, queue: &Queue) -> bool {
        let mut waiting = self.queues.iter().filter(|(other, queue)| {
            *other != name && !queue.waiting.is_empty() && queue.active < queue.cap(self.total)
        });
        waiting.all(|(_, other)| queue.is_behind(other) && other.active >= self.share(other))
    }

    /// Returns the weighted share of a queue while another one waits; `None` while none does.
    fn fair_share(&self, name: &QueueName) -> Option<usize> {
        let contended = self.queues.iter().any(|(other, queue)| {
            other != name && !queue.waiting.is_empty() && queue.active < queue.cap(self.total)
        });
        if !contended {
            return None;
        }
        Some(self.share(self.queues.get(name)?))
    }

    /// Returns the weighted share of a queue among those that take part now.
    fn share(&self, own: &Queue) -> usize {
        let takes_part = |queue: &&Queue| queue.active > 0 || !queue.waiting.is_empty();
        let mut weights: u64 = self
            .queues
            .values()
            .filter(takes_part)
            .map(|q| u64::from(q.share.weight))
            .sum();
        if !takes_part(&own) {
            weights += u64::from(own.share.weight);
        }
        let share = self.total as u64 * u64::from(own.share.weight) / weights.max(1);
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// Wakes seats of the waiting queue that is furthest behind; each tries for itself.
    fn wake_next(&mut self) {
        let total = self.total;
        let waiting = self
            .queues
            .values()
            .filter(|queue| !queue.waiting.is_empty() && queue.active < queue.cap(total));
        let next = waiting.reduce(|best, queue| if queue.is_behind(best) { queue } else { best });
        if let Some(queue) = next {
            queue.waiting.values().for_each(|wake| wake.notify_one());
        }
    }
}
