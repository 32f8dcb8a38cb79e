//! How long dead letters are kept, and how many: what is beyond it is deleted, the oldest first, a bounded step at a time.

use std::time::Duration;

use slog::{Logger, info};

use crate::ports::{DeadFilter, DeadLetters, StoreError};
use crate::time::Timestamp;

/// How much is kept. By default everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionLimits {
    /// How long after its burial a letter is kept, whatever became of it; `None` for ever.
    pub max_age: Option<Duration>,
    /// How many letters are kept, those that are being revived included; `None` for all.
    pub max_count: Option<u64>,
}

impl RetentionLimits {
    /// Returns whether everything is kept.
    #[must_use]
    pub const fn keep_everything(&self) -> bool {
        self.max_age.is_none() && self.max_count.is_none()
    }
}

/// What a step deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many letters were too old.
    pub by_age: u64,
    /// How many letters were too many.
    pub by_count: u64,
    /// Whether there may be more: the step deleted as many as it was allowed to.
    pub more: bool,
}

impl Removed {
    /// Returns how many letters went.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.by_age + self.by_count
    }

    /// Logs what went, in one line; nothing when nothing did.
    pub fn report(&self, log: &Logger) {
        if self.total() > 0 {
            info!(log, "deleted dead letters that are not kept any longer";
                "too_old" => self.by_age, "too_many" => self.by_count);
        }
    }
}

/// Deletes at most `step` letters that are beyond `limits`, those that are too old first. `now` is the wall clock's instant.
///
/// A letter that is being revived is never deleted. Several processes may do this at once: none deletes what another one made
/// room for. Call it again while [`Removed::more`] says so.
///
/// # Errors
/// [`StoreError`]: repeat. What the step deleted before it is not told.
pub async fn retain(
    store: &dyn DeadLetters,
    now: Timestamp,
    limits: &RetentionLimits,
    step: u32,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    if let Some(age) = limits.max_age {
        let too_old = DeadFilter {
            until: Some(now.minus(age)),
            ..DeadFilter::default()
        };
        removed.by_age = store.purge(&too_old, step).await?;
    }
    let left = u64::from(step).saturating_sub(removed.by_age);
    if let Some(keep) = limits.max_count
        && left > 0
    {
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        removed.by_count = store.trim(keep, left).await?;
    }
    removed.more = removed.total() >= u64::from(step);
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameLimits;
    use crate::ids::{BurialId, QueueName, TaskId, WorkerId};
    use crate::lease::DeadTask;
    use crate::letters::letter_from;
    use crate::state::DeadReason;
    use crate::testkit::MemoryStore;

    fn id(number: u64) -> BurialId {
        BurialId {
            task: TaskId::from_bytes([7; 16]),
            number,
        }
    }

    /// A store with ten letters, buried at 0, 10, … 90 ms.
    async fn ten() -> MemoryStore {
        let store = MemoryStore::new();
        let letter = |number: u64| {
            let dead = DeadTask {
                burial: id(number),
                queue: QueueName::new("q").unwrap(),
                reason: DeadReason::Exhausted,
                note: String::new(),
                frame: Vec::new(),
                buried_at: Timestamp::from_millis(number * 10),
                worker: WorkerId::new("w").unwrap(),
            };
            letter_from(&dead, &FrameLimits::default())
        };
        store.insert((0..10).map(letter).collect()).await.unwrap();
        store
    }

    fn numbers(store: &MemoryStore) -> Vec<u64> {
        store.letters().iter().map(|l| l.id.number).collect()
    }

    async fn removed(
        store: &MemoryStore,
        age: Option<u64>,
        count: Option<u64>,
        step: u32,
    ) -> (u64, u64, bool) {
        let limits = RetentionLimits {
            max_age: age.map(Duration::from_millis),
            max_count: count,
        };
        let now = Timestamp::from_millis(100);
        let removed = retain(store, now, &limits, step).await.unwrap();
        (removed.by_age, removed.by_count, removed.more)
    }

    #[tokio::test]
    async fn by_default_everything_is_kept() {
        let store = ten().await;
        assert_eq!(removed(&store, None, None, 100).await, (0, 0, false));
        assert!(RetentionLimits::default().keep_everything());
        assert_eq!(numbers(&store).len(), 10);
    }

    #[tokio::test]
    async fn a_step_is_bounded_and_takes_the_oldest_that_are_not_being_revived() {
        let store = ten().await;
        store.begin_revival(id(0), None).await.unwrap();
        assert_eq!(removed(&store, Some(70), None, 1).await, (1, 0, true));
        assert_eq!(numbers(&store), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(removed(&store, Some(70), None, 100).await, (1, 0, false));
        assert_eq!(numbers(&store), [0, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(removed(&store, Some(70), Some(5), 2).await, (0, 2, true));
        assert_eq!(numbers(&store), [0, 5, 6, 7, 8, 9]);
        assert_eq!(removed(&store, Some(70), Some(5), 2).await, (0, 1, false));
        assert_eq!(removed(&store, Some(70), Some(5), 2).await, (0, 0, false));
        assert_eq!(numbers(&store), [0, 6, 7, 8, 9]);
        // Nothing but what is being revived.
        assert_eq!(removed(&store, None, Some(0), 100).await, (0, 4, false));
        assert_eq!(numbers(&store), [0]);
        assert_eq!(removed(&store, Some(0), Some(0), 100).await, (0, 0, false));
    }

    #[tokio::test]
    async fn age_and_count_share_a_step() {
        let store = ten().await;
        assert_eq!(removed(&store, Some(60), Some(3), 5).await, (4, 1, true));
        assert_eq!(removed(&store, Some(60), Some(3), 5).await, (0, 2, false));
        assert_eq!(numbers(&store), [7, 8, 9]);
    }
}
