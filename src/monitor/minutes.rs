//! Minutes on their way to the store: made at each full minute, kept while the store is away, with what is missing.
//!
//! Pure. Invariant: every minute between the first and the last one is written, waits here, or lies in a gap that is told.

use std::collections::VecDeque;

use celeriac_actors::ids::WorkerId;
use celeriac_actors::measure::{KindFigures, Sum};
use celeriac_actors::ports::{Minute, QueueSnapshot, QueueStatus, Span, TaskSnapshot};
use celeriac_actors::time::Timestamp;

/// How many minutes wait for the store: a day.
const MAX_WAITING: usize = 1_440;

/// Minutes that nobody can write any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them begins.
    pub from: Timestamp,
    /// When the last of them ends.
    pub to: Timestamp,
    /// Why.
    pub why: GapCause,
}

/// Why minutes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// The broker could not be asked for a whole minute, or nobody looked.
    Unseen,
    /// The store was away for so long that no more could wait.
    Overflow,
}

/// The minutes of one process.
#[derive(Clone, Debug)]
pub struct Minutes {
    worker: WorkerId,
    /// The minute that goes on.
    current: Option<Timestamp>,
    /// What was counted by its beginning.
    counted: Vec<KindFigures>,
    waiting: VecDeque<Minute>,
}

impl Minutes {
    /// Creates the minutes of a process.
    #[must_use]
    pub const fn new(worker: WorkerId) -> Self {
        Self {
            worker,
            current: None,
            counted: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Takes a look in: ends the minute that is over, if one is, with what is seen at its end. Returns a gap where
    /// minutes are missing. A clock that goes back ends no minute twice.
    pub fn look(
        &mut self,
        now: Timestamp,
        queues: &[QueueStatus],
        figures: Vec<KindFigures>,
    ) -> Option<Gap> {
        let minute = Span::Minute.begin(now);
        let Some(current) = self.current else {
            // It began before anybody looked; what was counted since counts for it all the same.
            self.current = Some(minute);
            return None;
        };
        if minute <= current {
            return None;
        }
        let next = current.plus(Span::Minute.length());
        let mut gap = self.push(Minute {
            at: current,
            queues: queues.iter().map(|q| snapshot(q, current, now)).collect(),
            tasks: self.since(current, &figures),
        });
        if minute > next {
            let (from, to, why) = (next, minute, GapCause::Unseen);
            gap = Some(Gap { from, to, why });
        }
        (self.current, self.counted) = (Some(minute), figures);
        gap
    }

    fn push(&mut self, minute: Minute) -> Option<Gap> {
        self.waiting.push_back(minute);
        let over = self.waiting.len() > MAX_WAITING;
        let lost = over.then(|| self.waiting.pop_front()).flatten()?;
        Some(Gap {
            from: lost.at,
            to: lost.at.plus(Span::Minute.length()),
            why: GapCause::Overflow,
        })
    }

    /// Returns what was counted since the minute began, by kind.
    fn since(&self, at: Timestamp, figures: &[KindFigures]) -> Vec<TaskSnapshot> {
        let mut all = Vec::new();
        for now in figures {
            let same = |it: &&KindFigures| it.queue == now.queue && it.task == now.task;
            let before = self.counted.iter().find(same);
            let sum = before.map_or_else(|| now.sum.clone(), |then| now.sum.since(&then.sum));
            if sum != Sum::default() {
                all.push(TaskSnapshot {
                    at,
                    queue: now.queue.clone(),
                    task: now.task.clone(),
                    worker: self.worker.clone(),
                    sum,
                });
            }
        }
        all
    }

    /// Returns the minute to write next.
    #[must_use]
    pub fn next(&self) -> Option<&Minute> {
        self.waiting.front()
    }

    /// Notes that a minute was written.
    pub fn written(&mut self, at: Timestamp) {
        // It may have been pushed out meanwhile.
        if self.waiting.front().is_some_and(|minute| minute.at == at) {
            self.waiting.pop_front();
        }
    }

    /// Returns how many minutes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

fn snapshot(status: &QueueStatus, at: Timestamp, now: Timestamp) -> QueueSnapshot {
    let oldest = status.oldest_ready.filter(|_| status.ready > 0);
    QueueSnapshot {
        at,
        queue: status.queue.clone(),
        ready: status.ready,
        scheduled: status.scheduled,
        retrying: status.retrying,
        active: status.active,
        dead_outbox: status.dead_outbox,
        consumers: status.consumers,
        oldest_ms: oldest.map_or(0, |at| celeriac_actors::time::millis(now.since(at))),
        paused: status.paused,
        counters: status.counters,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use celeriac_actors::ids::QueueName;

    use super::*;

    fn minutes() -> Minutes {
        Minutes::new(WorkerId::new("w").unwrap())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn figures(started: u64) -> Vec<KindFigures> {
        vec![KindFigures {
            queue: QueueName::new("billing").unwrap(),
            task: "a.b".to_owned(),
            sum: Sum {
                started,
                ..Sum::default()
            },
        }]
    }

    /// Goal: a store that is away for ten minutes costs no minute.
    #[test]
    fn minutes_wait_for_the_store_in_order() {
        let mut minutes = minutes();
        for second in 30..=660 {
            assert_eq!(minutes.look(at(second), &[], figures(second)), None);
        }
        assert_eq!(minutes.waiting(), 11);
        let mut written = Vec::new();
        while let Some(minute) = minutes.next().cloned() {
            // A repeat after an answer that was lost.
            minutes.written(minute.at);
            minutes.written(minute.at);
            let started: u64 = minute.tasks.iter().map(|task| task.sum.started).sum();
            written.push((minute.at, started));
        }
        let expected = (0..11).map(|m| (at(60 * m), 60));
        let expected: Vec<_> = expected.collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn what_nobody_saw_is_a_gap_and_so_is_what_no_longer_fits() {
        let mut minutes = minutes();
        minutes.look(at(0), &[], figures(0));
        let gap = minutes.look(at(300), &[], figures(7)).unwrap();
        assert_eq!(
            (gap.from, gap.to, gap.why),
            (at(60), at(300), GapCause::Unseen)
        );
        // What was counted meanwhile is not lost with them.
        assert_eq!(minutes.next().unwrap().tasks[0].sum.started, 7);
        let mut gaps = Vec::new();
        for minute in 6..1_500 {
            gaps.extend(minutes.look(at(60 * minute), &[], figures(7)));
        }
        assert_eq!(minutes.waiting(), MAX_WAITING);
        assert_eq!(gaps[0].why, GapCause::Overflow);
        assert_eq!((gaps[0].from, gaps[0].to), (at(0), at(60)));
        // All between the first that waits and the last that was seen is there.
        let first = minutes.next().unwrap().at;
        let told = gaps.last().unwrap().to;
        assert_eq!(first, told);
    }

    #[test]
    fn a_clock_that_goes_back_ends_no_minute_twice() {
        let mut minutes = minutes();
        for second in [0, 61, 59, 1, 62, 121] {
            minutes.look(at(second), &[], figures(1));
        }
        let all: Vec<Timestamp> = minutes.waiting.iter().map(|minute| minute.at).collect();
        assert_eq!(all, [at(0), at(60)]);
        assert!(minutes.waiting[1].tasks.is_empty());
        assert_eq!(Span::Minute.length(), Duration::from_secs(60));
    }
}
