//! A canary revival: one letter first, then ten, then the rest in stages of a hundred, each after the ends of the one before.
//! Too many failures end it, and the rest stays dead.
//!
//! What to do next is [`next`], a function of counts. [`Canary`] carries it out, a step a call: a letter is either untouched or
//! its revival was begun, and whoever finds one that was begun finishes it, so it may be left after any step. Letters are
//! taken from the newest to the oldest; those that revived tasks leave when they die again are newer than all, and never
//! taken.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ReviveError, revive};
use crate::ids::{BurialId, QueueName, TaskId};
use crate::lease::FinalRecord;
use crate::ports::{
    Broker, DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadStatus, StoreError,
};
use crate::producer::TaskHandle;
use crate::state::TaskState;

/// How many letters have been revived after the first stage, and after the second.
const FIRST: [u64; 2] = [1, 11];
/// How many letters a later stage has.
const STAGE: u64 = 100;
/// How long one look for ends waits for the next one.
const LOOK: Duration = Duration::from_secs(1);
/// How long it pauses where a look returns at once without news.
const PAUSE: Duration = Duration::from_millis(300);
/// How many burials of one task are looked at.
const BURIALS: u32 = 1_000;

/// How far a canary revival may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryPlan {
    /// Which share of what was revived may fail, from 0 (nothing) to 1 (everything). Default 0.1.
    pub bound: f64,
    /// How long the ends of a stage are waited for, from its last revival on. Default 10 minutes.
    pub wait: Duration,
    /// How many letters are revived at most; `None` for all that match.
    pub limit: Option<u64>,
}

impl Default for CanaryPlan {
    fn default() -> Self {
        Self {
            bound: 0.1,
            wait: Duration::from_secs(600),
            limit: None,
        }
    }
}

/// What is known of the letters so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanaryCounts {
    /// How many were revived.
    pub revived: u64,
    /// How many of them succeeded.
    pub succeeded: u64,
    /// How many of them ended in another way: dead again, cancelled, expired.
    pub failed: u64,
    /// How many could not be revived. They say nothing about the others.
    pub refused: u64,
}

impl CanaryCounts {
    /// Returns how many were revived and have not ended.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.revived.saturating_sub(self.succeeded + self.failed)
    }
}

/// What a canary revival does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryStep {
    /// Revive at most so many more.
    Revive(u64),
    /// Wait for ends.
    Wait,
    /// It is over.
    End(CanaryEnd),
}

/// How a canary revival ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryEnd {
    /// All that match were revived, and have ended.
    Done,
    /// More of them failed than may.
    TooManyFailed,
    /// A stage did not end in time.
    TooSlow,
}

/// Decides what to do next. `bound` is the share that may fail; `is_over` says that nothing is left to be revived, `is_late`
/// that the ends of this stage were waited for long enough.
///
/// ```
/// use celeriac_actors::revival::canary::{CanaryCounts, CanaryStep, next};
///
/// let one = CanaryCounts { revived: 1, succeeded: 1, ..CanaryCounts::default() };
/// assert_eq!(next(&one, 0.1, false, false), CanaryStep::Revive(10));
/// ```
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "nobody revives more letters than 52 bits can count"
)]
pub fn next(counts: &CanaryCounts, bound: f64, is_over: bool, is_late: bool) -> CanaryStep {
    // What is pending may succeed yet, and changes nothing about this.
    if counts.failed > 0 && counts.failed as f64 > bound * counts.revived as f64 {
        return CanaryStep::End(CanaryEnd::TooManyFailed);
    }
    if counts.pending() > 0 {
        return match is_late {
            true => CanaryStep::End(CanaryEnd::TooSlow),
            false => CanaryStep::Wait,
        };
    }
    if is_over {
        return CanaryStep::End(CanaryEnd::Done);
    }
    let goal = FIRST.into_iter().find(|goal| counts.revived < *goal);
    CanaryStep::Revive(goal.map_or(STAGE, |goal| goal - counts.revived))
}

/// What a step brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryNews {
    /// A letter was revived.
    Revived {
        /// Which one.
        letter: BurialId,
        /// Where its task is now.
        task: TaskHandle,
    },
    /// A letter could not be revived, and stays as it is.
    Refused {
        /// Which one.
        letter: BurialId,
        /// Why not.
        reason: String,
    },
    /// A revived task ended.
    Ended {
        /// Which letter it was.
        letter: BurialId,
        /// How it ended.
        state: TaskState,
    },
    /// Nothing happened.
    Nothing,
    /// It is over.
    Over(CanaryEnd),
}

/// What was known of a task before its revival: another end is a new one.
#[derive(Debug)]
struct Before {
    letter: BurialId,
    record: Option<FinalRecord>,
    burials: BTreeSet<BurialId>,
}

/// A revived task whose end is waited for.
#[derive(Debug)]
struct Pending {
    before: Before,
    queue: QueueName,
}

/// A canary revival under way.
#[derive(Debug)]
pub struct Canary {
    plan: CanaryPlan,
    filter: DeadFilter,
    after: Option<DeadCursor>,
    is_over: bool,
    counts: CanaryCounts,
    /// Letters of this stage that are not revived yet.
    chosen: VecDeque<DeadLetter>,
    before: Option<Before>,
    pending: Vec<Pending>,
    news: VecDeque<CanaryNews>,
    late_at: Option<Instant>,
}

impl Canary {
    /// Prepares the revival of the new letters that match a filter. Touches nothing.
    #[must_use]
    pub fn new(filter: DeadFilter, plan: CanaryPlan) -> Self {
        Self {
            is_over: plan.limit == Some(0),
            plan,
            filter: DeadFilter {
                status: Some(DeadStatus::New),
                ..filter
            },
            after: None,
            counts: CanaryCounts::default(),
            chosen: VecDeque::new(),
            before: None,
            pending: Vec::new(),
            news: VecDeque::new(),
            late_at: None,
        }
    }

    /// Returns what is known so far.
    #[must_use]
    pub const fn counts(&self) -> &CanaryCounts {
        &self.counts
    }

    /// Makes one step: revives one letter, or looks for ends for a second. After [`CanaryNews::Over`] it changes nothing
    /// more.
    ///
    /// Dead tasks must be copied to the store meanwhile, see [`copy_dead`](crate::copy::copy_dead): the end of a task that
    /// dies again is told by its letter where its result is not kept.
    ///
    /// # Errors
    /// [`ReviveError`]: the step may be made again.
    ///
    /// # Cancel safety
    /// A step that is dropped may leave a letter `reviving`, which a worker finishes; it is not counted here.
    pub async fn step(
        &mut self,
        store: &dyn DeadLetters,
        broker: &Arc<dyn Broker>,
    ) -> Result<CanaryNews, ReviveError> {
        if let Some(news) = self.news.pop_front() {
            return Ok(news);
        }
        if let Some(letter) = self.chosen.front().cloned() {
            return self.revive(&letter, store, broker).await;
        }
        let is_late = self.late_at.is_some_and(|at| Instant::now() >= at);
        match next(&self.counts, self.plan.bound, self.is_over, is_late) {
            CanaryStep::End(end) => return Ok(CanaryNews::Over(end)),
            CanaryStep::Revive(count) => self.choose(count, store).await?,
            CanaryStep::Wait => self.look(store, broker).await?,
        }
        Ok(self.news.pop_front().unwrap_or(CanaryNews::Nothing))
    }

    /// Chooses the letters of a stage.
    async fn choose(&mut self, count: u64, store: &dyn DeadLetters) -> Result<(), StoreError> {
        let left = self.plan.limit;
        let left = left.map(|limit| limit.saturating_sub(self.counts.revived));
        let count = count.min(left.unwrap_or(u64::MAX));
        let limit = u32::try_from(count).unwrap_or(u32::MAX);
        if limit == 0 {
            self.is_over = true;
            return Ok(());
        }
        let page = store.list(&self.filter, self.after, limit).await?;
        self.is_over = page.next.is_none();
        self.after = page.next;
        self.chosen = page.letters.into();
        Ok(())
    }

    /// Revives a letter.
    async fn revive(
        &mut self,
        letter: &DeadLetter,
        store: &dyn DeadLetters,
        broker: &Arc<dyn Broker>,
    ) -> Result<CanaryNews, ReviveError> {
        // Looked at once, also when the revival takes several tries: the task may have ended by the second.
        if self.before.as_ref().is_none_or(|b| b.letter != letter.id) {
            self.before = Some(Before {
                letter: letter.id,
                record: broker.result(&letter.queue, letter.id.task).await?,
                burials: burials(letter.id.task, store).await?,
            });
        }
        let revived = revive(letter.id, store, broker).await;
        let news = match revived {
            Ok(task) => {
                let letter = letter.id;
                self.counts.revived += 1;
                self.late_at = Some(Instant::now() + self.plan.wait);
                let queue = task.queue.clone();
                let pending = self.before.take().map(|before| Pending { before, queue });
                self.pending.extend(pending);
                CanaryNews::Revived { letter, task }
            }
            Err(error) if error.is_final() => {
                self.counts.refused += 1;
                CanaryNews::Refused {
                    letter: letter.id,
                    reason: error.to_string(),
                }
            }
            Err(error) => return Err(error),
        };
        self.chosen.pop_front();
        Ok(news)
    }

    /// Looks for ends.
    async fn look(
        &mut self,
        store: &dyn DeadLetters,
        broker: &Arc<dyn Broker>,
    ) -> Result<(), ReviveError> {
        let queues: BTreeSet<QueueName> = self.pending.iter().map(|p| p.queue.clone()).collect();
        let turn = LOOK / u32::try_from(queues.len()).unwrap_or(1).max(1);
        let began = Instant::now();
        for queue in queues {
            let of_queue = self.pending.iter().filter(|p| p.queue == queue);
            let ids: Vec<TaskId> = of_queue.map(|p| p.before.letter.task).collect();
            for record in broker.wait_results(&queue, &ids, turn).await? {
                self.ended(record.state, |pending| {
                    pending.queue == queue
                        && pending.before.letter.task == record.id
                        && pending.before.record.as_ref() != Some(&record)
                });
            }
        }
        for task in self
            .pending
            .iter()
            .map(|p| p.before.letter.task)
            .collect::<Vec<_>>()
        {
            let now = burials(task, store).await?;
            self.ended(TaskState::Dead, |pending| {
                pending.before.letter.task == task && !now.is_subset(&pending.before.burials)
            });
        }
        if self.news.is_empty() && began.elapsed() < PAUSE {
            // What is kept is of former lives.
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Notes the end of those that `is_it` points out.
    fn ended(&mut self, state: TaskState, is_it: impl Fn(&Pending) -> bool) {
        for pending in self.pending.extract_if(.., |pending| is_it(pending)) {
            match state {
                TaskState::Succeeded => self.counts.succeeded += 1,
                _ => self.counts.failed += 1,
            }
            let letter = pending.before.letter;
            self.news.push_back(CanaryNews::Ended { letter, state });
        }
    }
}

/// Returns the burials of a task that the store knows.
async fn burials(task: TaskId, store: &dyn DeadLetters) -> Result<BTreeSet<BurialId>, StoreError> {
    let filter = DeadFilter {
        id: Some(task),
        ..DeadFilter::default()
    };
    let page = store.list(&filter, None, BURIALS).await?;
    Ok(page.letters.iter().map(|letter| letter.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(revived: u64, succeeded: u64, failed: u64) -> CanaryCounts {
        CanaryCounts {
            revived,
            succeeded,
            failed,
            refused: 0,
        }
    }

    #[test]
    fn one_then_ten_then_stages_of_a_hundred() {
        for (revived, stage) in [(0, 1), (1, 10), (4, 7), (11, 100), (111, 100), (5_000, 100)] {
            let step = next(&counts(revived, revived, 0), 0.1, false, false);
            assert_eq!(step, CanaryStep::Revive(stage), "{revived}");
        }
    }

    #[test]
    fn no_stage_begins_before_the_last_one_ended() {
        assert_eq!(
            next(&counts(11, 10, 0), 0.1, false, false),
            CanaryStep::Wait
        );
        assert_eq!(next(&counts(11, 10, 0), 0.1, true, false), CanaryStep::Wait);
        assert_eq!(
            next(&counts(11, 10, 0), 0.1, false, true),
            CanaryStep::End(CanaryEnd::TooSlow)
        );
    }

    #[test]
    fn the_share_of_failures_is_of_all_that_was_revived() {
        let failed = CanaryStep::End(CanaryEnd::TooManyFailed);
        assert_eq!(next(&counts(1, 0, 1), 0.1, false, false), failed);
        assert_eq!(
            next(&counts(11, 10, 1), 0.1, false, false),
            CanaryStep::Revive(100)
        );
        // As soon as it is certain, whatever is pending.
        assert_eq!(next(&counts(11, 1, 2), 0.1, false, false), failed);
        // At the bound, not beyond it.
        assert_eq!(
            next(&counts(10, 9, 1), 0.1, false, false),
            CanaryStep::Revive(1)
        );
        assert_eq!(next(&counts(111, 110, 1), 0.0, false, false), failed);
        assert_eq!(
            next(&counts(11, 0, 11), 1.0, true, false),
            CanaryStep::End(CanaryEnd::Done)
        );
        // What could not even be revived says nothing.
        let refused = CanaryCounts {
            refused: 7,
            ..counts(0, 0, 0)
        };
        assert_eq!(next(&refused, 0.0, false, false), CanaryStep::Revive(1));
        assert_eq!(
            next(&refused, 0.0, true, false),
            CanaryStep::End(CanaryEnd::Done)
        );
    }

    proptest! {
        /// Whatever happens: nothing new is begun beside what is pending, and never past the bound.
        #[test]
        fn it_goes_on_only_when_all_is_well(
            revived in 0_u64..300, good in 0_u64..300, bad in 0_u64..300,
            bound in 0.0_f64..=1.0, is_over: bool, is_late: bool,
        ) {
            let good = good.min(revived);
            let counts = counts(revived, good, bad.min(revived - good));
            if let CanaryStep::Revive(stage) = next(&counts, bound, is_over, is_late) {
                prop_assert!(!is_over && counts.pending() == 0 && (1..=STAGE).contains(&stage));
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let within = counts.failed as f64 <= bound * counts.revived as f64;
                prop_assert!(within);
            }
        }
    }
}
