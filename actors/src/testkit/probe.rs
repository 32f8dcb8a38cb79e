//! The probe: writes down what happens to tasks and what is logged, and waits for it.
//!
//! A test never sleeps: it waits for what it wants to see, and fails with everything that was seen instead when that
//! does not come.

use std::fmt::{self, Write};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use slog::{Drain, Logger, Never, OwnedKVList, Record, Serializer, o};
use tokio::sync::watch;

use crate::events::{Observer, TaskEvent};
use crate::ids::{QueueName, TaskId, TaskName};
use crate::lease::Outcome;

/// How long a probe waits before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The most events and the most lines kept; later ones are only counted.
const KEPT: usize = 200_000;

/// How an attempt ended for its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is done.
    Succeeded,
    /// It failed and is tried again.
    Retried,
    /// It was undone, not counted.
    Released,
    /// It is a dead letter now.
    Died,
    /// It was revoked.
    Cancelled,
    /// It came too late.
    Expired,
}

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The task.
    pub id: TaskId,
    /// Its kind.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Which attempt, 1-based.
    pub attempt: u16,
    /// How it ended; `None` when it started.
    pub end: Option<End>,
}

/// Writes down what happens. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Probe {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    events: Mutex<Vec<Event>>,
    lines: Mutex<Vec<String>>,
    pulse: watch::Sender<()>,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// Creates a probe that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                events: Mutex::default(),
                lines: Mutex::default(),
                pulse: watch::Sender::new(()),
            }),
        }
    }

    /// Returns a logger whose lines the probe keeps.
    pub fn logger(&self) -> Logger {
        Logger::root(Lines(AssertUnwindSafe(self.clone())), o!())
    }

    /// Returns everything that happened to attempts so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        lock(&self.inner.events).clone()
    }

    /// Returns how many events look like that.
    #[must_use]
    pub fn count(&self, looks: impl Fn(&Event) -> bool) -> usize {
        lock(&self.inner.events).iter().filter(|e| looks(e)).count()
    }

    /// Returns how often a task was started.
    #[must_use]
    pub fn starts(&self, id: TaskId) -> usize {
        self.count(|event| event.id == id && event.end.is_none())
    }

    /// Returns how the attempts of a task ended, in order.
    #[must_use]
    pub fn ends(&self, id: TaskId) -> Vec<End> {
        let events = lock(&self.inner.events);
        let ends = events.iter().filter(|event| event.id == id);
        ends.filter_map(|event| event.end).collect()
    }

    /// Returns the lines logged so far that contain `text`.
    #[must_use]
    pub fn logged(&self, text: &str) -> Vec<String> {
        let lines = lock(&self.inner.lines);
        let found = lines.iter().filter(|line| line.contains(text));
        found.cloned().collect()
    }

    /// Waits until the events look as `looks` wants them.
    ///
    /// # Panics
    /// With everything that was seen, when that does not happen within [`PATIENCE`].
    pub async fn wait_for(&self, looks: impl Fn(&[Event]) -> bool) {
        self.until(|| looks(&lock(&self.inner.events))).await;
    }

    /// Waits until a task was started `times` times.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_start(&self, id: TaskId, times: usize) {
        self.until(|| self.starts(id) >= times).await;
    }

    /// Waits until an attempt of a task ended like that.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_end(&self, id: TaskId, end: End) {
        self.until(|| self.ends(id).contains(&end)).await;
    }

    /// Waits until a line that contains `text` is logged, and returns it.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_line(&self, text: &str) -> String {
        self.until(|| !self.logged(text).is_empty()).await;
        self.logged(text).swap_remove(0)
    }

    /// Waits until `holds`, which is asked after each event and now and then.
    ///
    /// # Panics
    /// As [`wait_for`](Self::wait_for).
    pub async fn until(&self, holds: impl Fn() -> bool) {
        let mut pulse = self.inner.pulse.subscribe();
        let waits = async {
            while !holds() {
                // Not everything that a test waits for is an event.
                let _either = tokio::time::timeout(Duration::from_millis(5), pulse.changed()).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waits).await;
        assert!(in_time.is_ok(), "it does not happen; this did:\n{self}");
    }

    fn beat(&self) {
        self.inner.pulse.send_replace(());
    }
}

impl fmt::Display for Probe {
    /// Writes the last lines and events.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        for line in last(&lock(&self.inner.lines), SHOWN) {
            writeln!(f, "  {line}")?;
        }
        for event in last(&lock(&self.inner.events), SHOWN) {
            writeln!(f, "  {event}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            task,
            queue,
            attempt,
            end,
        } = self;
        let what = end.map_or_else(|| "Started".to_owned(), |end| format!("{end:?}"));
        write!(f, "{what} {task} #{attempt} of {queue}, {id}")
    }
}

impl Observer for Probe {
    fn task(&self, event: &TaskEvent<'_>) {
        let (context, end) = match event {
            TaskEvent::Started { context } => (context, None),
            TaskEvent::Ended {
                context, outcome, ..
            } => (context, Some(end_of(outcome))),
            TaskEvent::Received { .. } | TaskEvent::Refused { .. } => return,
        };
        let mut events = lock(&self.inner.events);
        if events.len() < KEPT {
            events.push(Event {
                id: context.id(),
                task: context.task().clone(),
                queue: context.queue().clone(),
                attempt: context.number(),
                end,
            });
        }
        drop(events);
        self.beat();
    }
}

fn end_of(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Succeed { .. } => End::Succeeded,
        Outcome::Retry { .. } => End::Retried,
        Outcome::Release { .. } => End::Released,
        Outcome::Bury { .. } => End::Died,
        Outcome::Cancel { .. } => End::Cancelled,
        Outcome::Expire { .. } => End::Expired,
    }
}

/// The drain of a probe's logger.
struct Lines(AssertUnwindSafe<Probe>);

impl Drain for Lines {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        use slog::KV;
        let mut line = Line(format!("{} {}", record.level(), record.msg()));
        // Writing to a text does not fail.
        let _written = record.kv().serialize(record, &mut line);
        let _written = values.serialize(record, &mut line);
        let mut lines = lock(&self.0.inner.lines);
        if lines.len() < KEPT {
            lines.push(line.0);
        }
        drop(lines);
        self.0.beat();
        Ok(())
    }
}

/// One line: the message, then ` key=value` for each value.
struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}

fn last<T>(all: &[T], count: usize) -> &[T] {
    &all[all.len().saturating_sub(count)..]
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
