//! The producer: makes frames of tasks and adds them to the broker, each once per call however often a reply is lost.
//!
//! A call goes through a *channel*: a random identity whose calls are numbered. A call whose outcome is unknown is
//! repeated under its own number, which adds nothing twice. A channel whose last call was given up on (its time ran
//! out, or its future was dropped) is never used again, so a late arrival of that call cannot disturb a later one.
//!
//! Where a producer has a [`Spool`], what the broker does not take goes there, and its newer tasks behind it.

mod batch;
mod elsewhere;
mod error;
mod options;
mod send;
#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::send::Channels;
use crate::asked;
use crate::envelope::Envelope;
use crate::frame::{FrameError, FrameLimits, encode, encode_value, open};
use crate::header::Header;
use crate::hooks::{Enqueueing, HookLine};
use crate::ids::{QueueName, TaskId, TaskName};
use crate::ports::{Broker, NewTask, Spool, When};
use crate::route::queue_for;
use crate::task::Task;
use crate::time::Clock;

pub use self::elsewhere::{Elsewhere, Step};
pub use self::error::EnqueueError;
pub use self::options::{EnqueueOptions, ProducerOptions, TaskHandle};

/// How many tasks were acknowledged, and by whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// By the broker.
    pub accepted: usize,
    /// By the spool: the broker gets them when it is back.
    pub spooled: usize,
}

impl Added {
    /// Returns how many were acknowledged by either.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.accepted + self.spooled
    }
}

/// A task ready to be added.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where it will be.
    pub handle: TaskHandle,
    task: NewTask,
}

impl Prepared {
    /// Takes a stored form as it is; its id is read from it.
    ///
    /// # Errors
    /// When the bytes are no task.
    pub fn of(queue: QueueName, task: NewTask) -> Result<Self, FrameError> {
        let id = Header::read(&task.frame)?.id;
        let handle = TaskHandle { queue, id };
        Ok(Self { handle, task })
    }

    /// Returns the stored form of the task, and when it becomes ready.
    #[must_use]
    pub const fn task(&self) -> &NewTask {
        &self.task
    }
}

/// What all tasks of one kind have in common when they are enqueued: found once for many of them.
#[derive(Clone, Debug)]
pub struct KindRoute {
    name: TaskName,
    queue: QueueName,
}

/// The queue of tasks that nothing else is known of.
const DEFAULT_QUEUE: &str = "default";

/// Asks the hooks whether these tasks may be added.
async fn ask(
    hooks: &HookLine,
    tasks: &[Prepared],
    limits: &FrameLimits,
) -> Result<(), EnqueueError> {
    for prepared in tasks {
        let frame = &prepared.task.frame;
        let header = Header::read(frame).map_err(FrameError::from)?;
        let envelope = open(&header, frame, limits)?.envelope;
        let task = Enqueueing {
            id: header.id,
            task: envelope.task,
            queue: prepared.handle.queue.clone(),
            headers: envelope.headers,
        };
        if let Err(reason) = hooks.before_enqueue(&task).await {
            let task = task.task;
            return Err(EnqueueError::Vetoed { task, reason });
        }
    }
    Ok(())
}

fn with_sensitive(mut options: EnqueueOptions, paths: &[&str]) -> EnqueueOptions {
    let more = paths.iter().map(|path| (*path).to_owned());
    options.sensitive.extend(more);
    options
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
    channels: Channels,
}

impl Producer {
    /// Creates a producer on a broker.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, options: ProducerOptions) -> Self {
        let channels = Channels::default();
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

    /// Returns the spool, where there is one.
    #[must_use]
    pub fn spool(&self) -> Option<&Arc<dyn Spool>> {
        self.inner.options.spool.as_ref()
    }

    /// Returns the bounds of frames.
    #[must_use]
    pub fn limits(&self) -> &FrameLimits {
        &self.inner.options.limits
    }

    /// Makes a frame of a task, without adding it.
    ///
    /// # Errors
    /// [`EnqueueError::Name`], [`EnqueueError::Asked`], [`EnqueueError::Frame`].
    pub fn prepare<T: Task>(
        &self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        check_kind::<T>(&options)?;
        let args = encode_value(task)?;
        let options = with_sensitive(options, T::SENSITIVE);
        self.prepare_encoded(&TaskName::new(T::NAME)?, T::QUEUE, &args, options)
    }

    /// Makes a frame of a task given by name, without adding it. Where the producer knows the program's tasks
    /// ([`ProducerOptions::known`]), one that it does not know, or arguments that its kind does not take, are refused.
    ///
    /// # Errors
    /// [`EnqueueError::Unknown`], [`EnqueueError::Misfit`] with the place that is wrong, [`EnqueueError::Name`],
    /// [`EnqueueError::Frame`].
    pub fn prepare_named<A: serde::Serialize + ?Sized>(
        &self,
        name: &str,
        args: &A,
        options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        let name = TaskName::new(name)?;
        let args = encode_value(args)?;
        let Some(known) = &self.inner.options.known else {
            return self.prepare_encoded(&name, DEFAULT_QUEUE, &args, options);
        };
        let Some(queue) = known.queue_of(&name) else {
            return Err(EnqueueError::Unknown {
                nearest: known.nearest(&name),
                task: name,
            });
        };
        if let Some(misfit) = known.misfit(&name, &args, self.limits()) {
            return Err(EnqueueError::Misfit { task: name, misfit });
        }
        let options = with_sensitive(options, known.sensitive(&name));
        self.prepare_encoded(&name, queue, &args, options)
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
    /// [`EnqueueError::Asked`], [`EnqueueError::Frame`].
    pub fn prepare_on<T: Task>(
        &self,
        route: &KindRoute,
        task: &T,
        mut options: EnqueueOptions,
    ) -> Result<Prepared, EnqueueError> {
        check_kind::<T>(&options)?;
        let args = encode_value(task)?;
        options = with_sensitive(options, T::SENSITIVE);
        let queue = options.queue.take();
        let queue = queue.unwrap_or_else(|| route.queue.clone());
        self.prepare_for(queue, route.name.clone(), &args, options)
    }

    /// Makes a frame of a task given by name and encoded arguments, without adding it. `kind_queue` is the queue of its
    /// kind, for where neither `options` nor a route says otherwise.
    ///
    /// # Errors
    /// [`EnqueueError::Name`], [`EnqueueError::Asked`], [`EnqueueError::Frame`].
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
        asked::check(&options.overrides, &options.headers, None)?;
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
            sensitive: options.sensitive,
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

    /// Adds one task; returns when the broker, or else the spool, has acknowledged it.
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
}

/// Checks what is asked for a task whose kind is known by its type.
fn check_kind<T: Task>(options: &EnqueueOptions) -> Result<(), EnqueueError> {
    if options.overrides.is_empty() {
        return Ok(());
    }
    Ok(asked::check(
        &options.overrides,
        &options.headers,
        Some(&T::policy()),
    )?)
}
