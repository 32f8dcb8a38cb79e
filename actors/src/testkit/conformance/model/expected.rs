//! The model: where every task must be, and what must have been counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::End;
use crate::ports::{Counters, MAX_DELIVERIES, MAX_STRIKES};
use crate::time::Timestamp;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Ready,
    Scheduled(Timestamp),
    Retrying(Timestamp),
    /// Held by the life with this index under this tag, with a start mark or not.
    Held(usize, u64, bool),
    Dead,
    Ended,
}

/// A task as the model knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) at: At,
    pub(super) priority: u8,
    pub(super) deliveries: u8,
    pub(super) strikes: u8,
    /// Whether it was ever anything but ready and fetched: its place in the order is not told by its number any more.
    pub(super) moved: bool,
}

/// All tasks by number, which is the order of their enqueueing.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) tasks: BTreeMap<u128, Known>,
    pub(super) counters: Counters,
    pub(super) paused: bool,
}

impl Expected {
    /// Returns the numbers of the tasks that fulfil a condition.
    pub(super) fn numbers(&self, which: impl Fn(&Known) -> bool) -> Vec<u128> {
        let those = self.tasks.iter().filter(|(_, known)| which(known));
        those.map(|(number, _)| *number).collect()
    }

    /// Returns the tags that a life holds, ascending.
    pub(super) fn tags(&self, life: usize) -> Vec<u64> {
        let held = self.tasks.values().filter_map(|known| match known.at {
            At::Held(holder, tag, _) if holder == life => Some(tag),
            _ => None,
        });
        let mut tags: Vec<u64> = held.collect();
        tags.sort_unstable();
        tags
    }

    /// Returns the number of the task that a life holds under a tag.
    pub(super) fn held(&self, life: usize, tag: u64) -> Option<u128> {
        let here = |known: &Known| matches!(known.at, At::Held(l, t, _) if (l, t) == (life, tag));
        self.numbers(here).first().copied()
    }

    /// Ends what a life holds under a tag. Returns whether it held something.
    pub(super) fn settle(&mut self, place: (usize, u64), end: End, when: When) -> bool {
        let number = self.held(place.0, place.1);
        let Some(known) = number.and_then(|number| self.tasks.get_mut(&number)) else {
            return false;
        };
        known.moved = true;
        let due = |delay: u32| when.now.plus(when.eighth * delay);
        let counters = &mut self.counters;
        let (at, count) = match end {
            End::Succeed => (At::Ended, &mut counters.succeeded),
            End::Retry(0) => (At::Ready, &mut counters.retried),
            End::Retry(delay) => (At::Retrying(due(delay)), &mut counters.retried),
            End::Release(0) => (At::Ready, &mut counters.released),
            End::Release(delay) => (At::Scheduled(due(delay)), &mut counters.released),
            End::Bury => (At::Dead, &mut counters.dead),
            End::Cancel => (At::Ended, &mut counters.cancelled),
            End::Expire => (At::Ended, &mut counters.expired),
        };
        known.at = at;
        *count += 1;
        true
    }

    /// Releases all that a life holds.
    pub(super) fn release_all(&mut self, life: usize, when: When) -> usize {
        let tags = self.tags(life);
        for tag in &tags {
            self.settle((life, *tag), End::Release(0), when);
        }
        tags.len()
    }

    /// Hands `fetched` out to a life under ascending tags, having checked that they are what is next.
    pub(super) fn fetch(
        &mut self,
        life: usize,
        fetched: &[(u64, u128)],
        want: u32,
    ) -> Result<(), String> {
        let ready = self.numbers(|known| known.at == At::Ready).len();
        let expected = if self.paused {
            0
        } else {
            ready.min(want as usize)
        };
        if fetched.len() != expected {
            let found = fetched.len();
            return Err(format!("{found} fetched of {ready} ready, {want} wanted"));
        }
        for (tag, number) in fetched {
            let before = self.numbers(|known| known.at == At::Ready);
            let Some(this) = self.tasks.get(number).cloned() else {
                return Err(format!("task {number} was never enqueued"));
            };
            if this.at != At::Ready {
                return Err(format!("task {number} fetched while it is {:?}", this.at));
            }
            for other in before {
                let that = &self.tasks[&other];
                let first = !that.moved && !this.moved && other < *number;
                if that.priority > this.priority || (that.priority == this.priority && first) {
                    return Err(format!("task {number} fetched before task {other}"));
                }
            }
            if let Some(known) = self.tasks.get_mut(number) {
                known.at = At::Held(life, *tag, false);
            }
        }
        Ok(())
    }

    /// Takes a delivery back from a dead life, as a rescue must.
    pub(super) fn rescue(&mut self, number: u128) {
        let Some(known) = self.tasks.get_mut(&number) else {
            return;
        };
        let At::Held(_, _, started) = known.at else {
            return;
        };
        known.moved = true;
        known.deliveries += 1;
        known.strikes += u8::from(started);
        if known.strikes >= MAX_STRIKES || known.deliveries >= MAX_DELIVERIES {
            known.at = At::Dead;
            self.counters.dead += 1;
        } else {
            known.at = At::Ready;
            self.counters.rescued += 1;
        }
    }
}

/// The broker's now at a step, and the measure of delays.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    pub(super) now: Timestamp,
    pub(super) eighth: Duration,
}
