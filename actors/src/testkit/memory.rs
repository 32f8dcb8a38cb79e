//! A broker in memory, stricter than the real ones: what they let pass, it refuses, so that a wrong assumption shows
//! in the first test that makes it.
//!
//! One lock around plain data, one file per concern. Every step reads the clock that was passed in exactly once.

mod broker;
mod enqueue;
mod exchange;
mod fault;
mod inspect;
mod purge;
mod scan;
mod settle;
mod state;
mod sweep;
mod wake;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use self::fault::{Fault, Method};
pub(super) use self::scan::label;

use self::fault::{Fate, Plan, away, unavailable};
use self::state::{Now, State};
use crate::ids::{QueueName, TaskId, WorkerId};
use crate::ports::BrokerError;
use crate::time::Clock;

/// A strict broker in memory.
///
/// A handle: [`another`](Self::another) gives a second one to the same data, as another process would have it. Failures
/// are planned per handle, so one process can be cut off while the others go on.
///
/// Beyond the port it answers `Invalid` to: two exchanges of one incarnation at a time, a repeated call that differs
/// from the first, tags that do not ascend, an outcome that carries another task's frame or result, a channel used for
/// two queues.
///
/// ```
/// use celeriac_actors::testkit::{ManualClock, MemoryBroker};
/// use std::sync::Arc;
///
/// let broker = MemoryBroker::new(Arc::new(ManualClock::new()));
/// let queue = "default".parse().unwrap();
/// assert_eq!(broker.snapshot(&queue), "never heard of");
/// ```
#[derive(Debug)]
pub struct MemoryBroker {
    core: Arc<Core>,
    plan: Mutex<Plan>,
    /// Calls through this handle.
    calls: AtomicU64,
}

#[derive(Debug)]
struct Core {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Rung after every step, and whenever a plan changes.
    bell: Notify,
}

impl MemoryBroker {
    /// Creates an empty broker that lives by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let core = Core {
            clock,
            state: Mutex::default(),
            bell: Notify::new(),
        };
        Self {
            core: Arc::new(core),
            plan: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// Returns another handle to the same data, with a plan of failures of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            plan: Mutex::default(),
            calls: AtomicU64::new(0),
        }
    }

    /// Returns how many calls were made through this handle.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Adds a failure to the plan of this handle.
    pub fn plan(&self, fault: Fault) {
        lock(&self.plan).add(fault);
        self.core.bell.notify_waiters();
    }

    /// Forgets all planned failures of this handle.
    pub fn heal(&self) {
        *lock(&self.plan) = Plan::default();
        self.core.bell.notify_waiters();
    }

    /// Proves a process dead: the next sweep of a queue closes its incarnations there.
    pub fn declare_dead(&self, worker: &WorkerId) {
        self.state().proven_dead.insert(worker.clone());
    }

    /// Overwrites the bytes of a task that is ready or in flight. Returns whether it was found.
    pub fn corrupt(&self, queue: &QueueName, task: TaskId, bytes: &[u8]) -> bool {
        self.state().corrupt(queue, task, bytes)
    }

    /// Returns a queue as one line, such as `ready [1 2#1] scheduled [] retrying [] active [3] dead [4:poison]`.
    ///
    /// A task is shown as its id, if that is below a million, else as the last four digits; `#n` follows after n
    /// rescues.
    #[must_use]
    pub fn snapshot(&self, queue: &QueueName) -> String {
        self.state().snapshot(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.core.state)
    }

    fn now(&self) -> Now {
        Now {
            wall: self.core.clock.now(),
            boot: self.core.clock.since_boot(),
        }
    }

    /// Carries out one step under the lock, as the plan lets it.
    fn step<T>(
        &self,
        method: Method,
        effect: impl FnOnce(&mut State, Now) -> Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fate = lock(&self.plan).fate(method);
        match fate {
            Fate::Fail(error) => return Err(error),
            Fate::Panic => panic!("planned: panic in {method:?}"),
            Fate::Answer | Fate::Lose => {}
        }
        let reply = effect(&mut self.state(), self.now());
        self.core.bell.notify_waiters();
        match fate {
            Fate::Lose => Err(unavailable("the reply was lost")),
            _ => reply,
        }
    }

    /// Holds a reply that the plan wants held, until it is healed.
    async fn hold(&self, method: Method) {
        let held = lock(&self.plan).hold(method);
        if let Some(mut held) = held {
            // Nothing is ever sent: it ends with the plan.
            let _healed = held.changed().await;
        }
    }

    /// Returns the error of a handle that is away.
    fn reach(&self) -> Result<(), BrokerError> {
        if lock(&self.plan).is_away() {
            return Err(away());
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
