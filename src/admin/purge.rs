//! Purging a queue: what waits in it ends for good, and counts as cancelled.

use std::cell::Cell;

use celeriac_actors::ids::QueueName;
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::{Broker, BrokerError, QueueStatus};
use celeriac_actors::state::TaskState;

use crate::look::Patience;
use crate::look::search::stored;

/// Returns how many tasks there are in each state that is meant: those that are ready always are.
pub(crate) fn parts(
    status: Option<&QueueStatus>,
    (scheduled, retrying): (bool, bool),
) -> Vec<(TaskState, u64)> {
    let asked = [
        (TaskState::Ready, true),
        (TaskState::Scheduled, scheduled),
        (TaskState::Retrying, retrying),
    ];
    let asked = asked.into_iter().filter(|(_, is_asked)| *is_asked);
    let count = |state| status.map_or(0, |status| stored(status, state));
    asked.map(|(state, _)| (state, count(state))).collect()
}

/// A purge under way.
pub(crate) struct Purge<'a> {
    broker: &'a dyn Broker,
    queue: &'a QueueName,
    patience: Patience,
    /// How many tasks were ended.
    pub(crate) purged: u64,
    /// Whether a step may have ended tasks that its lost reply did not tell of.
    is_unsure: Cell<bool>,
}

impl<'a> Purge<'a> {
    pub(crate) const fn new(
        broker: &'a dyn Broker,
        queue: &'a QueueName,
        patience: Patience,
    ) -> Self {
        Self {
            broker,
            queue,
            patience,
            purged: 0,
            is_unsure: Cell::new(false),
        }
    }

    /// Returns whether more may have been ended than is counted.
    pub(crate) const fn is_unsure(&self) -> bool {
        self.is_unsure.get()
    }

    /// Ends as many tasks as `parts` say, so that it ends however much comes, and at most `most`.
    pub(crate) async fn all(
        &mut self,
        parts: &[(TaskState, u64)],
        most: u64,
    ) -> Result<(), BrokerError> {
        for (state, count) in parts {
            let mut left = (*count).min(most.saturating_sub(self.purged));
            while left > 0 {
                let size = u32::try_from(left).unwrap_or(MAX_BATCH).min(MAX_BATCH);
                let step = async || {
                    let ended = self.broker.purge(self.queue, *state, size).await;
                    if ended.as_ref().is_err_and(|error| error.is_unknown()) {
                        self.is_unsure.set(true);
                    }
                    ended
                };
                let ended = u64::from(self.patience.insist(step).await?);
                if ended == 0 {
                    break;
                }
                self.purged += ended;
                left = left.saturating_sub(ended);
            }
        }
        Ok(())
    }

    /// Returns what the audit says.
    pub(crate) fn audited(&self, parts: &[(TaskState, u64)]) -> String {
        let states: Vec<&str> = parts.iter().map(|(state, _)| state.as_str()).collect();
        format!("{} purged: {}", self.purged, states.join(", "))
    }
}
