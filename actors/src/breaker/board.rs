//! The board: where all breakers of a broker stand, as one shared value that is changed by compare-and-set.
//!
//! One value for all of them, since there are few, changes are rare, and a process reads them all with one call a second.
//! What is closed and was so for long is not kept: a breaker that is not on the board is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::BreakerRecord;
use crate::ids::BreakerName;
use crate::ports::{Broker, BrokerError};
use crate::time::Timestamp;

/// The key of the shared value.
const KEY: &str = "breakers";

/// The form of the value.
const FORM: u32 = 1;

/// How many breakers a process knows, and the board holds, at most.
pub const MAX_BREAKERS: usize = 256;

/// How long the value is kept without being written.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// How old the value may get before a reader who finds an open breaker on it writes it again.
const REFRESH: Duration = Duration::from_secs(86_400);

/// How long a closed breaker stays on the board.
const KEEP_CLOSED: Duration = Duration::from_secs(3_600);

/// How often a change is tried while others are faster.
const TRIES: u32 = 20;

/// Why the board could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// The broker said so.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Another version wrote it, or it is damaged: it is left as it is.
    #[error("the shared state of the breakers cannot be read: {0}")]
    Unreadable(String),
    /// It holds as many breakers as it may, none of them closed.
    #[error("{MAX_BREAKERS} breakers are open already")]
    Full,
    /// Others were faster again and again. Nothing was changed.
    #[error("too many others change the breakers at once")]
    Contended,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    form: u32,
    written: Timestamp,
    breakers: Vec<BreakerRecord>,
}

/// Where all breakers of a broker stand. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Board {
    broker: Arc<dyn Broker>,
}

impl Board {
    /// Returns the board of a broker.
    #[must_use]
    pub fn of(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Returns the breakers that are on it, by name; those that are not are closed.
    ///
    /// # Errors
    /// [`BoardError::Broker`], [`BoardError::Unreadable`].
    pub async fn read(&self) -> Result<BTreeMap<BreakerName, BreakerRecord>, BoardError> {
        Ok(self.load().await?.2)
    }

    /// Reads it, and writes it again before it is forgotten with an open breaker on it.
    pub(crate) async fn look(
        &self,
        now: Timestamp,
    ) -> Result<BTreeMap<BreakerName, BreakerRecord>, BoardError> {
        let (version, written, records) = self.load().await?;
        let closed = |record: &BreakerRecord| record.is_stale(now, Duration::ZERO);
        if now.since(written) > REFRESH && !records.values().all(closed) {
            // Whoever was faster has refreshed it too.
            let _either = self.store(version, now, &records).await?;
        }
        Ok(records)
    }

    /// Changes one breaker as `step` says, given where it stands. Returns where it stands then, and whether this changed
    /// it: `step` returns `None` to leave it. It may be asked several times.
    ///
    /// # Errors
    /// [`BoardError`]; after [`BrokerError::Unavailable`] the change may have happened.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn change(
        &self,
        name: &BreakerName,
        now: Timestamp,
        mut step: impl FnMut(&BreakerRecord) -> Option<BreakerRecord> + Send,
    ) -> Result<(BreakerRecord, bool), BoardError> {
        let mut tried: Option<BreakerRecord> = None;
        for turn in 0..TRIES {
            if turn > 0 {
                let pause = rand::rng().random_range(1..=5 * turn.min(10));
                sleep(Duration::from_millis(u64::from(pause))).await;
            }
            let (version, _, mut records) = self.load().await?;
            let current = records.get(name).cloned();
            let current = current.unwrap_or_else(|| BreakerRecord::closed(name.clone()));
            if tried.as_ref() == Some(&current) {
                // Its reply was lost, not the change.
                return Ok((current, true));
            }
            let Some(next) = step(&current) else {
                return Ok((current, false));
            };
            records.retain(|_, record| !record.is_stale(now, KEEP_CLOSED));
            records.insert(name.clone(), next.clone());
            make_room(&mut records, name)?;
            match self.store(version, now, &records).await {
                Ok(true) => return Ok((next, true)),
                Ok(false) => {}
                Err(BoardError::Broker(error)) if error.is_unknown() && turn + 1 < TRIES => {
                    tried = Some(next);
                }
                Err(error) => return Err(error),
            }
        }
        Err(BoardError::Contended)
    }

    async fn load(
        &self,
    ) -> Result<(u64, Timestamp, BTreeMap<BreakerName, BreakerRecord>), BoardError> {
        let Some(shared) = self.broker.shared(KEY).await? else {
            return Ok((0, Timestamp::EPOCH, BTreeMap::new()));
        };
        let unreadable = |why: String| BoardError::Unreadable(why);
        let stored: Stored =
            serde_json::from_slice(&shared.value).map_err(|error| unreadable(error.to_string()))?;
        if stored.form != FORM {
            return Err(unreadable(format!("its form is {}", stored.form)));
        }
        let records = stored.breakers.into_iter();
        let records = records.map(|record| (record.name.clone(), record));
        Ok((shared.version, stored.written, records.collect()))
    }

    async fn store(
        &self,
        version: u64,
        now: Timestamp,
        records: &BTreeMap<BreakerName, BreakerRecord>,
    ) -> Result<bool, BoardError> {
        let stored = Stored {
            form: FORM,
            written: now,
            breakers: records.values().cloned().collect(),
        };
        let value = serde_json::to_vec(&stored)
            .map_err(|error| BoardError::Unreadable(error.to_string()))?;
        let written = self.broker.share(KEY, version, &value, KEEP).await?;
        Ok(written.is_some())
    }
}

/// Forgets the breaker that has been closed for longest, where there are too many; never `name`.
fn make_room(
    records: &mut BTreeMap<BreakerName, BreakerRecord>,
    name: &BreakerName,
) -> Result<(), BoardError> {
    if records.len() <= MAX_BREAKERS {
        return Ok(());
    }
    let closed = |record: &&BreakerRecord| {
        record.is_stale(Timestamp::from_millis(u64::MAX), Duration::ZERO) && record.name != *name
    };
    let oldest = records
        .values()
        .filter(closed)
        .min_by_key(|record| record.since);
    let oldest = oldest.map(|record| record.name.clone());
    records
        .remove(&oldest.ok_or(BoardError::Full)?)
        .map_or(Err(BoardError::Full), |_| Ok(()))
}
