//! Plays a history on a broker and on the model, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::kit::header;
use super::super::{Consumer, Harness, Stage};
use super::expected::{At, Expected, Known, When};
use super::history::{End, Op};
use crate::header::Header;
use crate::lease::{ExchangeCall, Exchanged, Outcome};
use crate::ports::{Broker, BrokerError, EnqueueCall, NewTask, When as Due, id_of};
use crate::state::DeadReason;
use crate::time::Timestamp;

/// How many consumers live at a time.
const CONSUMERS: usize = 3;

/// Both worlds.
#[derive(Debug)]
pub(super) struct Player<H> {
    pub(super) stage: Stage<H>,
    pub(super) there: Arc<dyn Broker>,
    pub(super) expected: Expected,
    pub(super) lives: Vec<Life>,
    pub(super) watch: super::watch::Watch,
    last_enqueue: Option<(Arc<EnqueueCall>, Timestamp)>,
}

/// A consumer, living, silent or closed.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) consumer: Consumer,
    last: Option<(Arc<ExchangeCall>, Exchanged)>,
    /// The bytes it was handed out, by tag.
    frames: BTreeMap<u64, Vec<u8>>,
    pub(super) silent: bool,
    pub(super) proven: bool,
    pub(super) closed: bool,
    /// When the broker last heard of it, in eighths of a lease.
    pub(super) heard: u32,
}

/// Fails the step unless both are equal.
pub(super) fn same<T: std::fmt::Debug + PartialEq>(
    rule: &str,
    found: T,
    expected: T,
) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{rule}\n  expected: {expected:?}\n     found: {found:?}"
    ))
}

/// Fails the step unless the broker answers.
pub(super) fn answered<T>(answer: Result<T, BrokerError>) -> Result<T, String> {
    answer.map_err(|error| format!("refused: {error}"))
}

impl<H: Harness> Player<H> {
    pub(super) async fn start() -> Self {
        let stage = Stage::<H>::fresh().await;
        let there = stage.harness.another().await;
        let mut player = Self {
            stage,
            there,
            expected: Expected::default(),
            lives: Vec::new(),
            watch: super::watch::Watch::default(),
            last_enqueue: None,
        };
        for _ in 0..CONSUMERS {
            player.hire().await;
        }
        player
    }

    /// Opens another consumer.
    pub(super) async fn hire(&mut self) {
        let worker = format!("w{}", self.lives.len());
        let mut consumer = self.stage.unopened(&worker);
        if !self.stage.harness.time_is_free() {
            consumer.incarnation.lease = Duration::from_secs(600);
        }
        let opened = consumer.broker.open(&consumer.incarnation).await;
        opened.expect("opening is accepted");
        self.lives.push(Life {
            consumer,
            last: None,
            frames: BTreeMap::new(),
            silent: false,
            proven: false,
            closed: false,
            heard: self.watch.eighths,
        });
    }

    /// Picks one of the lives that are silent, or of those that are not.
    fn life(&self, pick: usize, silent: bool) -> Option<usize> {
        let lives = self.lives.iter().enumerate();
        let those = lives.filter(|(_, life)| life.silent == silent && (silent || !life.closed));
        let those: Vec<usize> = those.map(|(index, _)| index).collect();
        (!those.is_empty()).then(|| those[pick % those.len()])
    }

    pub(super) async fn step(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Enqueue { .. } => self.enqueue(op).await?,
            Op::RepeatEnqueue => self.repeat_enqueue().await?,
            Op::Watch { quarters, limit } => {
                for _ in 0..*quarters {
                    self.tick(*limit).await?;
                }
            }
            Op::Outage => self.outage().await,
            Op::Sweep { limit } => self.sweep(*limit).await?,
            Op::Promote { limit } => self.promote(*limit).await?,
            Op::Pause(paused) => {
                answered(self.stage.broker.pause(&self.stage.queue, *paused).await)?;
                self.expected.paused = *paused;
            }
            Op::DropDead { count } => self.drop_dead(*count).await?,
            Op::Ghost { who, .. } | Op::Prove { who } => {
                if let Some(life) = self.life(*who, true) {
                    self.haunt(life, op).await?;
                }
            }
            Op::Exchange { who, .. }
            | Op::Repeat { who }
            | Op::Astray { who }
            | Op::Mark { who, .. }
            | Op::Take { who, .. }
            | Op::Release { who, .. }
            | Op::Close { who }
            | Op::Crash { who } => {
                if let Some(life) = self.life(*who, false) {
                    self.act(life, op).await?;
                }
            }
        }
        self.compare().await
    }

    /// A step of a living consumer or its watchdog.
    async fn act(&mut self, life: usize, op: &Op) -> Result<(), String> {
        match op {
            Op::Exchange { ends, want, .. } => self.exchange(life, ends, *want).await,
            Op::Repeat { .. } => self.repeat(life).await,
            Op::Astray { .. } => {
                let mut astray = self.lives[life].consumer.clone();
                astray.call(vec![], 0);
                let answer = astray.try_exchange(vec![(1, Outcome::release())], 2).await;
                same("PROTOCOL 2: astray is gone", answer, Err(BrokerError::Gone))
            }
            Op::Mark { pick, .. } => self.mark(life, *pick).await,
            Op::Take { pick, end, .. } => self.take(life, *pick, *end).await,
            Op::Release { picks, .. } => self.release(life, picks).await,
            Op::Close { .. } => self.close(life).await,
            _ => {
                self.lives[life].silent = true;
                self.hire().await;
                Ok(())
            }
        }
    }

    /// A step of a silent consumer: it comes back, or is proven dead.
    async fn haunt(&mut self, life: usize, op: &Op) -> Result<(), String> {
        if let Op::Ghost { end, .. } = op {
            return self.exchange(life, &[(0, *end)], 1).await;
        }
        let worker = self.lives[life].consumer.incarnation.worker.clone();
        self.lives[life].proven |= self.stage.harness.declare_dead(&worker).await;
        Ok(())
    }

    async fn enqueue(&mut self, op: &Op) -> Result<(), String> {
        let Op::Enqueue {
            count,
            priority,
            deliveries,
            delay,
        } = op
        else {
            return Ok(());
        };
        let delay = self.eighth() * *delay;
        let first = self.expected.tasks.len() as u128 + 1;
        let numbers = first..first + u128::from(*count);
        let tasks = numbers.clone().map(|number| {
            let mut frame = Vec::new();
            let deliveries = *deliveries;
            Header {
                deliveries,
                ..header(number, *priority)
            }
            .write(&mut frame);
            let when = Due::After(delay);
            NewTask { frame, when }
        });
        let call = Arc::new(self.stage.call(tasks.collect()));
        let now = answered(self.stage.broker.enqueue(Arc::clone(&call)).await)?;
        let scheduled = At::Scheduled(now.plus(delay));
        let at = if delay.is_zero() {
            At::Ready
        } else {
            scheduled
        };
        for number in numbers {
            let known = Known {
                at,
                priority: *priority,
                deliveries: *deliveries,
                strikes: 0,
                moved: !delay.is_zero(),
            };
            self.expected.tasks.insert(number, known);
            self.expected.counters.enqueued += 1;
        }
        self.last_enqueue = Some((call, now));
        Ok(())
    }

    async fn repeat_enqueue(&mut self) -> Result<(), String> {
        let Some((call, now)) = &self.last_enqueue else {
            return Ok(());
        };
        let again = self.there.enqueue(Arc::clone(call)).await;
        same("PROTOCOL 4: a repeat has the same reply", again, Ok(*now))
    }

    async fn exchange(
        &mut self,
        life: usize,
        ends: &[(usize, End)],
        want: u32,
    ) -> Result<(), String> {
        let tags: Vec<u64> = ends.iter().map(|(pick, _)| self.tag(life, *pick)).collect();
        let outcomes = tags.iter().zip(ends);
        let outcomes = outcomes.map(|(tag, (_, end))| (*tag, self.outcome(life, *tag, *end)));
        let outcomes = outcomes.collect();
        let call = self.lives[life].consumer.call(outcomes, want);
        let answer = self.stage.broker.exchange(Arc::clone(&call)).await;
        if self.lives[life].closed {
            return same(
                "DESIGN 1: the closed are fenced",
                answer,
                Err(BrokerError::Gone),
            );
        }
        let reply = answered(answer)?;
        self.lives[life].heard = self.watch.eighths;
        let when = self.when(reply.now);
        let mut stale = Vec::new();
        for (tag, (_, end)) in tags.iter().zip(ends) {
            if !self.expected.settle((life, *tag), *end, when) {
                stale.push(*tag);
                self.expected.counters.stale += 1;
            }
        }
        same(
            "PROTOCOL 2: what was not held is stale",
            reply.stale.clone(),
            stale,
        )?;
        self.receive(life, &call, &reply)?;
        self.lives[life].last = Some((call, reply));
        Ok(())
    }

    fn receive(
        &mut self,
        life: usize,
        call: &ExchangeCall,
        reply: &Exchanged,
    ) -> Result<(), String> {
        let mut fetched = Vec::new();
        for (tag, delivery) in (call.first_tag..).zip(&reply.deliveries) {
            same("PROTOCOL 2: tags ascend", delivery.tag, tag)?;
            fetched.push((tag, number(&delivery.frame)));
            let frames = &mut self.lives[life].frames;
            frames.insert(tag, delivery.frame.clone());
        }
        self.expected.fetch(life, &fetched, call.want)?;
        let left = !self
            .expected
            .numbers(|known| known.at == At::Ready)
            .is_empty();
        let more = left && !self.expected.paused;
        same("PROTOCOL 5: more tells what is left", reply.more, more)
    }

    async fn repeat(&mut self, life: usize) -> Result<(), String> {
        let Some((call, reply)) = &self.lives[life].last else {
            return Ok(());
        };
        let again = self.there.exchange(Arc::clone(call)).await;
        let mut expected = reply.clone();
        let held = self.expected.tags(life);
        expected
            .deliveries
            .retain(|delivery| held.contains(&delivery.tag));
        self.lives[life].heard = self.watch.eighths;
        same(
            "PROTOCOL 2: a repeat gets the stored reply",
            again,
            Ok(expected),
        )
    }

    /// Picks a tag that the life holds; one time in four one that it was handed out before, or never.
    pub(super) fn tag(&self, life: usize, pick: usize) -> u64 {
        let held = self.expected.tags(life);
        if held.is_empty() || pick % 4 == 3 {
            return pick as u64 % 40;
        }
        held[pick % held.len()]
    }

    pub(super) fn outcome(&self, life: usize, tag: u64, end: End) -> Outcome {
        let frame = self.lives[life].frames.get(&tag).cloned();
        let frame = frame.unwrap_or_else(|| super::super::frame(999_999, 5));
        match end {
            End::Succeed => super::super::outcome::succeed(),
            End::Retry(delay) => Outcome::Retry {
                frame,
                delay: self.eighth() * delay,
            },
            End::Release(delay) => Outcome::Release {
                frame: None,
                delay: self.eighth() * delay,
            },
            End::Bury => Outcome::Bury {
                frame: Some(frame),
                reason: DeadReason::Exhausted,
                note: String::new(),
                result: None,
            },
            End::Cancel => Outcome::Cancel { result: None },
            End::Expire => Outcome::Expire { result: None },
        }
    }

    pub(super) fn eighth(&self) -> Duration {
        self.stage.harness.lease() / 8
    }

    pub(super) fn when(&self, now: Timestamp) -> When {
        When {
            now,
            eighth: self.eighth(),
        }
    }
}

/// Returns the number of a task.
pub(super) fn number(frame: &[u8]) -> u128 {
    id_of(frame).map_or(u128::MAX, |id| id.as_uuid().as_u128())
}
