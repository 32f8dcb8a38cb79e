//! Calls on their way to the broker, each through a channel of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::batch::calls;
use super::{EnqueueError, Prepared, Producer};
use crate::backoff::Backoff;
use crate::ids::{ChannelId, QueueName};
use crate::ports::{BrokerError, EnqueueCall, EnqueueKind, NewTask};
use crate::time::Timestamp;

/// One line of numbered calls.
#[derive(Clone, Copy, Debug)]
struct Channel {
    id: ChannelId,
    last: u64,
}

impl Channel {
    /// A line of its own, without a call.
    fn fresh() -> Self {
        Self {
            id: ChannelId::random(),
            last: 0,
        }
    }
}

/// The channels that are not in use, by queue.
#[derive(Debug, Default)]
pub(super) struct Channels(Mutex<HashMap<QueueName, Vec<Channel>>>);

impl Channels {
    /// Takes one for a call.
    fn checkout(&self, queue: &QueueName) -> Channel {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = channels.get_mut(queue).and_then(Vec::pop);
        free.unwrap_or_else(Channel::fresh)
    }

    /// Gives one back that may be used for the next call.
    fn checkin(&self, queue: &QueueName, channel: Channel) {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(queue.clone()).or_default().push(channel);
    }
}

impl Producer {
    /// Adds prepared tasks in calls of at most 500 tasks and 4 MiB, the tasks of one queue in their order.
    ///
    /// # Errors
    /// [`EnqueueError`] at the first call that fails. `accepted` counts tasks in the order queue by queue.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome of one call unknown; those before it were acknowledged.
    pub async fn add(&self, tasks: Vec<Prepared>) -> Result<(), EnqueueError> {
        let mut accepted = 0;
        for (queue, tasks) in calls(tasks) {
            let count = tasks.len();
            self.call(queue, tasks, accepted).await?;
            accepted += count;
        }
        Ok(())
    }

    async fn call(
        &self,
        queue: QueueName,
        tasks: Vec<NewTask>,
        accepted: usize,
    ) -> Result<(), EnqueueError> {
        let channel = self.inner.channels.checkout(&queue);
        let count = tasks.len();
        let call = Arc::new(EnqueueCall {
            queue,
            channel: channel.id,
            number: channel.last + 1,
            tasks,
            kind: EnqueueKind::New,
            remember: self.inner.options.remember,
        });
        match self.repeat(&call).await {
            Ok(_) => {
                let used = Channel {
                    id: call.channel,
                    last: call.number,
                };
                self.inner.channels.checkin(&call.queue, used);
                Ok(())
            }
            Err(BrokerError::Refused(reason)) => {
                // Nothing happened, so the number is still free and the channel still good.
                self.inner.channels.checkin(&call.queue, channel);
                Err(EnqueueError::Refused { accepted, reason })
            }
            Err(BrokerError::Unavailable(reason)) => Err(EnqueueError::Unavailable {
                accepted,
                unknown: count,
                reason,
            }),
            Err(error) => Err(EnqueueError::Rejected {
                accepted,
                reason: error.to_string(),
            }),
        }
    }

    /// Makes one call, again and again while its outcome is unknown and there is time.
    ///
    /// # Errors
    /// The last answer when the time is over, or the first that is not [`BrokerError::Unavailable`].
    pub async fn repeat(&self, call: &Arc<EnqueueCall>) -> Result<Timestamp, BrokerError> {
        let deadline = Instant::now() + self.inner.options.timeout;
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let mut failures = 0;
        loop {
            let reason =
                match timeout_at(deadline, self.inner.broker.enqueue(Arc::clone(call))).await {
                    Ok(Err(BrokerError::Unavailable(reason))) => reason,
                    // An earlier try may have been carried out: that it is refused now does not undo it.
                    Ok(Err(BrokerError::Refused(reason))) if failures > 0 => reason,
                    Ok(outcome) => return outcome,
                    Err(_) => "no answer in time".to_owned(),
                };
            failures += 1;
            let delay = backoff.delay(failures, &mut rand::rng());
            if Instant::now() + delay >= deadline {
                return Err(BrokerError::Unavailable(reason));
            }
            sleep(delay).await;
        }
    }
}
