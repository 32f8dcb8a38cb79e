//! The attempt table of one consumer incarnation: which deliveries it holds, and how far each has come.
//!
//! It outlives the consumer: when a thread is blocked or an actor died, the watchdog reads here what to release, what to
//! renew for, and what to end. Invariant: a delivery goes from prefetched to running once, by whoever wins the change;
//! a delivery that was taken is never started.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::context::AttemptContext;
use crate::ids::{IncarnationId, QueueName};
use crate::lease::Place;

/// One delivery in the table.
#[derive(Clone, Debug)]
enum Entry {
    /// Held, not started.
    Prefetched,
    /// Its code runs.
    Running(AttemptContext),
    /// The watchdog has ended it, or it was given back.
    Taken,
    /// Finished here; its settlement is on the way.
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

    /// Takes every delivery that was not started; returns their tags, ascending.
    pub(crate) fn take_prefetched(&self) -> Vec<u64> {
        let mut ring = self.lock();
        let first = ring.first;
        let mut taken = Vec::new();
        for (entry, tag) in ring.entries.iter_mut().zip(first..) {
            if matches!(entry, Entry::Prefetched) {
                *entry = Entry::Taken;
                taken.push(tag);
            }
        }
        taken
    }

    /// Takes one delivery from whoever runs it; returns whether that changed something.
    pub(crate) fn take(&self, tag: u64) -> bool {
        let mut ring = self.lock();
        match ring.get(tag) {
            Some(entry @ (Entry::Prefetched | Entry::Running(_))) => {
                let was_running = matches!(entry, Entry::Running(_));
                *entry = Entry::Taken;
                if was_running {
                    ring.running -= 1;
                }
                true
            }
            _ => false,
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
