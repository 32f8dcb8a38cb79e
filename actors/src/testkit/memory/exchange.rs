//! The numbered call: settle what finished, fetch what is next. And the un-numbered ways to end a delivery.

use std::sync::Arc;

use super::settle::Settling;
use super::state::{Held, Life, Now, Queue, State};
use crate::fence::{Numbered, check_exchange, check_open, check_outcome, judge_exchange};
use crate::ids::{IncarnationId, QueueName};
use crate::lease::{Delivery, ExchangeCall, Exchanged, Incarnation, Outcome, Place};
use crate::ports::BrokerError;

impl State {
    pub(super) fn open(&mut self, incarnation: &Incarnation, now: Now) -> Result<(), BrokerError> {
        check_open(incarnation).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let queue = self.queue(&incarnation.queue);
        if queue.closed.contains_key(&incarnation.id) {
            return Err(BrokerError::Gone);
        }
        let life = queue.lives.entry(incarnation.id).or_insert_with(|| Life {
            incarnation: incarnation.clone(),
            deadline: now.boot,
            held_back: crate::fence::Held::default(),
            last: None,
            held: std::collections::BTreeMap::new(),
            next_tag: 0,
        });
        if life.incarnation != *incarnation {
            return misuse("an incarnation was opened again with other words");
        }
        life.renew(now);
        Ok(())
    }

    pub(super) fn exchange(
        &mut self,
        call: &Arc<ExchangeCall>,
        now: Now,
    ) -> Result<Exchanged, BrokerError> {
        let life = self.life(&call.queue, call.incarnation)?;
        let last = life.last.as_ref().map_or(0, |(call, _)| call.number);
        match judge_exchange(last, call.number) {
            Numbered::Astray => return Err(BrokerError::Gone),
            Numbered::Repeat => return life.repeat(call, now),
            Numbered::Fresh => {}
        }
        check_exchange(call).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        if call.want > 0 && call.first_tag < life.next_tag {
            return misuse("tags must ascend and are never used twice");
        }
        for settlement in &call.settlements {
            life.check(settlement.tag, &settlement.outcome)?;
        }
        life.renew(now);
        let stale = self.settle_all(call, now);
        let queue = self.queue(&call.queue);
        let deliveries = queue.fetch(call);
        queue.ring();
        let reply = Exchanged {
            stale,
            deliveries,
            more: queue.has_ready() && !queue.paused,
            now: now.wall,
            revocations: queue.revocations,
        };
        let life = self.life(&call.queue, call.incarnation)?;
        life.last = Some((Arc::clone(call), reply.clone()));
        Ok(reply)
    }

    fn settle_all(&mut self, call: &ExchangeCall, now: Now) -> Vec<u64> {
        let mut stale = Vec::new();
        let mut settling = Settling::new(now);
        for settlement in &call.settlements {
            let place = place(call, settlement.tag);
            if !self.settle(&place, settlement.outcome.clone(), &mut settling) {
                stale.push(settlement.tag);
            }
        }
        let queue = self.queue(&call.queue);
        queue.counters.stale += stale.len() as u64;
        settling.finish(queue);
        stale
    }

    pub(super) fn take(
        &mut self,
        place: &Place,
        outcome: Outcome,
        now: Now,
    ) -> Result<bool, BrokerError> {
        check_outcome(&outcome).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let Ok(life) = self.life(&place.queue, place.incarnation) else {
            return Ok(false);
        };
        life.check(place.tag, &outcome)?;
        let mut settling = Settling::new(now);
        let taken = self.settle(place, outcome, &mut settling);
        let queue = self.queue(&place.queue);
        settling.finish(queue);
        queue.ring();
        Ok(taken)
    }

    pub(super) fn release(
        &mut self,
        name: &QueueName,
        incarnation: IncarnationId,
        tags: &[u64],
        now: Now,
    ) -> u32 {
        let mut released = 0;
        let mut settling = Settling::new(now);
        for tag in tags {
            let place = Place {
                queue: name.clone(),
                incarnation,
                tag: *tag,
            };
            released += u32::from(self.settle(&place, Outcome::release(), &mut settling));
        }
        if let Some(queue) = self.queues.get_mut(name) {
            settling.finish(queue);
            queue.ring();
        }
        released
    }

    pub(super) fn close(&mut self, name: &QueueName, incarnation: IncarnationId, now: Now) -> u32 {
        let held = self.life(name, incarnation);
        let tags: Vec<u64> = held.map_or_else(|_| Vec::new(), |l| l.held.keys().copied().collect());
        let released = self.release(name, incarnation, &tags, now);
        let queue = self.queue(name);
        queue.lives.remove(&incarnation);
        queue.closed.entry(incarnation).or_insert(now.wall);
        released
    }

    pub(super) fn mark_started(&mut self, place: &Place) -> Result<bool, BrokerError> {
        let life = self.life(&place.queue, place.incarnation)?;
        let held = life.held.get_mut(&place.tag);
        Ok(held.map(|held| held.started = true).is_some())
    }

    pub(super) fn renew(
        &mut self,
        queue: &QueueName,
        incarnations: &[IncarnationId],
        now: Now,
    ) -> Vec<IncarnationId> {
        let gone = |id: &IncarnationId| match self.life(queue, *id) {
            Ok(life) => {
                life.renew(now);
                None
            }
            Err(_) => Some(*id),
        };
        incarnations.iter().filter_map(gone).collect()
    }
}

impl Life {
    /// Gives the reply of the last call again, with those of its deliveries that are still held.
    fn repeat(&mut self, call: &Arc<ExchangeCall>, now: Now) -> Result<Exchanged, BrokerError> {
        self.renew(now);
        let Some((last, reply)) = &self.last else {
            return Err(BrokerError::Gone);
        };
        if **last != **call {
            return misuse("a repeated call differs from the first");
        }
        let mut reply = reply.clone();
        reply.deliveries = reply
            .deliveries
            .iter()
            .filter_map(|delivery| {
                let held = self.held.get(&delivery.tag)?;
                Some(Delivery {
                    tag: delivery.tag,
                    frame: held.frame.clone(),
                })
            })
            .collect();
        Ok(reply)
    }
}

impl Queue {
    fn fetch(&mut self, call: &ExchangeCall) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        if self.paused {
            return deliveries;
        }
        for tag in (call.first_tag..).take(call.want as usize) {
            let Some(frame) = self.pop() else { break };
            deliveries.push(Delivery { tag, frame });
        }
        if let Some(life) = self.lives.get_mut(&call.incarnation) {
            for delivery in &deliveries {
                let held = Held {
                    frame: delivery.frame.clone(),
                    started: false,
                };
                life.held.insert(delivery.tag, held);
                life.next_tag = delivery.tag + 1;
            }
        }
        deliveries
    }
}

fn place(call: &ExchangeCall, tag: u64) -> Place {
    Place {
        queue: call.queue.clone(),
        incarnation: call.incarnation,
        tag,
    }
}

/// The answer to a caller that breaks the contract in a way other brokers do not notice.
pub(super) fn misuse<T>(what: &str) -> Result<T, BrokerError> {
    Err(BrokerError::Invalid(format!("misuse: {what}")))
}
