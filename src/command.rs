//! Command tasks: tasks written in any language, as programs that read their arguments and write their result as JSON.
//!
//! A program is started anew for each attempt, without a shell, as the leader of a process group of its own. It reads one
//! JSON document from its standard input, writes one to its standard output (or nothing), and says by its exit code how
//! it went. Nothing of a task's arguments reaches its command line but what a placeholder asks for.

mod arguments;
mod group;
mod process;
mod run;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;

use celeriac_actors::ids::TaskName;
use celeriac_actors::policy::Policy;
use celeriac_actors::registry::{RegisterError, Registry};

pub use self::arguments::{PlaceholderError, Template};

/// The exit code of a program that wants to be tried again.
pub const TRY_AGAIN: i32 = 75;

/// A kind of task that a program runs.
///
/// ```
/// use celeriac::App;
/// use celeriac::command::Command;
///
/// let nightly = Command::new("reports.nightly", "/usr/bin/python3")?
///     .args(["nightly.py", "--customer={{customer}}"])?;
/// let app = App::new().command(nightly);
/// assert!(app.check().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The name of the kind of task.
    pub name: TaskName,
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// What its command line says.
    pub args: Vec<Template>,
    /// What is in its environment beside what is in the worker's.
    pub env: Vec<(String, String)>,
    /// Where it runs; where the worker does unless said.
    pub cwd: Option<PathBuf>,
    /// The queue of its tasks; `default` unless said.
    pub queue: String,
    /// The exit codes after which it is tried again, as far as it has attempts; [`TRY_AGAIN`] unless said.
    pub retry_codes: Vec<i32>,
    /// How its attempts are run, so far as it was said.
    pub limits: CommandLimits,
}

/// What is said of a command's attempts; `None` leaves it to the defaults of all tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandLimits {
    /// When it is asked to end, by SIGTERM.
    pub soft: Option<std::time::Duration>,
    /// When it is ended.
    pub hard: Option<std::time::Duration>,
    /// How often it is tried.
    pub max_attempts: Option<u16>,
}

impl Command {
    /// Creates a kind of task that runs a program without arguments.
    ///
    /// # Errors
    /// When `name` cannot be the name of a task.
    pub fn new(
        name: &str,
        program: impl Into<PathBuf>,
    ) -> Result<Self, celeriac_actors::ids::NameError> {
        Ok(Self {
            name: TaskName::new(name)?,
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            queue: "default".to_owned(),
            retry_codes: vec![TRY_AGAIN],
            limits: CommandLimits::default(),
        })
    }

    /// Sets its arguments; `{{key}}` in one of them stands for the task's argument of that name.
    ///
    /// # Errors
    /// [`PlaceholderError`] when a placeholder does not end or names nothing.
    pub fn args<'a>(
        mut self,
        args: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PlaceholderError> {
        self.args = args
            .into_iter()
            .map(Template::new)
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        if let Some(count) = self.limits.max_attempts {
            policy = policy.max_attempts(count);
        }
        if let Some(hard) = self.limits.hard {
            policy = policy.hard_limit(hard);
        }
        if let Some(soft) = self.limits.soft {
            policy = policy.soft_limit(soft);
        }
        policy
    }

    /// Registers it.
    ///
    /// # Errors
    /// [`RegisterError`] when its name is taken.
    pub(crate) fn register(self, registry: &mut Registry) -> Result<(), RegisterError> {
        let (name, place) = (self.name.clone(), (self.queue.clone(), self.policy()));
        let command = Arc::new(self);
        registry.foreign(name, place, move |args, attempt| {
            run::run(Arc::clone(&command), args, attempt)
        })
    }
}
