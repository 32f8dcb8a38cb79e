//! The attempt table of one consumer incarnation: which deliveries it holds, and how far each has come.
//!
//! It outlives the consumer: when a thread is blocked or an actor died, the watchdog reads here what to release, what to
//! renew for, and what to end. Invariants: a delivery goes from prefetched to running once, by whoever wins the change;
//! a delivery that was taken is never started; what was decided about a delivery and not told to the broker is *owed*
//! here until it was.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::context::AttemptContext;
use crate::ids::{IncarnationId, QueueName, TaskId, TaskName};
use crate::lease::{ExchangeCall, Outcome, Place, Settlement};

/// One delivery in the table.
#[derive(Clone, Debug)]
enum Entry {
    /// Held, not started; for what it waits, where it is not its turn.
    Prefetched(Option<Waiter>),
    /// Its code runs.
    Running(AttemptContext),
}

/// A delivery that waits for a child process.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) id: TaskId,
    pub(crate) task: TaskName,
    /// Which attempt it is to be.
    pub(crate) attempt: u16,
    pub(crate) since: Instant,
}

/// The deliveries of one incarnation.
#[derive(Debug)]
pub(crate) struct AttemptTable {
    pub(crate) queue: QueueName,
    pub(crate) incarnation: IncarnationId,
    /// The broker has opened the incarnation.
    opened: AtomicBool,
    /// The consumer is gone; what it held waits for the watchdog.
    orphaned: AtomicBool,
    /// The broker closed the incarnation.
    gone: AtomicBool,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What is held here. A map and not a ring: one long task must not keep the places of all that came after it.
    entries: BTreeMap<u64, Entry>,
    running: usize,
    /// Tags below it were given back before their reply came; they are never held here.
    taken_below: u64,
    /// What ended here and goes with the next call.
    finished: Vec<Settlement>,
    /// The call whose answer has not come.
    outstanding: Option<Arc<ExchangeCall>>,
    /// What the watchdog has to tell the broker, by tag.
    owed: BTreeMap<u64, Outcome>,
}

impl AttemptTable {
    pub(crate) fn new(queue: QueueName, incarnation: IncarnationId) -> Self {
        Self {
            queue,
            incarnation,
            opened: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            held: Mutex::default(),
        }
    }

    /// Adds the deliveries of a reply, but for those that were given back while the reply was on its way.
    pub(crate) fn add(&self, tags: impl IntoIterator<Item = u64>) {
        let mut held = self.lock();
        let from = held.taken_below;
        let fresh = tags.into_iter().filter(|tag| *tag >= from);
        held.entries
            .extend(fresh.map(|tag| (tag, Entry::Prefetched(None))));
    }

    /// Starts a delivery, unless it was taken meanwhile or is somebody else's by now; returns whether it may start.
    pub(crate) fn start(&self, tag: u64, context: &AttemptContext) -> bool {
        if self.is_gone() {
            return false;
        }
        let mut held = self.lock();
        match held.entries.get_mut(&tag) {
            Some(entry @ Entry::Prefetched(_)) => {
                *entry = Entry::Running(context.clone());
                held.running += 1;
                true
            }
            _ => false,
        }
    }

    /// Notes that a delivery waits for a child process, until it starts.
    pub(crate) fn wait(&self, tag: u64, waiter: Waiter) {
        if let Some(Entry::Prefetched(waits)) = self.lock().entries.get_mut(&tag) {
            *waits = Some(waiter);
        }
    }

    /// Returns the deliveries that wait for a child process.
    pub(crate) fn waiters(&self) -> Vec<Waiter> {
        let held = self.lock();
        let waiters = held.entries.values().filter_map(|entry| match entry {
            Entry::Prefetched(waits) => waits.clone(),
            Entry::Running(_) => None,
        });
        waiters.collect()
    }

    /// Notes that a delivery ended here; returns whether it is still ours to settle.
    pub(crate) fn finish(&self, tag: u64) -> bool {
        self.remove(tag).is_some()
    }

    fn remove(&self, tag: u64) -> Option<Entry> {
        let mut held = self.lock();
        let before = held.entries.remove(&tag);
        if let Some(Entry::Running(context)) = &before {
            held.running -= 1;
            context.leave_gate();
        }
        before
    }

    /// Takes every delivery that was not started, to be given back; returns how many.
    pub(crate) fn take_prefetched(&self) -> usize {
        let mut held = self.lock();
        let Held { entries, owed, .. } = &mut *held;
        let before = owed.len();
        entries.retain(|tag, entry| {
            let prefetched = matches!(entry, Entry::Prefetched(_));
            if prefetched {
                owed.insert(*tag, Outcome::release());
            }
            !prefetched
        });
        owed.len() - before
    }

    /// Takes every delivery that still runs, to be given back.
    pub(crate) fn take_running(&self) {
        for (tag, _) in self.running() {
            self.take(tag, Outcome::release());
        }
    }

    /// Takes one delivery from whoever has it, to be ended like that, and ends its process, if it has one; returns whether
    /// that changed something.
    pub(crate) fn take(&self, tag: u64, outcome: Outcome) -> bool {
        let Some(before) = self.remove(tag) else {
            return false;
        };
        if let Entry::Running(context) = before {
            // First, so that it does not run when somebody else may have it.
            context.kill_process();
        }
        self.lock().owed.insert(tag, outcome);
        true
    }

    /// Notes how a delivery that has ended here is to be settled, with the next call.
    pub(crate) fn settle(&self, tag: u64, outcome: Outcome) {
        self.lock().finished.push(Settlement { tag, outcome });
    }

    /// Returns whether something waits for the next call.
    pub(crate) fn has_finished(&self) -> bool {
        !self.lock().finished.is_empty()
    }

    /// Returns at most `limit` of what waits for the next call, oldest first.
    pub(crate) fn take_finished(&self, limit: usize) -> Vec<Settlement> {
        let finished = &mut self.lock().finished;
        if finished.len() <= limit {
            return std::mem::take(finished);
        }
        finished.drain(..limit).collect()
    }

    /// Notes the call that is on its way, or that it was answered.
    pub(crate) fn set_outstanding(&self, call: Option<Arc<ExchangeCall>>) {
        self.lock().outstanding = call;
    }

    /// Owes what the consumer has not told the broker, or not for certain, since it cannot do so now; and gives back what
    /// a call without an answer may have fetched. Whoever is second changes nothing.
    pub(crate) fn confiscate(&self) {
        let mut held = self.lock();
        let finished = std::mem::take(&mut held.finished);
        if let Some(call) = held.outstanding.take() {
            let end = call.first_tag + u64::from(call.want);
            held.taken_below = held.taken_below.max(end);
            for tag in call.first_tag..end {
                if !held.entries.contains_key(&tag) {
                    // What was not fetched is not held: giving it back changes nothing.
                    held.owed.entry(tag).or_insert(Outcome::release());
                }
            }
            let told = call
                .settlements
                .iter()
                .map(|told| (told.tag, told.outcome.clone()));
            held.owed.extend(told);
        }
        held.owed
            .extend(finished.into_iter().map(|told| (told.tag, told.outcome)));
    }

    /// Returns what the broker has to be told.
    pub(crate) fn owed(&self) -> Vec<(u64, Outcome)> {
        let held = self.lock();
        held.owed
            .iter()
            .map(|(tag, outcome)| (*tag, outcome.clone()))
            .collect()
    }

    /// Returns whether there is anything for the watchdog to do with the broker.
    pub(crate) fn needs_care(&self) -> bool {
        self.is_orphaned() || !self.lock().owed.is_empty()
    }

    /// Notes that the broker was told.
    pub(crate) fn paid(&self, tags: &[u64]) {
        let mut held = self.lock();
        for tag in tags {
            held.owed.remove(tag);
        }
    }

    /// Returns the attempts that run, with their tags.
    pub(crate) fn running(&self) -> Vec<(u64, AttemptContext)> {
        let held = self.lock();
        if held.running == 0 {
            return Vec::new();
        }
        let running = held.entries.iter().filter_map(|(tag, entry)| match entry {
            Entry::Running(context) => Some((*tag, context.clone())),
            Entry::Prefetched(_) => None,
        });
        running.collect()
    }

    /// Returns how many deliveries are prefetched and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let held = self.lock();
        (held.entries.len() - held.running, held.running)
    }

    /// Returns how many deliveries the broker may still have in the name of this incarnation: those that are held, and
    /// those whose end it has not been told, or not for certain.
    pub(crate) fn unsettled(&self) -> usize {
        let held = self.lock();
        let told = held
            .outstanding
            .as_ref()
            .map_or(0, |call| call.settlements.len());
        held.entries.len() + held.finished.len() + held.owed.len() + told
    }

    pub(crate) fn place(&self, tag: u64) -> Place {
        Place {
            queue: self.queue.clone(),
            incarnation: self.incarnation,
            tag,
        }
    }

    /// Notes that the broker has opened the incarnation: only now can it be lost.
    pub(crate) fn set_opened(&self) {
        self.opened.store(true, Ordering::Release);
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// Notes that the consumer is gone.
    pub(crate) fn orphan(&self) {
        self.orphaned.store(true, Ordering::Release);
    }

    pub(crate) fn is_orphaned(&self) -> bool {
        self.orphaned.load(Ordering::Acquire)
    }

    /// Notes that the broker closed the incarnation; returns whether that is news.
    pub(crate) fn set_gone(&self) -> bool {
        !self.gone.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Every change is made whole before anything can panic, so a poisoned table is still right.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> AttemptTable {
        AttemptTable::new(QueueName::new("q").unwrap(), IncarnationId::random())
    }

    fn call(table: &AttemptTable, first_tag: u64, want: u32, told: &[u64]) -> Arc<ExchangeCall> {
        let settlements = told.iter().map(|tag| Settlement {
            tag: *tag,
            outcome: Outcome::Succeed { result: None },
        });
        Arc::new(ExchangeCall {
            queue: table.queue.clone(),
            incarnation: table.incarnation,
            number: 1,
            settlements: settlements.collect(),
            want,
            first_tag,
        })
    }

    /// Goal: what a call without an answer may have fetched is given back, and is not held when the answer comes late.
    /// Method: confiscate with a call under way, then add what it had fetched.
    #[test]
    fn an_unanswered_fetch_is_given_back_once() {
        let table = table();
        table.add([1]);
        assert!(table.finish(1));
        table.set_outstanding(Some(call(&table, 2, 3, &[1])));
        table.confiscate();
        let owed = table.owed();
        assert_eq!(
            owed.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert!(
            matches!(owed[0].1, Outcome::Succeed { .. }),
            "what had ended is told as it ended"
        );
        assert!(
            owed[1..]
                .iter()
                .all(|(_, outcome)| *outcome == Outcome::release())
        );

        table.add([2, 3, 4, 5]);
        assert_eq!(table.counts(), (1, 0));
        assert!(!table.finish(3) && table.finish(5));
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let table = table();
        table.add([1]);
        for tag in 2..10_000 {
            table.add([tag]);
            assert!(table.finish(tag) && !table.finish(tag));
        }
        assert_eq!(table.lock().entries.len(), 1);
    }
}
