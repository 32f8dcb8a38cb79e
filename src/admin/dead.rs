//! Dead letters: finding them, and what becomes of them.

use std::sync::Arc;

use celeriac_actors::copy::CopyError;
use celeriac_actors::ids::{BurialId, TaskId};
use celeriac_actors::ports::{
    Broker, DeadCursor, DeadFilter, DeadLetter, DeadLetters as _, DeadStatus, StoreError,
};
use celeriac_actors::revival::{ReviveError, revive};

use super::fault::Fault;
use crate::look::{Away, Patience};
use crate::store::Store;

/// How many letters are read in one step.
const STEP: u32 = 200;

/// How many letters one call deletes: so much is lost of the count when the store goes away.
const PURGED: u64 = 5_000;

/// Is told what became of each letter of a change: where its task is now, if it is anywhere, or why it failed.
pub(crate) type Told<'a> = dyn FnMut(BurialId, Result<Option<&str>, &str>) + Send + 'a;

/// A dead letter as somebody named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// By its own id.
    Letter(BurialId),
    /// By its task's.
    Task(TaskId),
}

/// Reads the id of a dead letter, or of its task.
pub(crate) fn read(text: &str) -> Option<Wanted> {
    let text = text.trim();
    let letter = text.parse().map(Wanted::Letter).ok();
    letter.or_else(|| text.parse().map(Wanted::Task).ok())
}

/// Writes a filter as it would be typed, for the audit and for people.
pub(crate) fn describe(filter: &DeadFilter) -> String {
    let text = |value: &dyn ToString| value.to_string();
    let parts = [
        ("queue", filter.queue.as_ref().map(|v| text(v))),
        ("task", filter.task.as_ref().map(|v| text(v))),
        ("reason", filter.reason.as_ref().map(|v| text(v))),
        ("status", filter.status.as_ref().map(|v| text(v))),
        ("fingerprint", filter.fingerprint.as_ref().map(|v| text(v))),
        ("since", filter.since.as_ref().map(|v| text(v))),
        ("until", filter.until.as_ref().map(|v| text(v))),
    ];
    let typed: Vec<String> = parts
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
        .collect();
    match typed.is_empty() {
        true => "all".to_owned(),
        false => typed.join(" "),
    }
}

/// The letters of a store.
#[derive(Clone, Copy)]
pub(crate) struct Letters<'a> {
    pub(crate) store: &'a Store,
    pub(crate) patience: Patience,
}

impl<'a> Letters<'a> {
    /// Starts to read all letters that match, newest first.
    pub(crate) fn pages(self, filter: DeadFilter, limit: Option<u64>) -> Pages<'a> {
        Pages {
            letters: self,
            filter,
            after: None,
            left: limit.unwrap_or(u64::MAX),
            more: true,
        }
    }

    /// Finds the letter that somebody named. `open` says that only letters about which nothing is decided can be meant.
    pub(crate) async fn find(&self, wanted: Wanted, open: bool) -> Result<DeadLetter, Fault> {
        let task = match wanted {
            Wanted::Letter(id) => return Ok(self.patience.insist(|| self.store.show(id)).await?),
            Wanted::Task(task) => task,
        };
        let filter = DeadFilter {
            id: Some(task),
            ..DeadFilter::default()
        };
        let page = self
            .patience
            .insist(|| self.store.list(&filter, None, STEP))
            .await?;
        let is_open = |l: &&DeadLetter| matches!(l.status, DeadStatus::New | DeadStatus::Reviving);
        let mut meant: Vec<&DeadLetter> = page.letters.iter().collect();
        if open && meant.len() > 1 {
            meant.retain(is_open);
        }
        match (&meant[..], &page.letters[..]) {
            ([one], _) => Ok((*one).clone()),
            (_, []) => Err(Fault::Missing(format!("task {task} has no dead letter"))),
            (_, several) => {
                let list: Vec<String> = several
                    .iter()
                    .map(|l| format!("{} ({})", l.id, l.status))
                    .collect();
                Err(Fault::Conflict(format!(
                    "task {task} has {} dead letters; name one of them: {}",
                    list.len(),
                    list.join(", ")
                )))
            }
        }
    }

    /// Revives letters one by one; ends early only when the broker or the store is away.
    pub(crate) async fn revive(
        &self,
        letters: &[DeadLetter],
        broker: &Arc<dyn Broker>,
        told: &mut Told<'_>,
    ) -> Result<(), Fault> {
        for letter in letters {
            let id = letter.id;
            match self
                .patience
                .insist(|| revive(id, self.store, broker))
                .await
            {
                Ok(handle) => told(id, Ok(Some(handle.queue.as_str()))),
                Err(error) if error.is_away() => return Err(error.into()),
                Err(error) => told(id, Err(&error.to_string())),
            }
        }
        Ok(())
    }

    /// Discards letters in one step, then asks what became of those that were not new any more.
    pub(crate) async fn discard(
        &self,
        letters: &[DeadLetter],
        told: &mut Told<'_>,
    ) -> Result<(), Fault> {
        let ids: Vec<BurialId> = letters.iter().map(|letter| letter.id).collect();
        let changed = self.patience.insist(|| self.store.discard(&ids)).await?;
        if changed == ids.len() as u64 {
            ids.iter().for_each(|id| told(*id, Ok(None)));
            return Ok(());
        }
        for id in ids {
            match self.patience.insist(|| self.store.show(id)).await {
                // Also one that was discarded before: what was asked for holds.
                Ok(letter) if letter.status == DeadStatus::Discarded => told(id, Ok(None)),
                Ok(letter) => {
                    let status = letter.status;
                    told(id, Err(&StoreError::Status { id, status }.to_string()));
                }
                Err(error @ StoreError::Missing(_)) => told(id, Err(&error.to_string())),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Deletes at most `left` letters that match, oldest first; returns how many went, and what ended it early.
    pub(crate) async fn purge(
        &self,
        filter: &DeadFilter,
        mut left: u64,
    ) -> (u64, Result<(), Fault>) {
        let mut purged = 0;
        while left > 0 {
            let step = u32::try_from(left.min(PURGED)).unwrap_or(u32::MAX);
            match self
                .patience
                .insist(|| self.store.purge(filter, step))
                .await
            {
                Ok(0) => break,
                Ok(gone) => {
                    purged += gone;
                    left -= gone.min(left);
                }
                Err(error) => return (purged, Err(error.into())),
            }
        }
        (purged, Ok(()))
    }

    /// Returns how many letters match that may be deleted.
    pub(crate) async fn purgeable(&self, filter: &DeadFilter) -> Result<u64, Fault> {
        let stats = self.patience.insist(|| self.store.stats(filter)).await?;
        let reviving = stats.by_status.iter();
        let reviving = reviving.filter(|row| row.key == DeadStatus::Reviving.as_str());
        Ok(stats.total - reviving.map(|row| row.count).sum::<u64>().min(stats.total))
    }
}

/// The letters that match, page by page.
pub(crate) struct Pages<'a> {
    letters: Letters<'a>,
    filter: DeadFilter,
    after: Option<DeadCursor>,
    left: u64,
    more: bool,
}

impl Pages<'_> {
    /// Returns the next page; empty at the end or when as many were read as were asked for.
    pub(crate) async fn next(&mut self) -> Result<Vec<DeadLetter>, Fault> {
        let limit = u32::try_from(self.left).map_or(STEP, |left| left.min(STEP));
        if limit == 0 || !self.more {
            return Ok(Vec::new());
        }
        let list = || self.letters.store.list(&self.filter, self.after, limit);
        let page = self.letters.patience.insist(list).await?;
        self.left -= (page.letters.len() as u64).min(self.left);
        self.more = page.next.is_some();
        self.after = page.next;
        Ok(page.letters)
    }

    /// Returns whether there are letters behind those that were read.
    pub(crate) const fn has_more(&self) -> bool {
        self.more
    }
}

impl Away for CopyError {
    fn is_away(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_away(),
            Self::Store(error) => error.is_away(),
            _ => false,
        }
    }
}

impl Away for ReviveError {
    fn is_away(&self) -> bool {
        match self {
            Self::Store(error) => error.is_away(),
            Self::Broker(error) => error.is_away(),
            _ => false,
        }
    }
}
