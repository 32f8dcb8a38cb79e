//! The end of one delivery: effective only where removing its tag succeeded.

use super::exchange::misuse;
use super::state::{Burial, Graves, Life, Now, Queue, State, Waiting};
use crate::lease::{Outcome, Place};
use crate::ports::{BrokerError, id_of};
use crate::state::TaskState;

/// Deliveries settled in one step. Those released to the front are put there at its end, so that their order is kept.
#[derive(Debug)]
pub(super) struct Settling {
    now: Now,
    released: Vec<(u64, Vec<u8>)>,
}

impl Settling {
    pub(super) const fn new(now: Now) -> Self {
        Self {
            now,
            released: Vec::new(),
        }
    }

    /// Puts what was released to the front, lowest tag first.
    pub(super) fn finish(mut self, queue: &mut Queue) {
        self.released.sort_by_key(|(tag, _)| *tag);
        for (_, frame) in self.released.into_iter().rev() {
            queue.push_front(frame);
        }
    }
}

impl State {
    /// Ends a delivery if it is held. Returns whether it was.
    pub(super) fn settle(
        &mut self,
        place: &Place,
        outcome: Outcome,
        settling: &mut Settling,
    ) -> bool {
        let Ok(life) = self.life(&place.queue, place.incarnation) else {
            return false;
        };
        let Some(held) = life.held.remove(&place.tag) else {
            return false;
        };
        let burial = Burial {
            queue: place.queue.clone(),
            worker: life.incarnation.worker.clone(),
            reason: crate::state::DeadReason::Permanent,
            note: String::new(),
            frame: held.frame,
        };
        let Self { queues, graves, .. } = self;
        if let Some(queue) = queues.get_mut(&place.queue) {
            queue.end(place.tag, outcome, burial, (graves, settling));
        }
        true
    }
}

impl Queue {
    /// Carries out an outcome. `held` is the delivery, dressed for its burial in case it comes to that.
    fn end(
        &mut self,
        tag: u64,
        outcome: Outcome,
        held: Burial,
        (graves, settling): (&mut Graves, &mut Settling),
    ) {
        let now = settling.now.wall;
        if let Some(record) = outcome.record() {
            self.keep(record, now);
        }
        match outcome {
            Outcome::Succeed { .. } => self.counters.succeeded += 1,
            Outcome::Cancel { .. } => self.counters.cancelled += 1,
            Outcome::Expire { .. } => self.counters.expired += 1,
            Outcome::Retry { frame, delay } => {
                self.counters.retried += 1;
                if delay.is_zero() {
                    self.push_back(frame);
                } else {
                    let state = TaskState::Retrying;
                    self.push_waiting(now.plus(delay), Waiting { frame, state });
                }
            }
            Outcome::Release { frame, delay } => {
                self.counters.released += 1;
                let frame = frame.unwrap_or(held.frame);
                if delay.is_zero() {
                    settling.released.push((tag, frame));
                } else {
                    let state = TaskState::Scheduled;
                    self.push_waiting(now.plus(delay), Waiting { frame, state });
                }
            }
            Outcome::Bury {
                frame,
                reason,
                note,
                ..
            } => {
                self.counters.dead += 1;
                let frame = frame.unwrap_or_else(|| held.frame.clone());
                let burial = Burial {
                    frame,
                    reason,
                    note,
                    ..held
                };
                graves.bury(burial, now);
            }
        }
    }
}

impl Life {
    /// Refuses an outcome that is about another task than the one held under `tag`.
    pub(super) fn check(&self, tag: u64, outcome: &Outcome) -> Result<(), BrokerError> {
        let held = self.held.get(&tag).and_then(|held| id_of(&held.frame));
        let Some(held) = held else { return Ok(()) };
        let frame = match outcome {
            Outcome::Retry { frame, .. } => Some(frame),
            Outcome::Release { frame, .. } | Outcome::Bury { frame, .. } => frame.as_ref(),
            _ => None,
        };
        if frame
            .and_then(|frame| id_of(frame))
            .is_some_and(|id| id != held)
        {
            return misuse("an outcome carries the frame of another task");
        }
        let expected = match outcome {
            Outcome::Succeed { .. } => TaskState::Succeeded,
            Outcome::Bury { .. } => TaskState::Dead,
            Outcome::Cancel { .. } => TaskState::Cancelled,
            Outcome::Expire { .. } => TaskState::Expired,
            Outcome::Retry { .. } | Outcome::Release { .. } => return Ok(()),
        };
        match outcome.record() {
            Some(record) if record.id != held => misuse("a result is that of another task"),
            Some(record) if record.state != expected => {
                misuse("a result says another end than its outcome")
            }
            _ => Ok(()),
        }
    }
}
