//! What a rig is made of, before it starts.

use std::future::Future;
use std::sync::Arc;

use super::Rig;
use crate::attempt::Attempt;
use crate::blocking::BlockingPool;
use crate::breaker::{BreakerPolicy, Breakers};
use crate::child::Environment;
use crate::context::{AppState, WorkerContext};
use crate::frame::FrameLimits;
use crate::ids::{BreakerName, QueueName, WorkerId};
use crate::ports::{Broker, DeadLetters, Isolation};
use crate::producer::{Producer, ProducerOptions};
use crate::registry::Registry;
use crate::task::{Task, TaskError};
use crate::testkit::{MemoryBroker, MemoryStore, Probe, RunningClock};
use crate::time::Clock;
use crate::tree::{Tree, TreeOptions, TreeParts};
use crate::workshop::TaskActor;

/// What a rig is made of. See [`Rig::builder`].
#[derive(Debug)]
pub struct RigBuilder {
    registry: Registry,
    state: AppState,
    options: TreeOptions,
    worker: String,
    blocking: BlockingPool,
    isolation: Option<Arc<dyn Isolation>>,
    broker: Option<MemoryBroker>,
    store: Arc<MemoryStore>,
    clock: Option<Arc<dyn Clock>>,
    limits: FrameLimits,
}

impl RigBuilder {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::default(),
            state: AppState::default(),
            options: TreeOptions::new([queue("default")]),
            worker: "rig".to_owned(),
            blocking: BlockingPool::new(4),
            isolation: None,
            broker: None,
            store: Arc::default(),
            clock: None,
            limits: FrameLimits::default(),
        }
    }

    /// Adds a kind of task that is a plain async function.
    ///
    /// # Panics
    /// When its name cannot be used or is taken.
    #[must_use]
    pub fn task<T, F, R>(mut self, function: F) -> Self
    where
        T: Task,
        F: Fn(Attempt<T>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<T::Output, TaskError>> + 'static,
    {
        let added = self.registry.function(function);
        added.expect("the name of the task is free");
        self
    }

    /// Adds a task actor with the kinds of tasks it handles.
    ///
    /// # Panics
    /// When a name cannot be used or is taken.
    #[must_use]
    pub fn actor<A: actix::Actor<Context = actix::Context<A>>>(
        mut self,
        actor: TaskActor<A>,
    ) -> Self {
        let added = self.registry.actor(actor);
        added.expect("the names of the actor and its tasks are free");
        self
    }

    /// Sets when the breaker of this name opens.
    ///
    /// # Panics
    /// When the name cannot be used.
    #[must_use]
    pub fn breaker(mut self, name: &str, policy: BreakerPolicy) -> Self {
        let name = BreakerName::new(name).expect("the name of a breaker");
        self.registry.breaker(name, policy);
        self
    }

    /// Adds a synchronous function that runs a kind of task.
    ///
    /// # Panics
    /// When the name cannot be used or is taken.
    #[must_use]
    pub fn blocking_task<T, F>(mut self, function: F) -> Self
    where
        T: Task,
        F: Fn(Attempt<T>) -> Result<T::Output, TaskError> + Clone + Send + Sync + 'static,
    {
        let added = self.registry.blocking_function(function);
        added.expect("the name of the task is free");
        self
    }

    /// Has blocking work run on this pool; four threads otherwise.
    #[must_use]
    pub fn blocking_pool(mut self, pool: BlockingPool) -> Self {
        self.blocking = pool;
        self
    }

    /// Has isolated attempts run there.
    #[must_use]
    pub fn isolation(mut self, isolation: Arc<dyn Isolation>) -> Self {
        self.isolation = Some(isolation);
        self
    }

    /// Adds a value that all attempts share.
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(mut self, value: S) -> Self {
        self.state.insert(value);
        self
    }

    /// Drains these queues instead of `default`.
    ///
    /// # Panics
    /// When one cannot be the name of a queue.
    #[must_use]
    pub fn queues<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let shares = names
            .into_iter()
            .map(|name| (queue(name), crate::permits::QueueShare::default()));
        self.options.queues = shares.collect();
        self
    }

    /// Changes how the tree is shaped.
    #[must_use]
    pub fn options(mut self, change: impl FnOnce(&mut TreeOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Names the process, `rig` otherwise.
    #[must_use]
    pub fn worker(mut self, name: &str) -> Self {
        name.clone_into(&mut self.worker);
        self
    }

    /// Runs on the data of another rig's broker, through a handle of its own.
    #[must_use]
    pub fn beside(mut self, rig: &Rig) -> Self {
        self.broker = Some(rig.broker().another());
        self.store = Arc::clone(rig.store());
        self
    }

    /// Runs on this broker, which lives by a clock of its own.
    #[must_use]
    pub fn broker(mut self, broker: MemoryBroker) -> Self {
        self.broker = Some(broker);
        self
    }

    /// Gives the workers this clock; the broker keeps its own.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Bounds the frames that the workers accept.
    #[must_use]
    pub fn limits(mut self, limits: FrameLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Starts the tree, and waits until all of it serves or restarts what does not.
    ///
    /// # Panics
    /// Outside of an actix system, and with everything that was seen when the tree does not come up.
    pub async fn start(self) -> Rig {
        let running = Arc::new(RunningClock::new());
        let clock = self.clock.unwrap_or_else(|| running.clone());
        let faults = self
            .broker
            .unwrap_or_else(|| MemoryBroker::new(running.clone()));
        let (broker, faults) = (Arc::new(faults.another()), Arc::new(faults));
        let probe = Probe::new();
        let producer = |broker: Arc<dyn Broker>| {
            Producer::new(broker, clock.clone(), ProducerOptions::default())
        };
        let id = WorkerId::new(&self.worker).expect("the name of a worker");
        let worker = WorkerContext {
            worker: id.clone(),
            state: self.state,
            blocking: self.blocking,
            log: probe.logger(),
            clock: clock.clone(),
            producer: producer(faults.clone()),
            limits: self.limits,
            results: crate::policy::ResultLimits::default(),
            breakers: Breakers::new(faults.clone(), clock.clone(), &id, probe.logger())
                .of_program(&self.registry),
            isolation: self.isolation,
        };
        let breakers = worker.breakers.clone();
        let store: Arc<dyn DeadLetters> = self.store.clone();
        let environment = Environment {
            log: probe.logger(),
            clock: clock.clone(),
            seed: 7,
            observer: None,
        };
        let parts = TreeParts {
            services: Vec::new(),
            broker: faults.clone(),
            store: Some(store),
            registry: self.registry,
            worker: Arc::new(worker),
            observer: Some(Arc::new(probe.clone())),
            describe: None,
            environment,
        };
        let rig = Rig {
            tree: Tree::start(self.options, parts),
            producer: producer(broker.clone()),
            broker,
            faults,
            store: self.store,
            clock: running,
            probe,
            breakers,
        };
        rig.wait_for_tree(|tree| {
            tree.find("work")
                .is_some_and(|work| work.up_since.is_some())
        })
        .await;
        rig
    }
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).expect("the name of a queue")
}
