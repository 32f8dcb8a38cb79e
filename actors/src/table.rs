//! The attempt table of one consumer incarnation: which deliveries it holds, and how far each has come.
//!
//! It outlives the consumer: when a thread is blocked or an actor died, the watchdog reads here what to release, what to
//! renew for, and what to end. Invariants: a delivery goes from prefetched to running once, by whoever wins the change;
//! a delivery that was taken is never started; what was decided about a delivery and not told to the broker is *owed*
//! here until it was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::context::AttemptContext;
use crate::ids::{IncarnationId, QueueName};
use crate::lease::{ExchangeCall, Outcome, Place, Settlement};

/// One delivery in the table.
#[derive(Clone, Debug)]
enum Entry {
    /// Held, not started.
    Prefetched,
    /// Its code runs.
    Running(AttemptContext),
    /// Finished, given back, or taken away.
    Done,
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
    ring: Mutex<Ring>,
}

/// Tags ascend by one, so a ring with the oldest tag is a map without hashing.
#[derive(Debug, Default)]
struct Ring {
    first: u64,
    entries: VecDeque<Entry>,
    running: usize,
    /// What ended here and goes with the next call.
    finished: Vec<Settlement>,
    /// The call whose answer has not come.
    outstanding: Option<Arc<ExchangeCall>>,
    /// What the watchdog has to tell the broker, by tag.
    owed: BTreeMap<u64, Outcome>,
}

impl Ring {
    fn get(&mut self, tag: u64) -> Option<&mut Entry> {
        let index = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    fn trim(&mut self) {
        while matches!(self.entries.front(), Some(Entry::Done)) {
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

impl AttemptTable {
    pub(crate) fn new(queue: QueueName, incarnation: IncarnationId) -> Self {
        Self {
            queue,
            incarnation,
            opened: AtomicBool::new(false),
            orphaned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            ring: Mutex::default(),
        }
    }

    /// Adds the deliveries of a reply; their tags ascend and follow those before.
    pub(crate) fn add(&self, tags: impl IntoIterator<Item = u64>) {
        let mut ring = self.lock();
        for tag in tags {
            if ring.entries.is_empty() {
                ring.first = tag;
            }
            // A tag that was taken while its reply was lost leaves a gap.
            while ring.first + (ring.entries.len() as u64) < tag {
                ring.entries.push_back(Entry::Done);
            }
            ring.entries.push_back(Entry::Prefetched);
        }
    }

    /// Starts a delivery, unless it was taken meanwhile; returns whether it may start.
    pub(crate) fn start(&self, tag: u64, context: &AttemptContext) -> bool {
        let mut ring = self.lock();
        match ring.get(tag) {
            Some(entry @ Entry::Prefetched) => {
                *entry = Entry::Running(context.clone());
                ring.running += 1;
                true
            }
            _ => false,
        }
    }

    /// Notes that a delivery ended here; returns whether it is still ours to settle.
    pub(crate) fn finish(&self, tag: u64) -> bool {
        let mut ring = self.lock();
        let Some(entry) = ring.get(tag) else {
            return false;
        };
        let before = std::mem::replace(entry, Entry::Done);
        if matches!(before, Entry::Running(_)) {
            ring.running -= 1;
        }
        ring.trim();
        drop(ring);
        matches!(before, Entry::Prefetched | Entry::Running(_))
    }

    /// Takes every delivery that was not started, to be given back; returns how many.
    pub(crate) fn take_prefetched(&self) -> usize {
        let mut ring = self.lock();
        let Ring {
            first,
            entries,
            owed,
            ..
        } = &mut *ring;
        let before = owed.len();
        for (entry, tag) in entries.iter_mut().zip(*first..) {
            if matches!(entry, Entry::Prefetched) {
                *entry = Entry::Done;
                owed.insert(tag, Outcome::release());
            }
        }
        let taken = owed.len() - before;
        ring.trim();
        taken
    }

    /// Takes one delivery from whoever has it, to be ended like that; returns whether that changed something.
    pub(crate) fn take(&self, tag: u64, outcome: Outcome) -> bool {
        let taken = self.finish(tag);
        if taken {
            self.lock().owed.insert(tag, outcome);
        }
        taken
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

    /// Owes what the consumer has not told the broker, or not for certain, since it cannot do so now. Whoever is second
    /// changes nothing.
    pub(crate) fn confiscate(&self) {
        let mut ring = self.lock();
        let finished = std::mem::take(&mut ring.finished);
        let unanswered = ring.outstanding.take();
        let unanswered = unanswered.map_or_else(Vec::new, |call| call.settlements.clone());
        for settlement in unanswered.into_iter().chain(finished) {
            ring.owed.insert(settlement.tag, settlement.outcome);
        }
    }

    /// Returns what the broker has to be told.
    pub(crate) fn owed(&self) -> Vec<(u64, Outcome)> {
        let ring = self.lock();
        ring.owed
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
        let mut ring = self.lock();
        for tag in tags {
            ring.owed.remove(tag);
        }
    }

    /// Returns the attempts that run, with their tags.
    pub(crate) fn running(&self) -> Vec<(u64, AttemptContext)> {
        let ring = self.lock();
        if ring.running == 0 {
            return Vec::new();
        }
        let running =
            ring.entries
                .iter()
                .zip(ring.first..)
                .filter_map(|(entry, tag)| match entry {
                    Entry::Running(context) => Some((tag, context.clone())),
                    _ => None,
                });
        running.collect()
    }

    /// Returns how many deliveries are prefetched and how many run.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let ring = self.lock();
        let prefetched = ring
            .entries
            .iter()
            .filter(|e| matches!(e, Entry::Prefetched))
            .count();
        (prefetched, ring.running)
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

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // Every change is made whole before anything can panic, so a poisoned table is still right.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
