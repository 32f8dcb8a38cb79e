//! The program: which tasks it knows, what runs them, and the values they share.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Context};
use celeriac_actors::attempt::Attempt;
use celeriac_actors::breaker::{BreakerOverride, BreakerPolicy};
use celeriac_actors::child::ChildSpec;
use celeriac_actors::context::{AppState, AttemptContext};
use celeriac_actors::hooks::{HookLine, Hooks};
use celeriac_actors::ids::{BreakerName, TaskName};
use celeriac_actors::middleware::{Next, Wrapped};
use celeriac_actors::policy::Policy;
use celeriac_actors::ports::DeadLetters;
use celeriac_actors::producer::Producer;
use celeriac_actors::registry::{RegisterError, Registry};
use celeriac_actors::task::{Task, TaskError};
use celeriac_actors::workshop::{Factory, TaskActor};

use crate::command::Command;
use crate::database::Database;
use crate::database::outbox::{self, OutboxConnection, RelaySetup};
use crate::runtime::RuntimeOptions;

/// What a program brings to the runtime. Mistakes in it are collected and reported together, before anything starts.
///
/// ```
/// use celeriac::app::App;
/// use celeriac::attempt::Attempt;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add(i64, i64);
/// celeriac::task!(Add as "math.add" -> i64);
///
/// let app = App::new().task(|add: Attempt<Add>| async move { Ok(add.args.0 + add.args.1) });
/// assert!(app.check().is_ok());
/// ```
#[derive(Debug, Default)]
pub struct App {
    registry: Registry,
    state: AppState,
    dead_letters: DeadLettersHook,
    services: Services,
    #[cfg(feature = "daemon")]
    outboxes: outbox::Gauges,
    hooks: HookList,
    mistakes: Vec<RegisterError>,
}

/// What a program puts before the store of dead letters.
#[derive(Default)]
pub(crate) struct DeadLettersHook(Vec<Wrap>);

type Wrap = Box<dyn FnOnce(Arc<dyn DeadLetters>) -> Arc<dyn DeadLetters> + Send>;

impl DeadLettersHook {
    /// Puts it before `store`.
    pub(crate) fn before(self, store: Arc<dyn DeadLetters>) -> Arc<dyn DeadLetters> {
        self.0.into_iter().fold(store, |store, wrap| wrap(store))
    }
}

impl fmt::Debug for DeadLettersHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeadLettersHook({})", self.0.len())
    }
}

/// The services that a program's databases need.
#[derive(Default)]
pub(crate) struct Services(pub(crate) Vec<Service>);

type Service = Box<dyn FnOnce(RelaySetup) -> ChildSpec + Send>;

impl Services {
    /// Specifies them as children of the tree.
    pub(crate) fn specify(
        self,
        known: &Arc<Registry>,
        producer: &Producer,
        (options, hooks): (&RuntimeOptions, Option<&Arc<HookLine>>),
    ) -> Vec<ChildSpec> {
        let setup = |index| RelaySetup {
            producer: producer.clone(),
            known: Arc::clone(known),
            worker: options.worker.clone(),
            clock: Arc::clone(&options.clock),
            limit: options.tree.limit,
            index,
        };
        let services = self.0.into_iter().enumerate();
        let services = services.map(|(index, service)| service(setup(index)));
        let hooks = hooks.map(|line| line.service(options.tree.limit));
        services.chain(hooks).collect()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Services({})", self.0.len())
    }
}

/// What a runtime takes out of a program.
pub(crate) struct Parts {
    pub(crate) registry: Registry,
    pub(crate) state: AppState,
    pub(crate) dead_letters: DeadLettersHook,
    pub(crate) services: Services,
    pub(crate) hooks: Vec<Arc<dyn Hooks>>,
}

#[derive(Default)]
struct HookList(Vec<Arc<dyn Hooks>>);

impl fmt::Debug for HookList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookList({})", self.0.len())
    }
}

/// What is wrong with a program, all of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct AppError(pub Vec<RegisterError>);

impl App {
    /// Creates a program that knows no task.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value that every attempt finds by its type with [`AttemptContext::state`](celeriac_actors::context::AttemptContext::state). A
    /// second value of the same type replaces the first.
    #[must_use]
    pub fn state<S: Send + Sync + 'static>(mut self, value: S) -> Self {
        self.state.insert(value);
        self
    }

    /// Adds a database, for [`Transactional::transaction`](crate::database::Transactional::transaction). One with an
    /// [`outbox`] makes the runtime relay it.
    #[must_use]
    pub fn database<C: OutboxConnection>(mut self, database: Database<C>) -> Self {
        if database.has_outbox() {
            let relayed = database.clone();
            let service = move |setup| outbox::service(relayed, setup);
            self.services.0.push(Box::new(service));
            #[cfg(feature = "daemon")]
            self.outboxes.add(database.clone());
        }
        self.state(database)
    }

    /// Adds an async function that runs a kind of task.
    #[must_use]
    pub fn task<T, F, R>(mut self, function: F) -> Self
    where
        T: Task,
        F: Fn(Attempt<T>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<T::Output, TaskError>> + 'static,
    {
        let registered = self.registry.function(function);
        self.note(registered)
    }

    /// Adds a synchronous function that runs a kind of task, on a thread of the blocking pool unless its policy says
    /// `isolated`. It should look at [`is_cancelled`](celeriac_actors::context::AttemptContext::is_cancelled) and
    /// [`is_past_soft_limit`](celeriac_actors::context::AttemptContext::is_past_soft_limit): nothing else can stop it on
    /// a thread.
    ///
    /// ```
    /// use celeriac::{App, Attempt};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Sum(Vec<u64>);
    /// celeriac::task!(Sum as "math.sum" -> u64);
    ///
    /// let app = App::new().blocking_task(|sum: Attempt<Sum>| Ok(sum.args.0.iter().sum()));
    /// assert!(app.check().is_ok());
    /// ```
    #[must_use]
    pub fn blocking_task<T, F>(mut self, function: F) -> Self
    where
        T: Task,
        F: Fn(Attempt<T>) -> Result<T::Output, TaskError> + Clone + Send + Sync + 'static,
    {
        let registered = self.registry.blocking_function(function);
        self.note(registered)
    }

    /// Adds a task actor: `factory` builds it, again after each crash; `define` says which tasks it handles.
    ///
    /// The factory is a `fn() -> A` or a `fn(Boot) -> A`, and may return a `Result`, be async, or both.
    #[must_use]
    pub fn actor<A, K>(
        mut self,
        factory: impl Factory<A, K>,
        define: impl FnOnce(TaskActor<A>) -> TaskActor<A>,
    ) -> Self
    where
        A: Actor<Context = Context<A>>,
    {
        let registered = self.registry.actor(define(TaskActor::new(factory)));
        self.note(registered)
    }

    /// Sets when a circuit breaker opens that tasks ask for by this name, with
    /// [`AttemptContext::breaker`](celeriac_actors::context::AttemptContext::breaker). One that is not named here has the
    /// default policy.
    ///
    /// # Panics
    /// When the name cannot be one: it takes 1 to 200 letters, digits and `_-.:`.
    #[must_use]
    pub fn breaker(mut self, name: &str, policy: BreakerPolicy) -> Self {
        let name = BreakerName::new(name).expect("the name of a breaker");
        self.registry.breaker(name, policy);
        self
    }

    /// Sets what a configuration says about a breaker, of a kind of task too.
    pub fn override_breaker(&mut self, name: BreakerName, over: BreakerOverride) {
        self.registry.override_breaker(name, over);
    }

    /// Adds hooks: they are told what happens to tasks and to the worker, and may veto an enqueue. Several are called one after
    /// the other. What they do cannot hold up or end a worker: see [`hooks`](celeriac_actors::hooks).
    #[must_use]
    pub fn hooks(mut self, hooks: impl Hooks) -> Self {
        self.hooks.0.push(Arc::new(hooks));
        self
    }

    /// Puts code around every attempt, of whatever kind. The first one added is the outermost. It runs as part of the attempt: its
    /// time counts, its panic is the attempt's, and it may return an error instead of running the rest.
    ///
    /// ```
    /// use celeriac::App;
    ///
    /// let app = App::new().wrap(|attempt, next| async move {
    ///     let log = attempt.log();
    ///     let done = next.run().await;
    ///     slog::info!(log, "ran"; "ms" => attempt.elapsed().as_millis(), "failed" => done.is_err());
    ///     done
    /// });
    /// ```
    #[must_use]
    pub fn wrap<F, R>(mut self, link: F) -> Self
    where
        F: Fn(AttemptContext, Next) -> R + Send + Sync + 'static,
        R: Future<Output = Wrapped> + 'static,
    {
        self.registry.wrap(link);
        self
    }

    /// Adds a kind of task that a program in any language runs.
    #[must_use]
    pub fn command(mut self, command: Command) -> Self {
        let registered = command.register(&mut self.registry);
        self.note(registered)
    }

    /// Puts something of its own before the store that the runtime copies dead letters to: to tell somebody of each, to
    /// keep them elsewhere as well, or to fail on purpose in a test. What is put there later is reached first.
    ///
    /// It is called by the dead-letter actor, one of the runtime's own: a panic in it is a crash of that actor, and when
    /// it goes on, the supervisor gives up and the process ends with 70. What cannot be done now is an error
    /// ([`StoreError::Unavailable`](celeriac_actors::ports::StoreError::Unavailable)): it is tried again. A runtime
    /// without a store does not call it, nor do the commands that read the store.
    #[must_use]
    pub fn dead_letters<S: DeadLetters>(
        mut self,
        wrap: impl FnOnce(Arc<dyn DeadLetters>) -> S + Send + 'static,
    ) -> Self {
        let wrap = move |store| Arc::new(wrap(store)) as Arc<dyn DeadLetters>;
        self.dead_letters.0.push(Box::new(wrap));
        self
    }

    /// Returns the kinds of tasks it knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Changes the policies of its tasks, as a configuration asks for.
    pub fn adjust(&mut self, change: impl Fn(&TaskName, Policy) -> Policy) {
        let names: Vec<TaskName> = self.registry.names().cloned().collect();
        for name in names {
            self.registry.adjust(&name, |policy| change(&name, policy));
        }
    }

    /// Returns what tells how much waits in its outboxes.
    #[cfg(feature = "daemon")]
    pub(crate) fn outboxes(&self) -> outbox::Gauges {
        self.outboxes.clone()
    }

    /// Tells whether everything in it can be used together.
    ///
    /// # Errors
    /// [`AppError`] with every mistake.
    pub fn check(&self) -> Result<(), AppError> {
        if self.mistakes.is_empty() {
            Ok(())
        } else {
            Err(AppError(self.mistakes.clone()))
        }
    }

    /// Takes it apart for the runtime. `isolation` says whether there are child processes to isolate attempts in.
    pub(crate) fn into_parts(mut self, isolation: bool) -> Result<Parts, AppError> {
        self.mistakes.extend(self.registry.mode_mistakes(isolation));
        self.check()?;
        Ok(Parts {
            registry: self.registry,
            state: self.state,
            dead_letters: self.dead_letters,
            services: self.services,
            hooks: self.hooks.0,
        })
    }

    fn note(mut self, registered: Result<(), RegisterError>) -> Self {
        self.mistakes.extend(registered.err());
        self
    }
}
