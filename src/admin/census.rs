//! How many stored tasks a rule means, and when the last of them is due.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, BrokerError, StoredTask};
use celeriac_actors::revocation::Selector;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use crate::look::Patience;
use crate::look::search::{Search, open, stored};

/// What waits longest comes first: its time decides how long a revocation must be remembered.
const STATES: [TaskState; 4] = [
    TaskState::Active,
    TaskState::Scheduled,
    TaskState::Retrying,
    TaskState::Ready,
];

/// What was found of a rule.
#[derive(Debug, Default)]
pub(crate) struct Census {
    counts: BTreeMap<TaskState, u64>,
    pub(crate) last_due: Option<Timestamp>,
    pub(crate) looked: u64,
    pub(crate) total: u64,
    pub(crate) is_complete: bool,
}

impl Census {
    /// Looks at what is stored, under the budget of a search.
    pub(crate) async fn take(
        broker: &dyn Broker,
        rule: &Selector,
        queue: Option<&str>,
        (limits, patience): (FrameLimits, Patience),
    ) -> Result<Self, BrokerError> {
        let mut queues = patience.insist(|| broker.queues()).await?;
        queues.retain(|status| queue.is_none_or(|name| status.queue.as_str() == name));
        let mut census = Self::default();
        let mut search = Search::new(broker, patience);
        for state in STATES {
            for status in queues.iter().filter(|status| stored(status, state) > 0) {
                census.total += stored(status, state);
                let mut visit = |_: &QueueName, task: StoredTask| {
                    census.count(rule, task, &limits);
                    ControlFlow::Continue(())
                };
                let _seen = search.through((&status.queue, state), &mut visit).await?;
            }
        }
        census.looked = search.looked;
        census.total = census.total.max(search.looked);
        census.is_complete = search.is_complete;
        Ok(census)
    }

    fn count(&mut self, rule: &Selector, task: StoredTask, limits: &FrameLimits) {
        let (state, due) = (task.state, task.due);
        // What is no task is none of the rule's.
        let Ok(job) = open(task.frame, limits) else {
            return;
        };
        if rule.is_of(&job.header, &job.envelope) {
            *self.counts.entry(state).or_default() += 1;
            self.last_due = self.last_due.max(due);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(crate) fn document(&self) -> Value {
        json!(self.counts)
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return f.write_str("none is stored");
        }
        let mut parts = self.counts.iter().map(|(state, n)| format!("{n} {state}"));
        f.write_str(&parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| write!(f, ", {part}"))
    }
}
