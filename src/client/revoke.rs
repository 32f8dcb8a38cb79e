//! Revoking tasks: one by its id, or all that a rule means.

use std::time::Duration;

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::ports::BrokerError;
use celeriac_actors::revocation::Revocation;
use celeriac_actors::time::Timestamp;

use super::Client;

/// Where a revocation holds, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeOptions {
    queue: Option<QueueName>,
    remember: Duration,
}

impl RevokeOptions {
    /// How long a revocation is remembered where nothing else is said: seven days.
    pub const REMEMBER: Duration = Duration::from_secs(7 * 86_400);

    /// Revokes in this queue only; by default in all of them.
    #[must_use]
    pub fn queue(mut self, queue: QueueName) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Remembers it for so long: longer than any of the tasks that are meant waits for its time.
    #[must_use]
    pub const fn remember(mut self, span: Duration) -> Self {
        self.remember = span;
        self
    }
}

impl Default for RevokeOptions {
    /// In all queues, for seven days.
    fn default() -> Self {
        Self {
            queue: None,
            remember: Self::REMEMBER,
        }
    }
}

impl Client {
    /// Revokes a task: it is cancelled before its start, or asked to stop when it runs. Remembered for seven days.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub async fn revoke(
        &self,
        queue: &QueueName,
        task: TaskId,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        let options = RevokeOptions::default().queue(queue.clone());
        self.revoke_with(&Revocation::id(task), options, now)
            .await
            .map(drop)
    }

    /// Revokes what `revocation` says, in one queue or in all that the broker has heard of; returns in which. Nobody needs to
    /// run: workers that start later know it, too.
    ///
    /// # Errors
    /// [`BrokerError`]. Some of the queues may know it then; to do it again is harmless.
    pub async fn revoke_with(
        &self,
        revocation: &Revocation,
        options: RevokeOptions,
        now: Timestamp,
    ) -> Result<Vec<QueueName>, BrokerError> {
        let queues = match options.queue {
            Some(queue) => vec![queue],
            None => {
                let known = self.broker().queues().await?;
                known.into_iter().map(|status| status.queue).collect()
            }
        };
        let forget_at = now.plus(options.remember);
        for queue in &queues {
            let all = std::slice::from_ref(revocation);
            self.broker().revoke(queue, all, forget_at).await?;
        }
        Ok(queues)
    }
}
