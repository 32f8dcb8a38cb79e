//! The meters of consumers, and their sums.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::histogram::{Count, Histogram, Spread};
use crate::ids::{QueueName, TaskName};
use crate::lease::Outcome;

/// The label of every kind of task that the program does not know.
pub const OTHER: &str = "other";

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Succeeded,
    /// The attempt failed; another one follows.
    Retried,
    /// The task is dead. Whether an attempt failed for it.
    Buried(bool),
    Revoked,
    Expired,
    /// Undone: snoozed, given back, without a breaker that lets it.
    Released,
}

impl Fate {
    /// Returns what an outcome means; `started` says whether an attempt ran.
    pub(crate) const fn of(outcome: &Outcome, started: bool) -> Self {
        match outcome {
            Outcome::Succeed { .. } => Self::Succeeded,
            Outcome::Retry { .. } => Self::Retried,
            Outcome::Release { .. } => Self::Released,
            Outcome::Bury { .. } => Self::Buried(started),
            Outcome::Cancel { .. } => Self::Revoked,
            Outcome::Expire { .. } => Self::Expired,
        }
    }
}

/// What is counted of one kind of task.
#[derive(Debug, Default)]
struct Counts {
    started: Count,
    succeeded: Count,
    failed: Count,
    retried: Count,
    buried: Count,
    revoked: Count,
    expired: Count,
    released: Count,
    wait: Histogram,
    run: Histogram,
}

/// The counts of one consumer.
#[derive(Debug)]
struct Page {
    queue: QueueName,
    /// By the number of the kind, and one more for all others; made when it is first met.
    kinds: Box<[OnceLock<Box<Counts>>]>,
}

impl Page {
    fn add_to(&self, names: &[TaskName], sums: &mut Sums) {
        for (kind, counts) in self.kinds.iter().enumerate() {
            if let Some(counts) = counts.get() {
                let label = names.get(kind).map_or(OTHER, |name| name.as_str());
                let key = (self.queue.clone(), label.to_owned());
                counts.add_to(sums.entry(key).or_default());
            }
        }
    }
}

/// What one consumer counts, on its thread alone. Dropping it leaves its figures with the [`Meters`].
#[derive(Debug)]
pub(crate) struct Meter {
    page: Arc<Page>,
    all: Meters,
}

impl Meter {
    fn counts(&self, kind: Option<usize>) -> &Counts {
        let other = self.page.kinds.len() - 1;
        let at = kind.map_or(other, |kind| kind.min(other));
        self.page.kinds[at].get_or_init(Box::default)
    }

    /// Returns the number of a kind, if the program knows it.
    pub(crate) fn number(&self, task: &TaskName) -> Option<usize> {
        self.all.number(task)
    }

    /// Counts the start of an attempt; a task's first one with how long it waited for it.
    pub(crate) fn started(&self, kind: usize, waited: Option<Duration>) {
        let counts = self.counts(Some(kind));
        counts.started.add(1);
        if let Some(waited) = waited {
            counts.wait.observe(waited);
        }
    }

    /// Counts the end of an attempt.
    pub(crate) fn ended(&self, kind: usize, fate: Fate, took: Duration) {
        let counts = self.counts(Some(kind));
        counts.end(fate);
        counts.run.observe(took);
    }

    /// Counts a task that ended before its start; `None` is a kind that is not known.
    pub(crate) fn refused(&self, kind: Option<usize>, fate: Fate) {
        self.counts(kind).end(fate);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let mut book = lock(&self.all.book);
        book.live.retain(|page| !Arc::ptr_eq(page, &self.page));
        self.page.add_to(&self.all.names, &mut book.ended);
    }
}

impl Counts {
    fn end(&self, fate: Fate) {
        let failed = matches!(fate, Fate::Retried | Fate::Buried(true));
        if failed {
            self.failed.add(1);
        }
        let count = match fate {
            Fate::Succeeded => &self.succeeded,
            Fate::Retried => &self.retried,
            Fate::Buried(_) => &self.buried,
            Fate::Revoked => &self.revoked,
            Fate::Expired => &self.expired,
            Fate::Released => &self.released,
        };
        count.add(1);
    }

    fn add_to(&self, sum: &mut Sum) {
        let all = [
            (&mut sum.started, &self.started),
            (&mut sum.succeeded, &self.succeeded),
            (&mut sum.failed, &self.failed),
            (&mut sum.retried, &self.retried),
            (&mut sum.buried, &self.buried),
            (&mut sum.revoked, &self.revoked),
            (&mut sum.expired, &self.expired),
            (&mut sum.released, &self.released),
        ];
        for (sum, count) in all {
            *sum = sum.wrapping_add(count.get());
        }
        sum.wait.add(&self.wait.spread());
        sum.run.add(&self.run.spread());
    }
}

/// Sums of one kind of task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Attempts that started.
    pub started: u64,
    /// Tasks that ended well.
    pub succeeded: u64,
    /// Attempts that failed, whatever followed.
    pub failed: u64,
    /// Attempts that are followed by another one: failures and snoozes that count.
    pub retried: u64,
    /// Tasks that died, those that could not start included.
    pub buried: u64,
    /// Tasks that were revoked.
    pub revoked: u64,
    /// Tasks whose expiry had passed.
    pub expired: u64,
    /// Deliveries that were undone: snoozed, given back at a stop, kept back by a breaker.
    pub released: u64,
    /// How long tasks waited from their enqueue to their first start, by the wall clocks of producer and worker. What was
    /// asked to wait (a countdown, an ETA) counts as waiting.
    pub wait: Spread,
    /// How long attempts ran.
    pub run: Spread,
}

impl Sum {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine = mine.wrapping_add(theirs));
        self.wait.add(&other.wait);
        self.run.add(&other.run);
    }

    /// Returns what came since an earlier reading; all of it where that one is of another life of the process.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut grew = true;
        self.clone()
            .each(earlier, |now, before| grew &= *now >= before);
        if !grew {
            return self.clone();
        }
        let mut since = self.clone();
        since.each(earlier, |now, before| *now -= before);
        since.wait = self.wait.since(&earlier.wait);
        since.run = self.run.since(&earlier.run);
        since
    }

    fn each(&mut self, other: &Self, mut f: impl FnMut(&mut u64, u64)) {
        f(&mut self.started, other.started);
        f(&mut self.succeeded, other.succeeded);
        f(&mut self.failed, other.failed);
        f(&mut self.retried, other.retried);
        f(&mut self.buried, other.buried);
        f(&mut self.revoked, other.revoked);
        f(&mut self.expired, other.expired);
        f(&mut self.released, other.released);
    }
}

/// What one process counted of one kind of task in one queue, since it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindFigures {
    /// The queue.
    pub queue: QueueName,
    /// The kind's name, or [`OTHER`].
    pub task: String,
    /// What was counted.
    #[serde(flatten)]
    pub sum: Sum,
}

type Sums = BTreeMap<(QueueName, String), Sum>;

/// All meters of a process. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Meters {
    names: Arc<[TaskName]>,
    book: Arc<Mutex<Book>>,
}

/// Who counts, and what those counted that have ended.
#[derive(Debug, Default)]
struct Book {
    live: Vec<Arc<Page>>,
    ended: Sums,
}

impl Meters {
    /// Creates the meters of a program that knows these kinds, sorted; they are numbered in this order.
    pub(crate) fn new(names: impl IntoIterator<Item = TaskName>) -> Self {
        Self {
            names: names.into_iter().collect(),
            book: Arc::default(),
        }
    }

    /// Makes a meter for a consumer of a queue.
    pub(crate) fn meter(&self, queue: &QueueName) -> Meter {
        let page = Arc::new(Page {
            queue: queue.clone(),
            kinds: (0..=self.names.len()).map(|_| OnceLock::new()).collect(),
        });
        lock(&self.book).live.push(Arc::clone(&page));
        let all = self.clone();
        Meter { page, all }
    }

    /// Counts the end of an attempt that was taken from its consumer.
    pub(crate) fn taken(&self, queue: &QueueName, task: &TaskName, fate: Fate, took: Duration) {
        // Seldom, and by whoever took it: a page for one line, turned at once.
        let meter = self.meter(queue);
        let counts = meter.counts(meter.number(task));
        counts.end(fate);
        counts.run.observe(took);
    }

    fn number(&self, task: &TaskName) -> Option<usize> {
        self.names.binary_search(task).ok()
    }

    /// Returns what was counted so far, by queue and kind. No number ever falls while the process lives.
    #[must_use]
    pub fn figures(&self) -> Vec<KindFigures> {
        let book = lock(&self.book);
        let mut sums = book.ended.clone();
        for page in &book.live {
            page.add_to(&self.names, &mut sums);
        }
        drop(book);
        let figures = |((queue, task), sum)| KindFigures { queue, task, sum };
        sums.into_iter().map(figures).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between a page's end and its sum, so a poisoned lock guards nothing that is half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters() -> (Meters, QueueName) {
        let names = ["a.one", "b.two"].map(|name| TaskName::new(name).unwrap());
        (Meters::new(names), QueueName::new("default").unwrap())
    }

    #[test]
    fn what_a_consumer_counted_outlives_it() {
        let (meters, queue) = meters();
        let (first, second) = (meters.meter(&queue), meters.meter(&queue));
        let number = meters.number(&TaskName::new("b.two").unwrap()).unwrap();
        for meter in [&first, &second] {
            meter.started(number, Some(Duration::from_millis(3)));
            meter.ended(number, Fate::Succeeded, Duration::from_millis(7));
        }
        let before = meters.figures();
        drop(first);
        assert_eq!(meters.figures(), before);
        drop(second);
        assert_eq!(meters.figures(), before);
        let [figures] = &before[..] else {
            panic!("one kind in one queue: {before:?}");
        };
        assert_eq!((figures.task.as_str(), figures.sum.succeeded), ("b.two", 2));
        assert_eq!((figures.sum.wait.count(), figures.sum.run.count()), (2, 2));
    }

    #[test]
    fn whatever_is_not_known_is_other() {
        let (meters, queue) = meters();
        let meter = meters.meter(&queue);
        assert_eq!(meters.number(&TaskName::new("evil.name").unwrap()), None);
        meter.refused(None, Fate::Buried(false));
        meter.refused(None, Fate::Released);
        let figures = meters.figures();
        assert_eq!((figures.len(), figures[0].task.as_str()), (1, OTHER));
        let sum = &figures[0].sum;
        assert_eq!((sum.buried, sum.released, sum.failed), (1, 1, 0));
    }

    #[test]
    fn a_process_that_began_anew_is_counted_from_zero() {
        let sum = |started, failed| Sum {
            started,
            failed,
            ..Sum::default()
        };
        assert_eq!(sum(7, 2).since(&sum(5, 2)), sum(2, 0));
        assert_eq!(sum(7, 1).since(&sum(5, 2)), sum(7, 1));
        let (meters, queue) = meters();
        let name = TaskName::new("a.one").unwrap();
        meters.taken(&queue, &name, Fate::Buried(true), Duration::from_secs(9));
        let of = &meters.figures()[0].sum;
        assert_eq!((of.buried, of.failed, of.run.count()), (1, 1, 1));
        let mut total = sum(1, 1);
        total.add(&sum(2, 3));
        assert_eq!(total, sum(3, 4));
    }
}
