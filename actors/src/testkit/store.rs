//! A store of dead letters in memory: strict, simple, and away when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::fingerprint::Fingerprint;
use crate::ids::BurialId;
use crate::ports::{
    ClusterCursor, ClusterPage, DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadPage,
    DeadStats, DeadStatus, StatsRow, StoreError,
};

/// A strict [`DeadLetters`] in memory.
///
/// An insert that carries other words for a burial it has already panics: the copy of a dead task never changes.
#[derive(Debug, Default)]
pub struct MemoryStore {
    letters: Mutex<BTreeMap<BurialId, DeadLetter>>,
    away: AtomicBool,
}

type Letters = BTreeMap<BurialId, DeadLetter>;

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every step fail as unavailable, or work again.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// Returns all letters, oldest burial first.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        let mut letters: Vec<DeadLetter> = self.lock().values().cloned().collect();
        letters.sort_by_key(place);
        letters
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step<T>(
        &self,
        effect: impl FnOnce(&mut Letters) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.away.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("planned: away".into()));
        }
        effect(&mut self.lock())
    }

    /// Changes those of `ids` that are in `from`; returns how many.
    fn turn(&self, ids: &[BurialId], from: DeadStatus, to: DeadStatus) -> Result<u64, StoreError> {
        self.step(|letters| {
            let mut changed = 0;
            for id in ids {
                if let Some(letter) = letters.get_mut(id).filter(|letter| letter.status == from) {
                    letter.status = to;
                    changed += 1;
                }
            }
            Ok(changed)
        })
    }
}

#[async_trait]
impl DeadLetters for MemoryStore {
    async fn insert(&self, letters: Vec<DeadLetter>) -> Result<u64, StoreError> {
        self.step(|stored| {
            let mut added = 0;
            for letter in letters {
                if let Some(there) = stored.get(&letter.id) {
                    assert_eq!(
                        (&there.frame, &there.note),
                        (&letter.frame, &letter.note),
                        "a second copy of a burial differs"
                    );
                    continue;
                }
                stored.insert(letter.id, letter);
                added += 1;
            }
            Ok(added)
        })
    }

    async fn list(
        &self,
        filter: &DeadFilter,
        after: Option<DeadCursor>,
        limit: u32,
    ) -> Result<DeadPage, StoreError> {
        let limit = limit.clamp(1, 1_000) as usize;
        self.step(|letters| {
            let mut found: Vec<DeadLetter> = letters
                .values()
                .filter(|letter| matches(filter, letter))
                .filter(|letter| after.is_none_or(|at| place(letter) < (at.buried_at, at.id)))
                .cloned()
                .collect();
            found.sort_by_key(|letter| std::cmp::Reverse(place(letter)));
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|last| DeadCursor {
                buried_at: last.buried_at,
                id: last.id,
            });
            Ok(DeadPage {
                letters: found,
                next,
            })
        })
    }

    async fn show(&self, id: BurialId) -> Result<DeadLetter, StoreError> {
        self.step(|letters| letters.get(&id).cloned().ok_or(StoreError::Missing(id)))
    }

    async fn begin_revival(
        &self,
        id: BurialId,
        edited: Option<&[u8]>,
    ) -> Result<DeadLetter, StoreError> {
        self.step(|letters| {
            let letter = letters.get_mut(&id).ok_or(StoreError::Missing(id))?;
            match letter.status {
                DeadStatus::New => {
                    letter.status = DeadStatus::Reviving;
                    letter.revivals += 1;
                    letter.edited = edited.map(<[u8]>::to_vec);
                }
                DeadStatus::Reviving => {}
                status => return Err(StoreError::Status { id, status }),
            }
            Ok(letter.clone())
        })
    }

    async fn finish_revival(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        self.turn(ids, DeadStatus::Reviving, DeadStatus::Revived)
    }

    async fn discard(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        self.turn(ids, DeadStatus::New, DeadStatus::Discarded)
    }

    async fn purge(&self, filter: &DeadFilter, limit: u32) -> Result<u64, StoreError> {
        self.step(|letters| {
            Ok(remove_oldest(letters, limit.into(), |letter| {
                matches(filter, letter)
            }))
        })
    }

    async fn trim(&self, keep: u64, limit: u32) -> Result<u64, StoreError> {
        self.step(|letters| {
            let over = (letters.len() as u64).saturating_sub(keep);
            let over = over.min(limit.into());
            Ok(remove_oldest(letters, over, |_| true))
        })
    }

    async fn stats(&self, filter: &DeadFilter) -> Result<DeadStats, StoreError> {
        self.step(|letters| {
            let found: Vec<&DeadLetter> = letters
                .values()
                .filter(|letter| matches(filter, letter))
                .collect();
            let by = |key: fn(&DeadLetter) -> String| count(&found, key);
            let mut by_day = by(|letter| letter.buried_at.to_string()[..10].to_owned());
            by_day.sort_by(|a, b| b.key.cmp(&a.key));
            Ok(DeadStats {
                total: found.len() as u64,
                by_queue: by(|letter| letter.queue.to_string()),
                by_task: by(|letter| {
                    let task = letter.task.as_ref();
                    task.map_or_else(|| "?".to_owned(), ToString::to_string)
                }),
                by_reason: by(|letter| letter.reason.to_string()),
                by_status: by(|letter| letter.status.to_string()),
                by_day,
            })
        })
    }

    async fn clusters(
        &self,
        filter: &DeadFilter,
        after: Option<ClusterCursor>,
        limit: u32,
    ) -> Result<ClusterPage, StoreError> {
        let limit = limit.clamp(1, 1_000) as usize;
        self.step(|letters| {
            let found = letters.values().filter(|letter| matches(filter, letter));
            Ok(ClusterPage::of(found, after, limit))
        })
    }
}

/// Removes the oldest of those that `goes` means, at most `limit`, none that is being revived; returns how many.
fn remove_oldest(letters: &mut Letters, limit: u64, goes: impl Fn(&DeadLetter) -> bool) -> u64 {
    let may_go = |letter: &&DeadLetter| letter.status != DeadStatus::Reviving && goes(letter);
    let mut places: Vec<_> = letters.values().filter(may_go).map(place).collect();
    places.sort_unstable();
    places.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    for (_, id) in &places {
        letters.remove(id);
    }
    places.len() as u64
}

fn place(letter: &DeadLetter) -> (crate::time::Timestamp, BurialId) {
    (letter.buried_at, letter.id)
}

fn matches(filter: &DeadFilter, letter: &DeadLetter) -> bool {
    let DeadFilter {
        queue,
        task,
        id,
        reason,
        status,
        fingerprint,
        since,
        until,
    } = filter;
    queue.as_ref().is_none_or(|queue| *queue == letter.queue)
        && task
            .as_ref()
            .is_none_or(|t| letter.task.as_ref() == Some(t))
        && id.is_none_or(|id| id == letter.id.task)
        && reason.is_none_or(|reason| reason == letter.reason)
        && status.is_none_or(|status| status == letter.status)
        && fingerprint.is_none_or(|fingerprint| fingerprint == Fingerprint::of(letter))
        && since.is_none_or(|since| letter.buried_at >= since)
        && until.is_none_or(|until| letter.buried_at < until)
}

/// Counts letters by a key, most first.
fn count(letters: &[&DeadLetter], key: fn(&DeadLetter) -> String) -> Vec<StatsRow> {
    let mut counts = BTreeMap::<String, u64>::new();
    for letter in letters {
        *counts.entry(key(letter)).or_default() += 1;
    }
    let mut rows: Vec<StatsRow> = counts
        .into_iter()
        .map(|(key, count)| StatsRow { key, count })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.count));
    rows
}
