//! Which stored tasks are revoked: what the broker remembers, matched against what it stores.

use std::collections::{BTreeSet, HashMap};

use celeriac_actors::envelope::Envelope;
use celeriac_actors::header::Header;
use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::ports::{Broker, BrokerError};
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::state::TaskState;

use super::Patience;

/// What a revocation means for a task that it is of, in words.
pub(crate) const fn fate(state: TaskState, terminate: bool) -> &'static str {
    match (state, terminate) {
        (TaskState::Active, false) => "revoked: asked to stop",
        (TaskState::Active, true) => "revoked: to be ended",
        _ => "revoked: will not start",
    }
}

/// The revocations of some queues.
#[derive(Debug, Default)]
pub(crate) struct Revoked(HashMap<QueueName, Known>);

#[derive(Debug, Default)]
struct Known {
    /// Whether what runs is ended, by task.
    ids: HashMap<TaskId, bool>,
    rules: Vec<Revocation>,
}

impl Revoked {
    /// Reads those of `queues`.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker is away for longer than `patience`.
    pub(crate) async fn read(
        broker: &dyn Broker,
        queues: BTreeSet<QueueName>,
        patience: Patience,
    ) -> Result<Self, BrokerError> {
        let mut all = HashMap::new();
        for queue in queues {
            let (_, revocations) = patience.insist(|| broker.revocations(&queue)).await?;
            all.insert(queue, Known::of(revocations));
        }
        Ok(Self(all))
    }

    /// Returns whether a task is revoked, and then whether what runs of it is ended.
    pub(crate) fn of(
        &self,
        queue: &QueueName,
        header: &Header,
        envelope: &Envelope,
    ) -> Option<bool> {
        let known = self.0.get(queue)?;
        let rules = known
            .rules
            .iter()
            .filter(|rule| rule.of.is_of(header, envelope));
        let of_rules = rules.map(|rule| rule.terminate).max();
        of_rules.max(known.ids.get(&header.id).copied())
    }

    /// As [`of`](Self::of), by the id alone.
    pub(crate) fn of_id(&self, queue: &QueueName, id: TaskId) -> Option<bool> {
        self.0.get(queue)?.ids.get(&id).copied()
    }
}

impl Known {
    fn of(all: Vec<Revocation>) -> Self {
        let mut known = Self::default();
        for revocation in all {
            if let Selector::Id(id) = revocation.of {
                *known.ids.entry(id).or_default() |= revocation.terminate;
            } else {
                known.rules.push(revocation);
            }
        }
        known
    }
}
