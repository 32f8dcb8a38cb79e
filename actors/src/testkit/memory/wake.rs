//! Wake tokens: at most one of a kind per queue, taken by whoever waits first; revocations reach all who wait.

use super::state::{State, Waiter};
use crate::ids::QueueName;
use crate::ports::Wake;

impl State {
    /// Registers somebody who begins to wait.
    pub(super) fn register(&mut self, queues: &[QueueName]) -> u64 {
        self.next_waiter += 1;
        let waiter = Waiter {
            queues: queues.iter().cloned().collect(),
            revoked: std::collections::BTreeSet::new(),
        };
        self.waiters.insert(self.next_waiter, waiter);
        self.next_waiter
    }

    /// Tells all who wait on a queue that its revocations changed; the next one who comes when nobody does.
    pub(super) fn ring_revoked(&mut self, name: &QueueName) {
        let mut heard = false;
        for waiter in self.waiters.values_mut() {
            if waiter.queues.contains(name) {
                waiter.revoked.insert(name.clone());
                heard = true;
            }
        }
        if !heard {
            self.queue(name).bells.revoked = true;
        }
    }

    /// Takes the tokens that are there for one who waits.
    pub(super) fn collect(&mut self, id: u64) -> Vec<Wake> {
        let Some(waiter) = self.waiters.get_mut(&id) else {
            return Vec::new();
        };
        let mut wakes = Vec::new();
        for name in &waiter.queues {
            let mut revoked = waiter.revoked.remove(name);
            if let Some(queue) = self.queues.get_mut(name) {
                let bells = std::mem::take(&mut queue.bells);
                revoked |= bells.revoked;
                if bells.ready {
                    wakes.push(Wake::Ready(name.clone()));
                }
                if bells.due {
                    wakes.push(Wake::Due(name.clone()));
                }
            }
            if revoked {
                wakes.push(Wake::Revoked(name.clone()));
            }
        }
        if std::mem::take(&mut self.graves.bell) {
            wakes.push(Wake::Dead);
        }
        wakes
    }
}
