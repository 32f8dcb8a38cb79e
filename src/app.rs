//! The program: which tasks it knows, what runs them, and the values they share.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Context};
use celeriac_actors::attempt::Attempt;
use celeriac_actors::context::AppState;
use celeriac_actors::ids::TaskName;
use celeriac_actors::policy::Policy;
use celeriac_actors::ports::DeadLetters;
use celeriac_actors::registry::{RegisterError, Registry};
use celeriac_actors::task::{Task, TaskError};
use celeriac_actors::workshop::{Factory, TaskActor};

use crate::command::Command;

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
    pub(crate) fn into_parts(
        mut self,
        isolation: bool,
    ) -> Result<(Registry, AppState, DeadLettersHook), AppError> {
        self.mistakes.extend(self.registry.mode_mistakes(isolation));
        self.check()?;
        Ok((self.registry, self.state, self.dead_letters))
    }

    fn note(mut self, registered: Result<(), RegisterError>) -> Self {
        self.mistakes.extend(registered.err());
        self
    }
}
