//! What others do to a consumer's deliveries in a history: its watchdog, and whoever copies the dead.

use super::super::Harness;
use super::expected::At;
use super::history::End;
use super::player::{Player, answered, number, same};
use crate::time::Timestamp;

impl<H: Harness> Player<H> {
    pub(super) async fn mark(&mut self, life: usize, pick: usize) -> Result<(), String> {
        let tag = self.tag(life, pick);
        let place = self.lives[life].consumer.place(tag);
        let marked = answered(self.stage.broker.mark_started(&place).await)?;
        let held = self.expected.held(life, tag);
        if let Some(known) = held.and_then(|number| self.expected.tasks.get_mut(&number)) {
            known.at = At::Held(life, tag, true);
        }
        same("only what is held is marked", marked, held.is_some())
    }

    pub(super) async fn take(&mut self, life: usize, pick: usize, end: End) -> Result<(), String> {
        // The reply tells no time, so what is taken does not wait.
        let end = match end {
            End::Retry(_) => End::Retry(0),
            End::Release(_) => End::Release(0),
            other => other,
        };
        let tag = self.tag(life, pick);
        let place = self.lives[life].consumer.place(tag);
        let outcome = self.outcome(life, tag, end);
        let taken = answered(self.there.take(&place, outcome).await)?;
        let held = self
            .expected
            .settle((life, tag), end, self.when(Timestamp::EPOCH));
        same("PROTOCOL 2: take works if it removes the tag", taken, held)
    }

    pub(super) async fn release(&mut self, life: usize, picks: &[usize]) -> Result<(), String> {
        let tags: Vec<u64> = picks.iter().map(|pick| self.tag(life, *pick)).collect();
        let id = self.lives[life].consumer.id();
        let queue = &self.stage.queue;
        let released = answered(self.there.release(queue, id, &tags).await)?;
        let when = self.when(Timestamp::EPOCH);
        let held = tags.iter().filter(|tag| {
            let place = (life, **tag);
            self.expected.settle(place, End::Release(0), when)
        });
        same(
            "release tells how many were held",
            released as usize,
            held.count(),
        )
    }

    pub(super) async fn close(&mut self, life: usize) -> Result<(), String> {
        let id = self.lives[life].consumer.id();
        let closed = answered(self.stage.broker.close(&self.stage.queue, id).await)?;
        let when = self.when(Timestamp::EPOCH);
        let held = self.expected.release_all(life, when);
        self.lives[life].closed = true;
        self.lives[life].silent = true;
        self.hire().await;
        same("close tells how many were held", closed as usize, held)
    }

    pub(super) async fn drop_dead(&mut self, count: u32) -> Result<(), String> {
        let dead = answered(self.there.take_dead(count).await)?;
        let burials: Vec<_> = dead.iter().map(|dead| dead.burial).collect();
        let dropped = answered(self.stage.broker.drop_dead(&burials).await)?;
        for dead in &dead {
            let known = self.expected.tasks.get_mut(&number(&dead.frame));
            known.ok_or("a stranger among the dead")?.at = At::Ended;
        }
        same(
            "PROTOCOL 9: dropped by burial",
            dropped as usize,
            dead.len(),
        )
    }
}
