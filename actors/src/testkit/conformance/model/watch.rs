//! Time, sweeps and promotion in a history; and the comparison of both worlds after each step.

use std::collections::BTreeMap;

use super::super::Harness;
use super::expected::At;
use super::player::{Player, number, same};
use crate::fence::holds_back;
use crate::header::Header;
use crate::ids::IncarnationId;
use crate::lease::MAX_BATCH;
use crate::ports::ScanRequest;
use crate::state::TaskState;

/// The model's time, in eighths of a lease.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) eighths: u32,
    last_sweep: Option<u32>,
}

/// What can be seen of a task: its state, its counts, and who holds it.
type Seen = (String, u8, u8, Option<IncarnationId>);

impl<H: Harness> Player<H> {
    /// A quarter of a lease passes; the living renew; one sweep.
    pub(super) async fn tick(&mut self, limit: u32) -> Result<(), String> {
        self.stage.harness.pass(self.eighth() * 2).await;
        self.watch.eighths += 2;
        let living = self.lives.iter_mut().filter(|life| !life.silent);
        let mut ids = Vec::new();
        for life in living {
            life.heard = self.watch.eighths;
            ids.push(life.consumer.id());
        }
        let gone = self.stage.broker.renew(&self.stage.queue, &ids).await;
        same("DESIGN 1: who renews is never gone", gone, Ok(vec![]))?;
        self.sweep(limit).await
    }

    /// Three leases pass in which nobody is heard.
    pub(super) async fn outage(&mut self) {
        self.stage.harness.pass(self.eighth() * 24).await;
        self.watch.eighths += 24;
    }

    pub(super) async fn sweep(&mut self, limit: u32) -> Result<(), String> {
        let swept = self.there.sweep(&self.stage.queue, limit).await;
        let swept = swept.map_err(|error| error.to_string())?;
        let eighth = self.eighth();
        let last = self.watch.last_sweep.map(|at| eighth * at);
        let held_back = holds_back(last, eighth * self.watch.eighths, Some(eighth * 8));
        self.watch.last_sweep = Some(self.watch.eighths);
        same("PROTOCOL 3: no mass rescue", swept.held_back, held_back)?;
        let mut closed = Vec::new();
        for life in self.lives.iter_mut().filter(|life| !life.closed) {
            let over = !held_back && self.watch.eighths >= life.heard + 8;
            if life.proven || over {
                life.closed = true;
                closed.push((life.consumer.id(), life.proven));
            } else if held_back {
                life.heard = self.watch.eighths;
            }
        }
        closed.sort_unstable();
        let found = swept
            .closed
            .iter()
            .map(|closed| (closed.id, closed.proven_dead));
        let mut found: Vec<_> = found.collect();
        found.sort_unstable();
        same(
            "PROTOCOL 3: the silent and the proven dead are closed",
            found,
            closed,
        )?;
        self.take_back(limit, &swept).await
    }

    /// Finds out which of the deliveries of closed lives a sweep took back; all of them if its limit allowed it.
    async fn take_back(&mut self, limit: u32, swept: &crate::lease::Swept) -> Result<(), String> {
        let orphan = |at: At| matches!(at, At::Held(life, ..) if self.lives[life].closed);
        let orphans = self.expected.numbers(|known| orphan(known.at));
        let seen = self.look().await?;
        let moved = |number: &u128| seen.get(number).is_none_or(|seen| seen.0 != "active");
        let moved: Vec<u128> = orphans.iter().copied().filter(moved).collect();
        let steps = orphans.len().min(limit as usize);
        same(
            "PROTOCOL 3: as many as the limit allows",
            moved.len(),
            steps,
        )?;
        same(
            "PROTOCOL 3: more is left",
            swept.more,
            orphans.len() > steps,
        )?;
        let before = self.expected.counters;
        for number in moved {
            self.expected.rescue(number);
        }
        let after = self.expected.counters;
        let expected = (after.rescued - before.rescued, after.dead - before.dead);
        let found = (u64::from(swept.rescued), u64::from(swept.buried));
        same("PROTOCOL 3: rescued and buried", found, expected)
    }

    pub(super) async fn promote(&mut self, limit: u32) -> Result<(), String> {
        let promoted = self.there.promote_due(&self.stage.queue, limit).await;
        let promoted = promoted.map_err(|error| error.to_string())?;
        let seen = self.look().await?;
        let (mut due, mut moved) = (Vec::new(), 0);
        for (number, known) in &mut self.expected.tasks {
            let (At::Scheduled(at) | At::Retrying(at)) = known.at else {
                continue;
            };
            if seen.get(number).is_some_and(|seen| seen.0 == "ready") {
                known.at = At::Ready;
                known.moved = true;
                moved += 1;
                due.push((at, true));
            } else {
                due.push((at, false));
            }
        }
        same("PROTOCOL 5: it tells how many", promoted.moved, moved)?;
        same("PROTOCOL 5: no more than the limit", moved > limit, false)?;
        let last = due
            .iter()
            .filter(|(_, moved)| *moved)
            .map(|(at, _)| *at)
            .max();
        let next = due
            .iter()
            .filter(|(_, moved)| !*moved)
            .map(|(at, _)| *at)
            .min();
        same("PROTOCOL 5: it tells what is next", promoted.next_due, next)?;
        let early = last.is_some_and(|last| last > promoted.now);
        same("PROTOCOL 4: nothing is ready before its time", early, false)?;
        let overtaken = last.is_some_and(|last| next.is_some_and(|next| next < last));
        same("PROTOCOL 5: earliest first", overtaken, false)?;
        let left = next.is_some_and(|next| next <= promoted.now) && moved < limit;
        same("PROTOCOL 5: all that is due, up to the limit", left, false)
    }

    /// Reads every task that the broker has, and fails if one is there twice.
    async fn look(&self) -> Result<BTreeMap<u128, Seen>, String> {
        let mut seen = BTreeMap::new();
        for state in [
            TaskState::Ready,
            TaskState::Scheduled,
            TaskState::Retrying,
            TaskState::Active,
        ] {
            let request = ScanRequest {
                queue: self.stage.queue.clone(),
                state,
                after: None,
                limit: MAX_BATCH,
            };
            let page = self
                .there
                .scan(&request)
                .await
                .map_err(|error| error.to_string())?;
            for task in page.tasks {
                let holder = task.holder.map(|(_, incarnation)| incarnation);
                see(&mut seen, &task.frame, (state.as_str(), holder))?;
            }
        }
        let dead = self
            .there
            .take_dead(MAX_BATCH)
            .await
            .map_err(|error| error.to_string())?;
        for dead in dead {
            see(&mut seen, &dead.frame, ("dead", None))?;
        }
        Ok(seen)
    }

    /// Compares every task and every counter of both worlds.
    pub(super) async fn compare(&self) -> Result<(), String> {
        let found = self.look().await?;
        let mut expected = BTreeMap::new();
        for (number, known) in &self.expected.tasks {
            let (state, holder) = match known.at {
                At::Ended => continue,
                At::Ready => ("ready", None),
                At::Scheduled(_) => ("scheduled", None),
                At::Retrying(_) => ("retrying", None),
                At::Dead => ("dead", None),
                At::Held(life, ..) => ("active", Some(self.lives[life].consumer.id())),
            };
            let seen = (state.to_owned(), known.deliveries, known.strikes, holder);
            expected.insert(*number, seen);
        }
        same(
            "DESIGN 1: nothing lost, nothing held twice, each where it must be",
            found,
            expected,
        )?;
        if self.expected.tasks.is_empty() {
            return Ok(());
        }
        let counters = self.stage.counters().await;
        same(
            "PROTOCOL 10: every step is counted",
            counters,
            self.expected.counters,
        )
    }

    /// Ends the history: the living close in order, and sweeps finish what earlier ones began.
    pub(super) async fn finish(mut self) -> Result<(), String> {
        let resumed = self.stage.broker.pause(&self.stage.queue, false).await;
        same("resuming", resumed, Ok(()))?;
        self.expected.paused = false;
        for life in 0..self.lives.len() {
            if !self.lives[life].silent {
                self.close(life).await?;
            }
        }
        for _ in 0..3 {
            self.sweep(MAX_BATCH).await?;
        }
        self.compare().await
    }
}

fn see(
    seen: &mut BTreeMap<u128, Seen>,
    frame: &[u8],
    (state, holder): (&str, Option<IncarnationId>),
) -> Result<(), String> {
    let number = number(frame);
    let header = Header::read(frame).map_err(|error| format!("{state} task: {error}"))?;
    let now = (state.to_owned(), header.deliveries, header.strikes, holder);
    match seen.insert(number, now) {
        None => Ok(()),
        Some(before) => Err(format!(
            "task {number} is there twice: {before:?} and {state}"
        )),
    }
}
