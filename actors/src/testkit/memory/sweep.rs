//! Rescue: close first, then move what was held.

use std::collections::BTreeSet;

use super::state::{Burial, Graves, Life, Now, Queue, State};
use crate::fence::{Rescue, cut_deadline, holds_back, rescue};
use crate::ids::{QueueName, WorkerId};
use crate::lease::{ClosedIncarnation, FinalRecord, MAX_BATCH, Swept};

impl State {
    pub(super) fn sweep(&mut self, name: &QueueName, limit: u32, now: Now) -> Swept {
        let mut swept = Swept::default();
        let Some(queue) = self.queues.get_mut(name) else {
            return swept;
        };
        queue.close_lost(&self.proven_dead, now, &mut swept);
        queue.move_orphans(
            &mut self.graves,
            (name, limit.min(MAX_BATCH), now),
            &mut swept,
        );
        queue.counters.rescued += u64::from(swept.rescued);
        queue.counters.dead += u64::from(swept.buried);
        if swept.rescued > 0 {
            queue.ring();
        }
        swept
    }
}

impl Queue {
    /// Closes who is proven dead or silent beyond its lease; a sweep that holds back renews all others instead.
    fn close_lost(&mut self, proven: &BTreeSet<WorkerId>, now: Now, swept: &mut Swept) {
        let shortest = self.lives.values().map(|life| life.incarnation.lease).min();
        swept.held_back = holds_back(self.last_sweep, now.boot, shortest);
        self.last_sweep = Some(now.boot);
        for life in self.lives.values_mut() {
            let proven_dead = proven.contains(&life.incarnation.worker);
            let lease = life.incarnation.lease;
            let again = swept
                .held_back
                .then(|| life.held_back.back(life.deadline, now.boot, lease));
            if proven_dead || (again.flatten().is_none() && life.deadline <= now.boot) {
                swept.closed.push(ClosedIncarnation {
                    id: life.incarnation.id,
                    worker: life.incarnation.worker.clone(),
                    proven_dead,
                });
            } else {
                let cut = || cut_deadline(life.deadline, now.boot, lease);
                life.deadline = again.flatten().unwrap_or_else(cut);
            }
        }
        for closed in &swept.closed {
            self.closed.insert(closed.id, now.wall);
            if let Some(life) = self.lives.remove(&closed.id) {
                self.orphans.insert(closed.id, life);
            }
        }
    }

    /// Moves deliveries of closed incarnations, highest tags first, until `limit` are moved.
    fn move_orphans(
        &mut self,
        graves: &mut Graves,
        (name, limit, now): (&QueueName, u32, Now),
        swept: &mut Swept,
    ) {
        while let Some(mut first) = self.orphans.first_entry() {
            if swept.rescued + swept.buried >= limit && !first.get().held.is_empty() {
                swept.more = true;
                return;
            }
            let Some(step) = first.get_mut().take_back(name) else {
                first.remove();
                continue;
            };
            match step {
                Ok(frame) => {
                    self.push_front(frame);
                    swept.rescued += 1;
                }
                Err((burial, result)) => {
                    if let Some(record) = result {
                        self.keep(&record, now.wall);
                    }
                    graves.bury(burial, now.wall);
                    swept.buried += 1;
                }
            }
        }
    }
}

/// A delivery that was taken back: a frame for the queue, or a burial and what is kept for whoever waits.
type Taken = Result<Vec<u8>, (Burial, Option<FinalRecord>)>;

impl Life {
    /// Takes back the delivery with the highest tag.
    fn take_back(&mut self, queue: &QueueName) -> Option<Taken> {
        let (_, mut held) = self.held.pop_last()?;
        Some(match rescue(&mut held.frame, held.started) {
            Rescue::Requeue { .. } => Ok(held.frame),
            Rescue::Bury {
                reason,
                note,
                result,
            } => {
                let burial = Burial {
                    queue: queue.clone(),
                    worker: self.incarnation.worker.clone(),
                    reason,
                    note,
                    frame: held.frame,
                };
                Err((burial, result))
            }
        })
    }
}
