//! The producer: makes frames of tasks and adds them to the broker, each once per call however often a reply is lost.
//!
//! A call goes through a *channel*: a random identity whose calls are numbered. A call whose outcome is unknown is
//! repeated under its own number, which adds nothing twice. A channel whose last call was given up on (its time ran
//! out, or its future was dropped) is never used again, so a late arrival of that call cannot disturb a later one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backoff::Backoff;
use crate::envelope::{Envelope, Overrides};
use crate::frame::{FrameError, FrameLimits, encode, encode_value};
use crate::header::{Header, Priority};
use crate::ids::{ChannelId, NameError, QueueName, TaskId, TaskName};
use crate::lease::MAX_BATCH;
use crate::ports::{Broker, BrokerError, EnqueueCall, EnqueueKind, NewTask, When};
use crate::route::{Route, queue_for};
use crate::task::Task;
use crate::time::{Clock, Timestamp};

/// The most bytes of frames in one call; a single larger frame travels alone.
const MAX_CALL_BYTES: usize = 4 << 20;

/// How long the broker remembers a channel's last call, usually.
const REMEMBER: Duration = Duration::from_secs(3_600);

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

    /// Keeps its final state for whoever will wait for it, even where results are off.
    #[must_use]
    pub fn want_outcome(mut self) -> Self {
        self.want_outcome = true;
        self
    }

    /// Attaches a text.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(key.into(), value.into());
        self
    }
}

/// Why tasks were not enqueued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The task's name or queue cannot be used. Nothing was added.
    #[error("the task cannot be enqueued")]
    Name(#[from] NameError),
    /// The task does not fit into a frame. Nothing was added.
    #[error("the task cannot be enqueued")]
    Frame(#[from] FrameError),
    /// The broker refuses new tasks now (full disk, memory limit). Of the tasks given, the first `accepted` were added.
    #[error("the broker refuses new tasks, {accepted} were accepted: {reason}")]
    Refused {
        /// How many tasks of the call were added.
        accepted: usize,
        /// What the broker said.
        reason: String,
    },
    /// The broker did not answer in time. The first `accepted` tasks were added; up to `unknown` more may have been.
    #[error(
        "the broker is unavailable, {accepted} tasks were accepted and {unknown} may have been: {reason}"
    )]
    Unavailable {
        /// How many tasks of the call were added for certain.
        accepted: usize,
        /// How many more may have been added.
        unknown: usize,
        /// What the last attempt said.
        reason: String,
    },
    /// The broker rejects the call as it is. The first `accepted` tasks were added.
    #[error("the broker rejects the call, {accepted} tasks were accepted: {reason}")]
    Rejected {
        /// How many tasks of the call were added.
        accepted: usize,
        /// What the broker said.
        reason: String,
    },
}

impl EnqueueError {
    /// Counts tasks that were accepted in earlier calls into the error.
    #[must_use]
    pub fn after(mut self, earlier: usize) -> Self {
        match &mut self {
            Self::Refused { accepted, .. }
            | Self::Unavailable { accepted, .. }
            | Self::Rejected { accepted, .. } => *accepted += earlier,
            Self::Name(_) | Self::Frame(_) => {}
        }
        self
    }
}

/// A task ready to be added.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where it will be.
    pub handle: TaskHandle,
    task: NewTask,
}

/// What all tasks of one kind have in common when they are enqueued: found once for many of them.
#[derive(Clone, Debug)]
pub struct KindRoute {
    name: TaskName,
    queue: QueueName,
}

/// Adds tasks to the broker. Cloning shares it; safe to use from any thread inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    options: ProducerOptions,
    channels: Mutex<HashMap<QueueName, Vec<Channel>>>,
}

/// How a producer behaves.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Which queue a task goes to by its name, first match wins.
    pub routes: Vec<Route>,
    /// The bounds of frames.
    pub limits: FrameLimits,
    /// How long a call is repeated while the broker is away. Default 10 s.
    pub timeout: Duration,
    /// How long the broker remembers a channel's last call, so that it can be repeated. Longer than `timeout`; default
    /// 1 h.
    pub remember: Duration,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            limits: FrameLimits::default(),
            timeout: Duration::from_secs(10),
            remember: REMEMBER,
        }
    }
}

/// One line of numbered calls.
#[derive(Clone, Copy, Debug)]
struct Channel {
    id: ChannelId,
    last: u64,
}

impl Channel {
    fn fresh() -> Self {
        Self {
            id: ChannelId::random(),
            last: 0,
        }
    }
}

impl Producer {
    /// Creates a producer on a broker.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, options: ProducerOptions) -> Self {
        let channels = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                broker,
                clock,
                options,
                channels,
            }),
        }
    }

    /// Returns the broker it adds to.
    #[must_use]
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.inner.broker
    }

    /// Returns the bounds of frames.
    #[must_use]
    pub fn limits(&self) -> &FrameLimits {
        &self.inner.options.limits
    }

    /// Makes a frame of a task, without adding it.
    ///
    /// # Errors
    /// [`EnqueueError::Name`], [`EnqueueError::Frame`].
    pub fn prepare<T: Task>(
        &self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        let args = encode_value(task)?;
        self.prepare_encoded(&TaskName::new(T::NAME)?, T::QUEUE, &args, options)
    }

    /// Returns where tasks of a kind go.
    ///
    /// # Errors
    /// [`EnqueueError::Name`].
    pub fn route<T: Task>(&self) -> Result<KindRoute, EnqueueError> {
        let name = TaskName::new(T::NAME)?;
        let queue = self.queue_of(&name, T::QUEUE)?;
        Ok(KindRoute { name, queue })
    }

    /// Makes a frame of a task whose route was looked up before, without adding it.
    ///
    /// # Errors
    /// [`EnqueueError::Frame`].
    pub fn prepare_on<T: Task>(
        &self,
        route: &KindRoute,
        task: &T,
        mut options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        let args = encode_value(task)?;
        let queue = options.queue.take();
        let queue = queue.unwrap_or_else(|| route.queue.clone());
        self.prepare_for(queue, route.name.clone(), &args, options)
    }

    /// Makes a frame of a task given by name and encoded arguments, without adding it. `kind_queue` is the queue of its
    /// kind, for where neither `options` nor a route says otherwise.
    ///
    /// # Errors
    /// [`EnqueueError::Name`], [`EnqueueError::Frame`].
    pub fn prepare_encoded(
        &self,
        name: &TaskName,
        kind_queue: &str,
        args: &[u8],
        mut options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        let queue = match options.queue.take() {
            Some(queue) => queue,
            None => self.queue_of(name, kind_queue)?,
        };
        self.prepare_for(queue, name.clone(), args, options)
    }

    fn prepare_for(
        &self,
        queue: QueueName,
        name: TaskName,
        args: &[u8],
        options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        let header = Header {
            compressed: false,
            want_outcome: options.want_outcome,
            priority: options.priority,
            deliveries: 0,
            strikes: 0,
            attempts: 0,
            id: options.id.unwrap_or_else(TaskId::fresh),
            enqueued_at: self.inner.clock.now(),
            expires_at: options.expires_at,
        };
        let envelope = Envelope {
            overrides: options.overrides,
            headers: options.headers,
            ..Envelope::new(name)
        };
        let frame = encode(header, &envelope, args, &self.inner.options.limits)?;
        let when = options.when.unwrap_or(When::Now);
        let handle = TaskHandle {
            queue,
            id: header.id,
        };
        Ok(Prepared {
            handle,
            task: NewTask { frame, when },
        })
    }

    /// Returns the queue of a kind of task: the first route that matches its name, else the queue of its kind.
    ///
    /// # Errors
    /// [`EnqueueError::Name`] when that is no name of a queue.
    pub fn queue_of(&self, name: &TaskName, kind_queue: &str) -> Result<QueueName, EnqueueError> {
        let routed = queue_for(&self.inner.options.routes, name.as_str());
        Ok(QueueName::new(routed.unwrap_or(kind_queue))?)
    }

    /// Adds one task; returns when the broker has acknowledged it.
    ///
    /// # Errors
    /// [`EnqueueError`]; whether the task may have been added is in it.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn enqueue<T: Task>(
        &self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<TaskHandle, EnqueueError> {
        let prepared = self.prepare(task, options)?;
        let handle = prepared.handle.clone();
        self.add(vec![prepared]).await?;
        Ok(handle)
    }

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
        let mut channel = self.checkout(&queue);
        let count = tasks.len();
        let mut call = Arc::new(EnqueueCall {
            queue,
            channel: channel.id,
            number: channel.last + 1,
            tasks,
            kind: EnqueueKind::New,
            remember: self.inner.options.remember,
        });
        let mut outcome = self.repeat(&call).await;
        if matches!(outcome, Err(BrokerError::Invalid(_))) && channel.last > 0 {
            // A broker that lost its last moments knows less of the channel than we do, and nothing of this call: it has
            // no effect under its number. On a channel of its own it does not matter what was lost.
            channel = Channel::fresh();
            let fresh = EnqueueCall {
                channel: channel.id,
                number: channel.last + 1,
                ..EnqueueCall::clone(&call)
            };
            call = Arc::new(fresh);
            outcome = self.repeat(&call).await;
        }
        match outcome {
            Ok(_) => {
                self.checkin(&call);
                Ok(())
            }
            Err(BrokerError::Refused(reason)) => {
                // Nothing happened, so the number is still free and the channel still good.
                self.release(&call.queue, channel);
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

    fn checkout(&self, queue: &QueueName) -> Channel {
        let mut channels = self
            .inner
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let free = channels.get_mut(queue).and_then(Vec::pop);
        free.unwrap_or_else(Channel::fresh)
    }

    fn checkin(&self, call: &EnqueueCall) {
        self.release(
            &call.queue,
            Channel {
                id: call.channel,
                last: call.number,
            },
        );
    }

    fn release(&self, queue: &QueueName, channel: Channel) {
        let mut channels = self
            .inner
            .channels
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        channels.entry(queue.clone()).or_default().push(channel);
    }
}

/// Splits tasks into calls: one queue each, at most 500 tasks and 4 MiB, order kept within a queue.
fn calls(tasks: Vec<Prepared>) -> Vec<(QueueName, Vec<NewTask>)> {
    type Batches = Vec<Vec<NewTask>>;
    let mut queues: Vec<(QueueName, Batches, usize)> = Vec::new();
    for Prepared { handle, task } in tasks {
        let at = queues
            .iter()
            .position(|(queue, ..)| *queue == handle.queue)
            .unwrap_or_else(|| {
                queues.push((handle.queue, vec![Vec::new()], 0));
                queues.len() - 1
            });
        let (_, batches, bytes) = &mut queues[at];
        let full = batches.last().is_some_and(|batch| {
            !batch.is_empty()
                && (batch.len() >= MAX_BATCH as usize || *bytes + task.frame.len() > MAX_CALL_BYTES)
        });
        if full {
            batches.push(Vec::new());
            *bytes = 0;
        }
        *bytes += task.frame.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(task);
        }
    }
    queues
        .into_iter()
        .flat_map(|(queue, batches, _)| {
            batches.into_iter().map(move |batch| (queue.clone(), batch))
        })
        .filter(|(_, batch)| !batch.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(queue: &str, bytes: usize) -> Prepared {
        let handle = TaskHandle {
            queue: QueueName::new(queue).unwrap(),
            id: TaskId::fresh(),
        };
        Prepared {
            handle,
            task: NewTask {
                frame: vec![0; bytes],
                when: When::Now,
            },
        }
    }

    #[test]
    fn calls_are_of_one_queue_and_bounded() {
        let mut tasks: Vec<_> = (0..1_200).map(|_| prepared("a", 10)).collect();
        tasks.insert(3, prepared("b", 10));
        let sizes: Vec<_> = calls(tasks)
            .iter()
            .map(|(q, t)| (q.to_string(), t.len()))
            .collect();
        let expect = [("a", 500), ("a", 500), ("a", 200), ("b", 1)];
        assert_eq!(sizes, expect.map(|(q, n)| (q.to_owned(), n)));
    }

    #[test]
    fn a_frame_larger_than_a_call_travels_alone() {
        let tasks = vec![
            prepared("a", 10),
            prepared("a", MAX_CALL_BYTES + 1),
            prepared("a", 10),
        ];
        let sizes: Vec<_> = calls(tasks).iter().map(|(_, t)| t.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
        assert!(calls(Vec::new()).is_empty());
    }

    /// Goal: a broker that went back in time, and so is behind a channel's numbers, takes new tasks at once.
    #[cfg(feature = "testkit")]
    #[tokio::test]
    async fn a_broker_that_forgot_calls_takes_the_next_on_a_fresh_channel() {
        let clock = Arc::new(crate::testkit::ManualClock::new());
        let broker = Arc::new(crate::testkit::MemoryBroker::new(clock.clone()));
        let producer = Producer::new(broker.clone(), clock, ProducerOptions::default());
        let frame = crate::testkit::conformance::frame(1, 5);
        let task = || {
            let mut prepared = prepared("a", 0);
            prepared.task.frame.clone_from(&frame);
            vec![prepared]
        };
        producer.add(task()).await.unwrap();
        for channel in producer
            .inner
            .channels
            .lock()
            .unwrap()
            .values_mut()
            .flatten()
        {
            channel.last += 5;
        }
        producer.add(task()).await.unwrap();
        producer.add(task()).await.unwrap();
        let queues = broker.queues().await.unwrap();
        assert_eq!((queues[0].ready, queues[0].counters.enqueued), (3, 3));
    }
}
