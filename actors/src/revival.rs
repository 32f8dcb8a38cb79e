//! Revival: a dead letter starts a new life as a task. Three steps, each repeatable, so a crash between any two loses
//! nothing and adds nothing twice: the decision is committed in the store, the task is enqueued under a channel derived
//! from the burial and the number of the revival, and the letter is marked as revived.

pub mod canary;
mod edit;

pub use edit::{edit, revive_with};

use std::sync::Arc;
use std::time::Duration;

use crate::context::Job;
use crate::frame::{FrameLimits, encode};
use crate::header::{Header, HeaderError};
use crate::ids::{BurialId, ChannelId, TaskName};
use crate::misfit::Misfit;
use crate::ports::{
    Broker, BrokerError, DeadLetter, DeadLetters, EnqueueCall, EnqueueKind, NewTask, StoreError,
    When,
};
use crate::producer::TaskHandle;

/// How long the broker remembers a revival, which bounds how late a half-done one may be finished.
const REMEMBER: Duration = Duration::from_secs(7 * 86_400);

/// The bounds of bytes that were accepted once: their size is not judged again, only bounded.
const ACCEPTED: FrameLimits = FrameLimits {
    max_frame: 64 << 20,
    max_body: 256 << 20,
    max_depth: 64,
};

/// Why a dead letter was not revived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviveError {
    /// The store did not take a step.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker did not take the task; the letter stays `reviving` and is finished later.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The letter's bytes cannot become a task.
    #[error("dead letter {id} cannot be revived: {reason}")]
    Unreadable {
        /// Which one.
        id: BurialId,
        /// Why not.
        reason: String,
    },
    /// The task does not take the arguments that it was to be revived with.
    #[error("the arguments are not what `{task}` takes{misfit}")]
    Misfit {
        /// Its kind.
        task: TaskName,
        /// Which argument, and why.
        misfit: Misfit,
    },
    /// The revival of this letter has begun with other arguments, which are those that are sent.
    #[error("the revival of dead letter {0} has begun with other arguments")]
    Edited(BurialId),
}

impl ReviveError {
    /// Returns whether repeating it is no use, and others can be revived all the same: this letter is refused, or somebody
    /// else decided about it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Misfit { .. } | Self::Edited(_) => true,
            Self::Store(error) => {
                matches!(error, StoreError::Missing(_) | StoreError::Status { .. })
            }
            Self::Broker(error) => !error.is_outage(),
        }
    }
}

/// Revives one dead letter; returns where its task is now.
///
/// # Errors
/// [`ReviveError`]. After [`ReviveError::Broker`], and after a [`ReviveError::Store`] at the end, repeating it finishes the
/// same revival.
pub async fn revive(
    id: BurialId,
    store: &dyn DeadLetters,
    broker: &Arc<dyn Broker>,
) -> Result<TaskHandle, ReviveError> {
    let letter = store.show(id).await?;
    // Looked at before anything is decided: what cannot be a task stays a letter.
    new_life(&letter)?;
    let letter = store.begin_revival(id, None).await?;
    finish(&letter, store, broker).await
}

/// Finishes the revival of a letter that is `reviving`.
///
/// # Errors
/// As [`revive`].
pub async fn finish(
    letter: &DeadLetter,
    store: &dyn DeadLetters,
    broker: &Arc<dyn Broker>,
) -> Result<TaskHandle, ReviveError> {
    let frame = new_life(letter)?;
    let call = EnqueueCall {
        queue: letter.queue.clone(),
        channel: channel_of(letter.id, letter.revivals),
        number: 1,
        tasks: vec![NewTask {
            frame,
            when: When::Now,
        }],
        kind: EnqueueKind::Revival,
        remember: REMEMBER,
    };
    broker.enqueue(Arc::new(call)).await?;
    store.finish_revival(&[letter.id]).await?;
    Ok(TaskHandle {
        queue: letter.queue.clone(),
        id: letter.id.task,
    })
}

/// Returns the frame of the letter's task as at its first enqueue, one revival later. Its end is kept for a while, whoever
/// waits for it.
fn new_life(letter: &DeadLetter) -> Result<Vec<u8>, ReviveError> {
    let unreadable = |reason: String| ReviveError::Unreadable {
        id: letter.id,
        reason,
    };
    let frame = letter.edited.as_ref().unwrap_or(&letter.frame);
    let header = Header::read(frame).map_err(|error: HeaderError| unreadable(error.to_string()))?;
    let mut job = Job::open(header, frame.clone(), &ACCEPTED)
        .map_err(|(_, error)| unreadable(error.to_string()))?;
    job.envelope.history.clear();
    job.envelope.unknown_since = None;
    job.envelope.snoozes = 0;
    // It is over, or would be before the new life has had its attempts.
    job.envelope.overrides.retry_until = None;
    job.envelope.revival = job.envelope.revival.saturating_add(1);
    let header = Header {
        attempts: 0,
        deliveries: 0,
        strikes: 0,
        expires_at: None,
        // Whoever revives it wants to know how it ends.
        want_outcome: true,
        ..header
    };
    encode(header, &job.envelope, job.args(), &ACCEPTED)
        .map_err(|error| unreadable(error.to_string()))
}

/// Returns the channel of one revival: the task's id with the numbers of burial and revival mixed in, so that the same
/// revival always has the same channel and two revivals never share one.
fn channel_of(burial: BurialId, revival: u32) -> ChannelId {
    let mut bytes = *burial.task.as_bytes();
    let mix = burial
        .number
        .to_be_bytes()
        .into_iter()
        .chain(u64::from(revival).to_be_bytes());
    bytes
        .iter_mut()
        .zip(mix)
        .for_each(|(byte, mixed)| *byte ^= mixed);
    ChannelId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;

    #[test]
    fn each_revival_has_its_own_channel_and_keeps_it() {
        let burial = |number| BurialId {
            task: TaskId::from_bytes([9; 16]),
            number,
        };
        assert_eq!(channel_of(burial(1), 1), channel_of(burial(1), 1));
        assert_ne!(channel_of(burial(1), 1), channel_of(burial(1), 2));
        assert_ne!(channel_of(burial(1), 1), channel_of(burial(2), 1));
    }
}
