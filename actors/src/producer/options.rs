//! What a producer is told: of itself, and of one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Elsewhere;
use crate::envelope::Overrides;
use crate::frame::FrameLimits;
use crate::header::Priority;
use crate::hooks::HookLine;
use crate::ids::{QueueName, TaskId};
use crate::mode::Mode;
use crate::ports::{Spool, When};
use crate::registry::Registry;
use crate::route::Route;
use crate::time::{Timestamp, millis};

/// How long the broker remembers a channel's last call, usually.
const REMEMBER: Duration = Duration::from_secs(3_600);

/// How long it remembers a call that may come from a spool: longer than outages last.
pub(super) const REMEMBER_SPOOLED: Duration = Duration::from_secs(7 * 86_400);

/// Where a task is: its queue and its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskHandle {
    /// The queue it was enqueued to.
    pub queue: QueueName,
    /// Its id.
    pub id: TaskId,
}

/// What an enqueuer may say about one task. The default leaves everything to the task's kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EnqueueOptions {
    /// The queue; `None` asks the routes, then the task's kind, then `default`.
    pub queue: Option<QueueName>,
    /// The id; `None` makes one. Two tasks of one id are two tasks.
    pub id: Option<TaskId>,
    /// When it becomes ready; `None` at once.
    pub when: Option<When>,
    /// How urgent it is within its queue.
    pub priority: Priority,
    /// From when on it may no longer be started.
    pub expires_at: Option<Timestamp>,
    /// What holds instead of the policy of its kind.
    pub overrides: Overrides,
    /// Text to attach.
    pub headers: BTreeMap<String, String>,
    /// Whether somebody will wait for its end: the final state is then kept even where results are off.
    pub want_outcome: bool,
    /// Which of its arguments are not to be shown, beside those that its kind names ([`Task::SENSITIVE`](crate::task::Task::SENSITIVE)).
    pub sensitive: Vec<String>,
}

impl EnqueueOptions {
    /// Sends it to this queue, whatever routes and kind say.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Gives it this id.
    #[must_use]
    pub fn id(mut self, id: TaskId) -> Self {
        self.id = Some(id);
        self
    }

    /// Makes it ready after so long, on the broker's clock.
    #[must_use]
    pub fn countdown(mut self, delay: Duration) -> Self {
        self.when = Some(When::After(delay));
        self
    }

    /// Makes it ready at this instant, on the broker's clock.
    #[must_use]
    pub fn eta(mut self, at: Timestamp) -> Self {
        self.when = Some(When::At(at));
        self
    }

    /// Sets how urgent it is within its queue.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Ends it unstarted when it has not begun by then, on the broker's clock.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Has its attempts asked to stop after this long, rounded to milliseconds, instead of when its kind says. At most its hard limit.
    #[must_use]
    pub fn soft_limit(mut self, limit: Duration) -> Self {
        self.overrides.soft_limit_ms = Some(millis(limit));
        self
    }

    /// Has its attempts run there instead of where its kind says. One that its kind or its worker cannot run there is
    /// a dead letter.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.overrides.mode = Some(mode);
        self
    }

    /// Has its attempts ended after this long, rounded to milliseconds, instead of when its kind says.
    #[must_use]
    pub fn hard_limit(mut self, limit: Duration) -> Self {
        self.overrides.hard_limit_ms = Some(millis(limit));
        self
    }

    /// Gives it so many attempts, the first one included, instead of those of its kind. At least one.
    #[must_use]
    pub fn max_attempts(mut self, count: u16) -> Self {
        self.overrides.max_attempts = Some(count);
        self
    }

    /// Keeps its final state for whoever will wait for it, even where results are off.
    #[must_use]
    pub fn want_outcome(mut self) -> Self {
        self.want_outcome = true;
        self
    }

    /// Has an argument redacted wherever arguments are shown; a path as in [`Task::SENSITIVE`](crate::task::Task::SENSITIVE).
    #[must_use]
    pub fn sensitive(mut self, path: impl Into<String>) -> Self {
        self.sensitive.push(path.into());
        self
    }

    /// Attaches a text.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(key.into(), value.into());
        self
    }
}

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Which queue a task goes to by its name, first match wins.
    pub routes: Vec<Route>,
    /// The bounds of frames.
    pub limits: FrameLimits,
    /// How long a call is repeated while the broker is away. Default 10 s. Less than brokers take to say that they cannot
    /// be reached (2 s by default) leaves more calls open than need be.
    pub timeout: Duration,
    /// How long the broker remembers a channel's last call, so that it can be repeated. Longer than `timeout`; default
    /// 1 h.
    pub remember: Duration,
    /// Where tasks go that the broker does not take; default none.
    ///
    /// A call that the broker refuses, that cannot be sent, or that is not answered within `timeout` or 2.5 seconds,
    /// whichever is less, goes there instead of failing; while tasks of a queue wait there, newer ones of that queue go
    /// behind them. The broker then remembers channels for at least seven days: for so long may an outage last between a
    /// call without an answer and its repeat. A countdown counts from the enqueue by this process's clock, and only from
    /// the broker's in a call that may have reached it.
    pub spool: Option<Arc<dyn Spool>>,
    /// The kinds of tasks that the program knows, for tasks given by name ([`Producer::prepare_named`](super::Producer::prepare_named)); `None`
    /// takes every name.
    pub known: Option<Arc<Registry>>,
    /// The hooks that are asked before each enqueue ([`Hooks::before_enqueue`](crate::hooks::Hooks::before_enqueue)); default none.
    pub hooks: Option<Arc<HookLine>>,
    /// Who adds the tasks instead of this producer, which then uses neither its hooks nor its spool; default none.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            limits: FrameLimits::default(),
            timeout: Duration::from_secs(10),
            remember: REMEMBER,
            spool: None,
            known: None,
            hooks: None,
            elsewhere: None,
        }
    }
}
