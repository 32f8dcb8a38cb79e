//! The registry: which kinds of tasks a program knows, what is allowed to each, and what runs it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;

use crate::attempt::Attempt;
use crate::breaker::{BreakerOverride, BreakerPolicy};
use crate::context::AttemptContext;
use crate::frame::{FrameError, FrameLimits};
use crate::ids::{BreakerName, NameError, TaskName};
use crate::middleware::{Link, Next, Wrapped, link};
use crate::misfit::Misfit;
use crate::mode::Mode;
use crate::policy::Policy;
use crate::runner::{
    BlockingRunner, ForeignAttempt, ForeignError, ForeignRunner, FunctionRunner, Runner, actor_can,
};
use crate::task::{Task, TaskError};
use crate::workshop::{Runners, TaskActor, TaskActorKind};

type CheckArgs = fn(&[u8], &FrameLimits) -> Result<(), FrameError>;
type FindMisfit = fn(&[u8], &FrameLimits) -> Option<Misfit>;

/// One kind of task.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) policy: Arc<Policy>,
    pub(crate) queue: Cow<'static, str>,
    pub(crate) has_output: bool,
    /// What runs it on every lane; `None` for one whose runners are made per lane by its task actor.
    pub(crate) runner: Option<Arc<dyn Runner>>,
    pub(crate) check: CheckArgs,
    pub(crate) misfit: FindMisfit,
    pub(crate) sensitive: &'static [&'static str],
}

/// One kind of task as a lane runs it.
pub(crate) struct Kind {
    /// Its place among the names of the registry: what its meters are numbered by.
    pub(crate) number: usize,
    pub(crate) policy: Arc<Policy>,
    pub(crate) has_output: bool,
    pub(crate) sensitive: &'static [&'static str],
    pub(crate) runner: Arc<dyn Runner>,
    /// The program's code around every attempt.
    pub(crate) links: Arc<[Link]>,
}

/// The kinds of tasks of one lane.
pub(crate) type Kinds = HashMap<TaskName, Arc<Kind>>;

/// The kinds of tasks a program knows.
#[derive(Clone, Default)]
pub struct Registry {
    pub(crate) entries: BTreeMap<TaskName, Entry>,
    pub(crate) actors: Vec<Arc<dyn TaskActorKind>>,
    pub(crate) breakers: crate::breaker::Rules,
    links: Vec<Link>,
}

/// Why a kind of task cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Its `NAME` cannot be used.
    #[error("`{name}` cannot be the name of a task")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        #[source]
        error: NameError,
    },
    /// Another kind has this name already.
    #[error("two tasks are called `{0}`; names must differ")]
    Duplicate(TaskName),
    /// Two task actors have the same name.
    #[error("two task actors are called `{0}`; give one of them a name of its own")]
    DuplicateActor(String),
    /// A kind of task is to run where it cannot.
    #[error("`{task}` cannot run in mode `{mode}`: {why}")]
    Mode {
        /// The kind.
        task: TaskName,
        /// Where it is to run.
        mode: Mode,
        /// Why it cannot.
        why: &'static str,
    },
}

impl Registry {
    /// Registers a plain async function for a kind of task.
    ///
    /// # Errors
    /// [`RegisterError`] when the name cannot be used or is taken.
    pub fn function<T, F, R>(&mut self, function: F) -> Result<(), RegisterError>
    where
        T: Task,
        F: Fn(Attempt<T>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<T::Output, TaskError>> + 'static,
    {
        self.add::<T>(Some(Arc::new(FunctionRunner::new(function))))
    }

    /// Registers a synchronous function for a kind of task: it runs where its thread may be blocked.
    ///
    /// # Errors
    /// [`RegisterError`] when the name cannot be used or is taken.
    pub fn blocking_function<T, F>(&mut self, function: F) -> Result<(), RegisterError>
    where
        T: Task,
        F: Fn(Attempt<T>) -> Result<T::Output, TaskError> + Clone + Send + Sync + 'static,
    {
        self.add::<T>(Some(Arc::new(BlockingRunner::new(function))))
    }

    /// Registers a kind of task that is no Rust type: by its name, with arguments and results as plain values.
    ///
    /// # Errors
    /// [`RegisterError`] when the name is taken.
    pub fn foreign<F, R>(
        &mut self,
        name: TaskName,
        (queue, policy): (String, Policy),
        function: F,
    ) -> Result<(), RegisterError>
    where
        F: Fn(serde_json::Value, ForeignAttempt) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<serde_json::Value, ForeignError>> + 'static,
    {
        let entry = Entry {
            policy: Arc::new(policy),
            queue: Cow::Owned(queue),
            has_output: true,
            runner: Some(Arc::new(ForeignRunner::new(function))),
            check: |args, limits| {
                crate::frame::decode_value::<serde_json::Value>(args, limits).map(drop)
            },
            misfit: |_, _| None,
            sensitive: &[],
        };
        self.insert(name, entry)
    }

    fn insert(&mut self, name: TaskName, entry: Entry) -> Result<(), RegisterError> {
        if self.entries.contains_key(&name) {
            return Err(RegisterError::Duplicate(name));
        }
        self.entries.insert(name, entry);
        Ok(())
    }

    /// Registers a task actor with the kinds of tasks it handles.
    ///
    /// # Errors
    /// [`RegisterError`] when a name cannot be used or is taken.
    pub fn actor<A: actix::Actor<Context = actix::Context<A>>>(
        &mut self,
        actor: TaskActor<A>,
    ) -> Result<(), RegisterError> {
        if self.actors.iter().any(|other| other.name() == actor.name()) {
            return Err(RegisterError::DuplicateActor(actor.name().to_owned()));
        }
        for register in actor.registrations() {
            register(self)?;
        }
        self.actors.push(Arc::new(actor));
        Ok(())
    }

    pub(crate) fn add<T: Task>(
        &mut self,
        runner: Option<Arc<dyn Runner>>,
    ) -> Result<(), RegisterError> {
        let name = TaskName::new(T::NAME).map_err(|error| RegisterError::Name {
            name: T::NAME.to_owned(),
            error,
        })?;
        let entry = Entry {
            policy: Arc::new(T::policy()),
            queue: Cow::Borrowed(T::QUEUE),
            has_output: std::any::TypeId::of::<T::Output>() != std::any::TypeId::of::<()>(),
            runner,
            check: |args, limits| crate::frame::decode_value::<T>(args, limits).map(drop),
            misfit: Misfit::of::<T>,
            sensitive: T::SENSITIVE,
        };
        self.insert(name, entry)
    }

    /// Returns the kinds as a lane runs them, given the runners of its task actors.
    pub(crate) fn kinds(&self, runners: &Runners) -> Kinds {
        let links: Arc<[Link]> = self.links.as_slice().into();
        let kind = |(number, (name, entry)): (usize, (&TaskName, &Entry))| {
            let runner = entry.runner.as_ref().or_else(|| runners.get(name))?;
            let kind = Kind {
                number,
                policy: Arc::clone(&entry.policy),
                has_output: entry.has_output,
                sensitive: entry.sensitive,
                runner: Arc::clone(runner),
                links: Arc::clone(&links),
            };
            Some((name.clone(), Arc::new(kind)))
        };
        self.entries.iter().enumerate().filter_map(kind).collect()
    }

    /// Adds a link to the chain around every attempt; the first one added is the outermost.
    pub fn wrap<F, R>(&mut self, function: F)
    where
        F: Fn(AttemptContext, Next) -> R + Send + Sync + 'static,
        R: Future<Output = Wrapped> + 'static,
    {
        self.links.push(link(function));
    }

    /// Returns every kind of task whose policy asks for what it cannot do. `isolation` says whether the program has
    /// processes to isolate attempts in.
    #[must_use]
    pub fn mode_mistakes(&self, isolation: bool) -> Vec<RegisterError> {
        let asked = self
            .entries
            .iter()
            .filter_map(|(task, entry)| Some((task, entry.policy.asked_mode()?)));
        asked
            .filter_map(|(task, mode)| self.check_mode(task, mode, isolation).err())
            .collect()
    }

    /// Returns where a kind of task runs by its policy; `None` when it is not known or its policy does not say.
    #[must_use]
    pub fn mode_of(&self, task: &TaskName) -> Option<Mode> {
        self.entries.get(task)?.policy.asked_mode()
    }

    /// Tells whether a kind of task can run in a mode; one that is not known here may.
    ///
    /// # Errors
    /// [`RegisterError::Mode`] with why not.
    pub fn check_mode(
        &self,
        task: &TaskName,
        mode: Mode,
        isolation: bool,
    ) -> Result<(), RegisterError> {
        let Some(entry) = self.entries.get(task) else {
            return Ok(());
        };
        let runner = entry.runner.as_ref();
        let can = runner.map_or_else(|| actor_can(mode), |runner| runner.can(mode));
        let why = match mode {
            _ if can && (isolation || mode != Mode::Isolated) => return Ok(()),
            Mode::Inline => "a synchronous function would block its lane's thread",
            Mode::Blocking => "only functions can, neither task actors nor commands",
            Mode::Isolated if !can => "a command has a process of its own anyway",
            Mode::Isolated => {
                "the program offers no child processes; call `celeriac::isolation::enter` at the top of its `main`"
            }
        };
        let task = task.clone();
        Err(RegisterError::Mode { task, mode, why })
    }

    /// Changes the policy of a kind of task; returns whether there is such a kind.
    pub fn adjust(&mut self, task: &TaskName, change: impl FnOnce(Policy) -> Policy) -> bool {
        let Some(entry) = self.entries.get_mut(task) else {
            return false;
        };
        entry.policy = Arc::new(change((*entry.policy).clone()));
        true
    }

    /// Sets when the breaker of this name opens, where tasks ask for it with
    /// [`AttemptContext::breaker`](crate::context::AttemptContext::breaker).
    pub fn breaker(&mut self, name: BreakerName, policy: BreakerPolicy) {
        self.breakers.policies.insert(name, policy);
    }

    /// Sets what a configuration says about a breaker, of a kind of task too.
    pub fn override_breaker(&mut self, name: BreakerName, over: BreakerOverride) {
        self.breakers.overrides.insert(name, over);
    }

    /// Returns the names of all kinds, sorted.
    pub fn names(&self) -> impl Iterator<Item = &TaskName> {
        self.entries.keys()
    }

    /// Returns the queue that a kind of task names for itself.
    #[must_use]
    pub fn queue_of(&self, task: &TaskName) -> Option<&str> {
        self.entries.get(task).map(|entry| &*entry.queue)
    }

    /// Returns the policy of a kind of task.
    #[must_use]
    pub fn policy_of(&self, task: &TaskName) -> Option<&Policy> {
        self.entries.get(task).map(|entry| &*entry.policy)
    }

    /// Returns which arguments of a kind are not to be shown; none of one that is not known here.
    #[must_use]
    pub fn sensitive(&self, task: &TaskName) -> &'static [&'static str] {
        self.entries.get(task).map_or(&[], |entry| entry.sensitive)
    }

    /// Returns which argument is not what a kind of task takes; `None` when all are, or the kind is not known here.
    #[must_use]
    pub fn misfit(&self, task: &TaskName, args: &[u8], limits: &FrameLimits) -> Option<Misfit> {
        (self.entries.get(task)?.misfit)(args, limits)
    }

    /// Returns the known name that is most like `task`, if one is.
    #[must_use]
    pub fn nearest(&self, task: &TaskName) -> Option<TaskName> {
        let distance = |name: &TaskName| crate::misfit::distance(task.as_str(), name.as_str());
        let names = self.names().map(|name| (distance(name), name));
        let (distance, name) = names.min()?;
        (distance <= 1 + task.as_str().len() / 4).then(|| name.clone())
    }

    /// Checks that arguments decode as what a kind of task expects; `None` when the kind is not known here.
    ///
    /// # Errors
    /// [`FrameError::Arguments`] with what does not fit.
    #[must_use]
    pub fn check(
        &self,
        task: &TaskName,
        args: &[u8],
        limits: &FrameLimits,
    ) -> Option<Result<(), FrameError>> {
        self.entries
            .get(task)
            .map(|entry| (entry.check)(args, limits))
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}
