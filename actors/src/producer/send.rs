//! Calls on their way to the broker, each through a channel of its own, or into the spool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::batch::calls;
use super::options::REMEMBER_SPOOLED;
use super::{Added, EnqueueError, Prepared, Producer, Step};
use crate::backoff::Backoff;
use crate::ids::{ChannelId, QueueName};
use crate::ports::{BrokerError, EnqueueCall, EnqueueKind, NewTask, Sent, Spool, SpoolError, When};
use crate::time::Timestamp;

/// How long a call may go unanswered before it goes to the spool, where there is one. A little longer than brokers take
/// to say that they cannot be reached, which is more certain than no answer.
const SPOOL_AFTER: Duration = Duration::from_millis(2_500);

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

    /// Returns one that is not in use.
    #[cfg(all(test, feature = "testkit"))]
    pub(super) fn any(&self, queue: &QueueName) -> ChannelId {
        let channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels[queue][0].id
    }

    /// Gives one back that may be used for the next call.
    fn checkin(&self, queue: &QueueName, channel: Channel) {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(queue.clone()).or_default().push(channel);
    }
}

/// Where the tasks of one call are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Broker,
    Spool,
}

impl Producer {
    /// Adds prepared tasks in calls of at most 500 tasks and 4 MiB, the tasks of one queue in their order; returns when
    /// each is acknowledged by the broker or, where there is one, by the spool.
    ///
    /// # Errors
    /// [`EnqueueError`] at the first call that fails. `accepted` counts tasks in the order queue by queue.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome of one call unknown; those before it were acknowledged.
    pub async fn add(&self, tasks: Vec<Prepared>) -> Result<Added, EnqueueError> {
        if let Some(elsewhere) = &self.inner.options.elsewhere {
            return elsewhere.take(tasks, Step::VetAndAdd).await;
        }
        self.vet(&tasks).await?;
        self.add_vetted(tasks).await
    }

    /// Asks the hooks whether all these tasks may be added, without adding any: for who must know before it commits to them.
    ///
    /// # Errors
    /// [`EnqueueError::Vetoed`] by the first that is refused.
    pub async fn vet(&self, tasks: &[Prepared]) -> Result<(), EnqueueError> {
        if let Some(elsewhere) = &self.inner.options.elsewhere {
            elsewhere.take(tasks.to_vec(), Step::Vet).await?;
            return Ok(());
        }
        match &self.inner.options.hooks {
            Some(hooks) => super::ask(hooks, tasks, &self.inner.options.limits).await,
            None => Ok(()),
        }
    }

    /// As [`add`](Self::add), for tasks that the hooks were asked about before, with [`vet`](Self::vet).
    ///
    /// # Errors
    /// As [`add`](Self::add), but for a veto.
    ///
    /// # Cancel safety
    /// As [`add`](Self::add).
    pub async fn add_vetted(&self, tasks: Vec<Prepared>) -> Result<Added, EnqueueError> {
        if let Some(elsewhere) = &self.inner.options.elsewhere {
            return elsewhere.take(tasks, Step::Add).await;
        }
        let mut added = Added::default();
        for (queue, tasks) in calls(tasks) {
            let count = tasks.len();
            let call = self.call(queue, tasks).await;
            match call.map_err(|error| error.after(added.total()))? {
                Place::Broker => added.accepted += count,
                Place::Spool => added.spooled += count,
            }
        }
        Ok(added)
    }

    async fn call(&self, queue: QueueName, tasks: Vec<NewTask>) -> Result<Place, EnqueueError> {
        let begun = self.inner.clock.now();
        let spool = self.inner.options.spool.as_ref();
        if let Some(spool) = spool
            && spool.holds(&queue).map_err(|error| not_spooled(&error))?
        {
            let call = self.make(queue, Channel::fresh(), tasks);
            return self
                .put(spool, call, (Sent::Never, begun), "others wait in it")
                .await;
        }
        let channel = self.inner.channels.checkout(&queue);
        let is_fresh = channel.last == 0;
        let call = Arc::new(self.make(queue, channel, tasks));
        match self.attempt(&call).await {
            // A server that went back in time does not know the channel as we do, so the call is not there: a new
            // channel may begin with it. What else is wrong with the call is wrong again.
            Err(BrokerError::Invalid(_)) if !is_fresh => {
                let (queue, tasks) = (call.queue.clone(), call.tasks.clone());
                let call = Arc::new(self.make(queue, Channel::fresh(), tasks));
                let outcome = self.attempt(&call).await;
                self.settle(call, outcome, begun).await
            }
            outcome => self.settle(call, outcome, begun).await,
        }
    }

    fn make(&self, queue: QueueName, channel: Channel, tasks: Vec<NewTask>) -> EnqueueCall {
        let options = &self.inner.options;
        let spooled = options.spool.as_ref().map(|_| REMEMBER_SPOOLED);
        EnqueueCall {
            queue,
            channel: channel.id,
            number: channel.last + 1,
            tasks,
            kind: EnqueueKind::New,
            remember: options.remember.max(spooled.unwrap_or_default()),
        }
    }

    /// Makes a call as often as it is worth while: once where a spool takes it otherwise.
    async fn attempt(&self, call: &Arc<EnqueueCall>) -> Result<Timestamp, BrokerError> {
        let options = &self.inner.options;
        if options.spool.is_none() {
            return self.repeat(call).await;
        }
        let deadline = Instant::now() + options.timeout.min(SPOOL_AFTER);
        self.once(call, deadline).await
    }

    /// Decides what becomes of a call.
    async fn settle(
        &self,
        call: Arc<EnqueueCall>,
        outcome: Result<Timestamp, BrokerError>,
        begun: Timestamp,
    ) -> Result<Place, EnqueueError> {
        let (error, last) = match outcome {
            Ok(_) => (None, call.number),
            // Nothing happened, so the number is still free and the channel still good.
            Err(error @ (BrokerError::Away(_) | BrokerError::Refused(_))) => {
                (Some(error), call.number - 1)
            }
            Err(BrokerError::Unavailable(reason)) => {
                let Some(spool) = &self.inner.options.spool else {
                    return Err(open(call, reason));
                };
                let call = Arc::unwrap_or_clone(call);
                return self.put(spool, call, (Sent::Perhaps, begun), &reason).await;
            }
            Err(error) => {
                let (accepted, reason) = (0, error.to_string());
                return Err(EnqueueError::Rejected { accepted, reason });
            }
        };
        let id = call.channel;
        let channels = &self.inner.channels;
        channels.checkin(&call.queue, Channel { id, last });
        match (error, &self.inner.options.spool) {
            (None, _) => Ok(Place::Broker),
            (Some(error), Some(spool)) => {
                let call = Arc::unwrap_or_clone(call);
                self.put(spool, call, (Sent::Never, begun), &error.to_string())
                    .await
            }
            (Some(BrokerError::Refused(reason)), None) => Err(EnqueueError::Refused {
                accepted: 0,
                reason,
            }),
            (Some(BrokerError::Away(reason)), None) => Err(never(reason)),
            (Some(error), None) => Err(never(error.to_string())),
        }
    }

    /// Makes one call, again and again while the broker is away and there is time.
    ///
    /// # Errors
    /// When the time is over, [`BrokerError::Unavailable`] if any try may have been carried out, else the last answer;
    /// before that, the first answer that is not an outage.
    pub async fn repeat(&self, call: &Arc<EnqueueCall>) -> Result<Timestamp, BrokerError> {
        let deadline = Instant::now() + self.inner.options.timeout;
        let backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        let (mut failures, mut unknown) = (0, false);
        loop {
            let begun = Instant::now();
            let error = match self.once(call, deadline).await {
                // An earlier try may have been carried out: that it is refused now does not undo it.
                Err(error @ BrokerError::Refused(_)) if !unknown => return Err(error),
                Err(error) if error.is_outage() => error,
                outcome => return outcome,
            };
            unknown |= error.is_unknown();
            failures += 1;
            let delay = backoff.delay(failures, &mut rand::rng());
            // A try that is cut off leaves open what was certain: as long as nothing is open, the next must have the time
            // that this one took.
            let took = if unknown {
                Duration::ZERO
            } else {
                begun.elapsed()
            };
            if Instant::now() + delay + took >= deadline {
                return Err(match error {
                    BrokerError::Away(reason) | BrokerError::Refused(reason) if unknown => {
                        BrokerError::Unavailable(reason)
                    }
                    error => error,
                });
            }
            sleep(delay).await;
        }
    }

    /// Hands a call to the spool; `why` it comes there is for people.
    async fn put(
        &self,
        spool: &Arc<dyn Spool>,
        mut call: EnqueueCall,
        (sent, begun): (Sent, Timestamp),
        why: &str,
    ) -> Result<Place, EnqueueError> {
        if sent == Sent::Never {
            // It counts from now, however long it waits there.
            for task in &mut call.tasks {
                if let When::After(delay) = task.when {
                    task.when = When::At(begun.plus(delay));
                }
            }
        }
        let call = Arc::new(call);
        let written = timeout(
            self.inner.options.timeout,
            spool.put(Arc::clone(&call), sent),
        )
        .await;
        let late = || Err(SpoolError::Unknown("no answer in time".to_owned()));
        let Err(error) = written.unwrap_or_else(|_| late()) else {
            return Ok(Place::Spool);
        };
        let reason = format!("{why}; {error}");
        Err(match (sent, error) {
            (Sent::Perhaps, _) => open(call, reason),
            (Sent::Never, SpoolError::Unknown(_)) => EnqueueError::Unavailable {
                accepted: 0,
                unknown: call.tasks.len(),
                reason,
                call: None,
            },
            (Sent::Never, SpoolError::Full(_)) => EnqueueError::Refused {
                accepted: 0,
                reason,
            },
            (Sent::Never, SpoolError::Failed(_)) => never(reason),
        })
    }

    async fn once(
        &self,
        call: &Arc<EnqueueCall>,
        deadline: Instant,
    ) -> Result<Timestamp, BrokerError> {
        let answer = self.inner.broker.enqueue(Arc::clone(call));
        let in_time = timeout_at(deadline, answer).await;
        in_time.unwrap_or_else(|_| Err(BrokerError::Unavailable("no answer in time".to_owned())))
    }
}

/// The error of a call whose outcome is open.
fn open(call: Arc<EnqueueCall>, reason: String) -> EnqueueError {
    EnqueueError::Unavailable {
        accepted: 0,
        unknown: call.tasks.len(),
        reason,
        call: Some(call),
    }
}

/// The error of a call that was never made.
const fn never(reason: String) -> EnqueueError {
    EnqueueError::Unavailable {
        accepted: 0,
        unknown: 0,
        reason,
        call: None,
    }
}

/// The error of a spool that does not say whether something waits in it: to go past it could overtake what does.
fn not_spooled(error: &SpoolError) -> EnqueueError {
    never(format!(
        "{error} (tasks may wait in it, so none goes past it)"
    ))
}
