//! The end of deliveries: effective only where removing the tag succeeded.

use celeriac_actors::lease::Outcome;
use celeriac_actors::ports::id_of;
use diesel::result::QueryResult;

use crate::sqlite::lives::{Holding, Life};
use crate::sqlite::tx::{Burial, Q, Tx, rank_of};

/// Deliveries of one incarnation that a step settles.
///
/// What goes back to the queue is collected and put there at the end: in packs, and what was released to the front in
/// the order of its tags.
#[derive(Debug)]
pub(super) struct Settling<'o> {
    queue: Q,
    worker: String,
    holding: Holding,
    front: Vec<(u64, u8, Vec<u8>)>,
    back: Vec<(u8, &'o [u8])>,
}

impl<'o> Settling<'o> {
    pub(super) fn new(queue: Q, life: &Life) -> Self {
        Self {
            queue,
            worker: life.worker.clone(),
            holding: Holding::new(life.id),
            front: Vec::new(),
            back: Vec::new(),
        }
    }

    /// Returns every tag that is held, lowest first.
    pub(super) fn held(&mut self, tx: &mut Tx<'_>) -> QueryResult<Vec<u64>> {
        self.holding.load_all(tx.db)
    }

    /// Ends a delivery if it is held. Returns whether it was.
    pub(super) fn settle(
        &mut self,
        tx: &mut Tx<'_>,
        tag: u64,
        outcome: &'o Outcome,
    ) -> QueryResult<bool> {
        if !self.holding.remove(tx.db, tag)? {
            return Ok(false);
        }
        let state = tx.at(self.queue);
        state.active = state.active.saturating_sub(1);
        if let Some(record) = outcome.record() {
            tx.keep(self.queue, record)?;
        }
        let counters = &mut tx.at(self.queue).counters;
        match outcome {
            Outcome::Succeed { .. } => counters.succeeded += 1,
            Outcome::Cancel { .. } => counters.cancelled += 1,
            Outcome::Expire { .. } => counters.expired += 1,
            Outcome::Retry { frame, delay } => {
                counters.retried += 1;
                if delay.is_zero() {
                    self.back.push((rank_of(frame), frame));
                } else {
                    let due = tx.now.plus(*delay);
                    tx.push_waiting(self.queue, due, (frame, true))?;
                }
            }
            Outcome::Release { frame, delay } => {
                counters.released += 1;
                let frame = match frame {
                    Some(frame) => frame.clone(),
                    None => self.holding.frame(tx.db, tag)?.to_vec(),
                };
                if delay.is_zero() {
                    self.front.push((tag, rank_of(&frame), frame));
                } else {
                    let due = tx.now.plus(*delay);
                    tx.push_waiting(self.queue, due, (&frame, false))?;
                }
            }
            Outcome::Bury { .. } => self.bury(tx, tag, outcome)?,
        }
        Ok(true)
    }

    fn bury(&mut self, tx: &mut Tx<'_>, tag: u64, outcome: &Outcome) -> QueryResult<()> {
        let Outcome::Bury {
            frame,
            reason,
            note,
            ..
        } = outcome
        else {
            return Ok(());
        };
        let frame = match frame {
            Some(frame) => frame,
            None => self.holding.frame(tx.db, tag)?,
        };
        let burial = Burial {
            frame,
            reason: *reason,
            note,
            worker: &self.worker,
        };
        tx.bury(self.queue, &burial)
    }

    /// Writes everything back. Ringing is left to the step, which may fetch what came back.
    pub(super) fn finish(mut self, tx: &mut Tx<'_>) -> QueryResult<()> {
        self.holding.store(tx.db)?;
        tx.push_back(self.queue, self.back)?;
        self.front.sort_by_key(|(tag, ..)| *tag);
        let front = self.front.into_iter();
        let front: Vec<_> = front.map(|(_, rank, frame)| (rank, frame)).collect();
        tx.push_front(self.queue, &front)
    }
}

/// Returns what is the matter with an outcome that speaks of another task than the frame it carries.
pub(super) fn contradiction(outcome: &Outcome) -> Option<&'static str> {
    let (
        Outcome::Bury {
            frame: Some(frame), ..
        },
        Some(record),
    ) = (outcome, outcome.record())
    else {
        return None;
    };
    let same = id_of(frame).is_none_or(|id| id == record.id);
    (!same).then_some("a result is that of another task than its frame")
}
