//! Lanes: one arbiter (thread) each, on which consumers share their thread with the task actors they feed.
//!
//! A lane's thread can be blocked by a task that never yields, and then nothing on it answers. So what others must know
//! of it stands on a [`Board`] that any thread can read: which attempt is being polled, and what its consumers hold.
//! A blocked thread is never joined and never waited for; the lane gets a fresh one and the old one is *retired*.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_rt::{Arbiter, ArbiterHandle};

use crate::context::AttemptContext;
use crate::ids::QueueName;
use crate::table::AttemptTable;

/// How many threads an arbiter's own blocking pool may have; user code has [`BlockingPool`](crate::blocking::BlockingPool).
const ARBITER_BLOCKING_THREADS: usize = 2;

/// No ping is on its way.
const ANSWERED: u64 = u64::MAX;

/// Numbers the threads of all lanes.
static NEXT_GROUP: AtomicU64 = AtomicU64::new(1);

/// What is known of one thread of one lane.
#[derive(Debug)]
pub(crate) struct LaneGauge {
    pub(crate) lane: u16,
    /// 1 for the lane's first thread, one more for each replacement.
    pub(crate) generation: u64,
    pub(crate) arbiter: ArbiterHandle,
    /// The key of the attempt that is being polled; 0 for none.
    polling: AtomicU64,
    /// A replacement has taken over.
    retired: AtomicBool,
    /// The watchdog finds that it does not answer.
    blocked: AtomicBool,
    /// Tells this thread from all others of the process.
    pub(crate) group: u64,
    /// When the ping was sent that it has not answered, in milliseconds since boot; [`ANSWERED`] when there is none.
    pinged_ms: AtomicU64,
    /// The key of the attempt that had the thread when it was given up on; 0 for none.
    accused: AtomicU64,
    tables: Mutex<Vec<Arc<AttemptTable>>>,
    /// Lives as long as the thread's loop does.
    alive: std::sync::Weak<()>,
}

impl LaneGauge {
    /// Returns whether the thread's loop has ended, so that nothing on it will ever answer.
    pub(crate) fn has_ended(&self) -> bool {
        self.alive.strong_count() == 0
    }

    /// Notes which attempt is being polled.
    pub(crate) fn enter(&self, key: u64) {
        self.polling.store(key, Ordering::Relaxed);
    }

    /// Notes that no attempt is being polled.
    pub(crate) fn leave(&self) {
        self.polling.store(0, Ordering::Relaxed);
    }

    pub(crate) fn add_table(&self, table: Arc<AttemptTable>) {
        lock(&self.tables).push(table);
    }

    pub(crate) fn tables(&self) -> Vec<Arc<AttemptTable>> {
        lock(&self.tables).clone()
    }

    pub(crate) fn remove_table(&self, table: &Arc<AttemptTable>) {
        lock(&self.tables).retain(|other| !Arc::ptr_eq(other, table));
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Notes whether it answers; returns whether that changed.
    pub(crate) fn set_blocked(&self, blocked: bool) -> bool {
        self.blocked.swap(blocked, Ordering::AcqRel) != blocked
    }

    /// Sends a ping, unless one is on its way.
    pub(crate) fn ping(self: &Arc<Self>, since_boot: Duration) {
        let now = crate::time::millis(since_boot);
        let sent =
            self.pinged_ms
                .compare_exchange(ANSWERED, now, Ordering::AcqRel, Ordering::Acquire);
        if sent.is_ok() {
            let pinged = Arc::clone(self);
            // Not accepted when the thread has ended, which is seen otherwise.
            let _accepted = self
                .arbiter
                .spawn_fn(move || pinged.pinged_ms.store(ANSWERED, Ordering::Release));
        }
    }

    /// Returns how long a ping has been waiting for its answer.
    pub(crate) fn silent_for(&self, since_boot: Duration) -> Duration {
        match self.pinged_ms.load(Ordering::Acquire) {
            ANSWERED => Duration::ZERO,
            pinged => since_boot.saturating_sub(Duration::from_millis(pinged)),
        }
    }

    /// Blames the attempt that has the thread now for that the thread is given up on. The first one stays.
    pub(crate) fn accuse(&self) {
        if self.accused.load(Ordering::Acquire) == 0
            && let Some(culprit) = self.culprit()
        {
            self.accused.store(culprit.key(), Ordering::Release);
        }
    }

    pub(crate) fn is_accused(&self, context: &AttemptContext) -> bool {
        self.accused.load(Ordering::Acquire) == context.key()
    }

    /// Returns the attempt whose code is on the thread, where that can be told: the one being polled, else the oldest
    /// that waits in the mailbox of a task actor.
    pub(crate) fn culprit(&self) -> Option<AttemptContext> {
        let running = self.tables().into_iter().flat_map(|table| table.running());
        let running: Vec<AttemptContext> = running.map(|(_, context)| context).collect();
        let polled = self.polling.load(Ordering::Relaxed);
        let by_key = running
            .iter()
            .find(|context| polled != 0 && context.key() == polled);
        let in_hand = || {
            running
                .iter()
                .filter(|c| c.is_in_mailbox())
                .min_by_key(|c| c.key())
        };
        by_key.or_else(in_hand).cloned()
    }
}

/// All threads of all lanes that still matter.
#[derive(Clone, Debug, Default)]
pub struct Board {
    gauges: Arc<Mutex<Vec<Arc<LaneGauge>>>>,
}

impl Board {
    pub(crate) fn gauges(&self) -> Vec<Arc<LaneGauge>> {
        lock(&self.gauges).clone()
    }

    /// Returns the attempts of a queue on threads that do not answer.
    pub(crate) fn running_blocked(&self, queue: &QueueName) -> Vec<AttemptContext> {
        let blocked = self.gauges().into_iter().filter(|gauge| gauge.is_blocked());
        let tables = blocked.flat_map(|gauge| gauge.tables());
        let running = tables.filter(|table| table.queue == *queue);
        let running = running.flat_map(|table| table.running());
        running.map(|(_, context)| context).collect()
    }

    /// Returns whether attempts run on threads that have been replaced, but for what consumers there have left.
    pub(crate) fn is_busy_behind(&self) -> bool {
        let gauges = self.gauges().into_iter();
        let retired = gauges.filter(|gauge| gauge.is_retired() && !gauge.has_ended());
        let mut tables = retired.flat_map(|gauge| gauge.tables());
        tables.any(|table| !table.is_orphaned() && table.counts().1 > 0)
    }

    /// Returns how many deliveries the broker may still have in the name of this process.
    pub(crate) fn unsettled(&self) -> usize {
        let tables = self.gauges().into_iter().flat_map(|gauge| gauge.tables());
        tables.map(|table| table.unsettled()).sum()
    }

    /// Forgets a retired thread that holds nothing any more.
    pub(crate) fn forget(&self, gauge: &Arc<LaneGauge>) {
        lock(&self.gauges).retain(|other| !Arc::ptr_eq(other, gauge));
    }
}

/// Where the current thread of one lane is found. Cloning shares it.
#[derive(Clone, Debug)]
pub struct LaneSeat {
    lane: u16,
    board: Board,
    generations: Arc<AtomicU64>,
    current: Arc<Mutex<Option<Arc<LaneGauge>>>>,
}

impl LaneSeat {
    /// Creates the seat of lane `lane`, still without a thread.
    #[must_use]
    pub fn new(lane: u16, board: Board) -> Self {
        Self {
            lane,
            board,
            generations: Arc::default(),
            current: Arc::default(),
        }
    }

    /// Returns the lane's number, from 0.
    #[must_use]
    pub const fn lane(&self) -> u16 {
        self.lane
    }

    /// Starts a fresh thread for the lane and retires the one before. Call it inside an actix system.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn fresh(&self) -> io::Result<ArbiterHandle> {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(ARBITER_BLOCKING_THREADS)
                .build()
        };
        let arbiter = Arbiter::try_with_tokio_rt(runtime)?.handle();
        let alive = Arc::new(());
        let weak = Arc::downgrade(&alive);
        // Dropped with the loop, whenever that ends.
        arbiter.spawn(async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        let gauge = Arc::new(LaneGauge {
            lane: self.lane,
            generation: self.generations.fetch_add(1, Ordering::Relaxed) + 1,
            arbiter: arbiter.clone(),
            polling: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            group: NEXT_GROUP.fetch_add(1, Ordering::Relaxed),
            pinged_ms: AtomicU64::new(ANSWERED),
            accused: AtomicU64::new(0),
            tables: Mutex::default(),
            alive: weak,
        });
        lock(&self.board.gauges).push(Arc::clone(&gauge));
        self.retire();
        *lock(&self.current) = Some(gauge);
        Ok(arbiter)
    }

    /// Retires the lane's thread: it ends when it can; nobody waits for it.
    pub fn retire(&self) {
        if let Some(gauge) = lock(&self.current).take() {
            gauge.retired.store(true, Ordering::Release);
            gauge.arbiter.stop();
        }
    }

    /// Returns the lane's thread, for what is to live on it.
    ///
    /// # Errors
    /// When the lane has no thread yet.
    pub fn current(&self) -> io::Result<ArbiterHandle> {
        let gauge = self
            .gauge()
            .ok_or_else(|| io::Error::other("the lane has no thread"))?;
        Ok(gauge.arbiter.clone())
    }

    /// Returns whether the lane has a thread that answers.
    pub(crate) fn answers(&self) -> bool {
        self.gauge().is_some_and(|gauge| !gauge.is_blocked())
    }

    /// Returns whether the lane's thread answers and no attempt is being polled on it at this instant.
    pub(crate) fn is_free(&self) -> bool {
        self.gauge()
            .is_some_and(|gauge| gauge.polling.load(Ordering::Relaxed) == 0 && !gauge.is_blocked())
    }

    pub(crate) fn gauge(&self) -> Option<Arc<LaneGauge>> {
        lock(&self.current).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Guarded values are replaced whole, so a poisoned one is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
