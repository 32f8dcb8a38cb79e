//! A revival with other arguments: checked before anything is decided, and stored with the decision, so that whoever finishes
//! the revival sends the same.

use std::sync::Arc;

use super::{ReviveError, finish, new_life};
use crate::context::Job;
use crate::frame::{FrameLimits, encode};
use crate::header::Header;
use crate::ids::BurialId;
use crate::ports::{Broker, DeadLetter, DeadLetters};
use crate::producer::TaskHandle;
use crate::registry::Registry;

/// Revives one dead letter with other arguments, given as MessagePack; returns where its task is now.
///
/// Everything else of the task stays: its id, headers, priority and what was asked for it. The letter keeps its own bytes
/// beside the edited ones. A kind that `known` does not know takes any arguments here.
///
/// # Errors
/// [`ReviveError::Misfit`] when its kind does not take them, [`ReviveError::Edited`] when a revival with other arguments has
/// begun; else as [`revive`](super::revive).
pub async fn revive_with(
    id: BurialId,
    args: &[u8],
    known: &Registry,
    limits: &FrameLimits,
    (store, broker): (&dyn DeadLetters, &Arc<dyn Broker>),
) -> Result<TaskHandle, ReviveError> {
    let mut letter = store.show(id).await?;
    let edited = edit(&letter, args, known, limits)?;
    letter.edited = Some(edited.clone());
    // Looked at before anything is decided, as for every revival.
    new_life(&letter)?;
    let letter = store.begin_revival(id, Some(&edited)).await?;
    if letter.edited.as_ref() != Some(&edited) {
        return Err(ReviveError::Edited(id));
    }
    finish(&letter, store, broker).await
}

/// Returns the frame of a letter with other arguments.
///
/// # Errors
/// [`ReviveError::Misfit`], and [`ReviveError::Unreadable`] when its own frame cannot be read or the new one exceeds `limits`.
pub fn edit(
    letter: &DeadLetter,
    args: &[u8],
    known: &Registry,
    limits: &FrameLimits,
) -> Result<Vec<u8>, ReviveError> {
    let unreadable = |reason: String| ReviveError::Unreadable {
        id: letter.id,
        reason,
    };
    let header = Header::read(&letter.frame).map_err(|error| unreadable(error.to_string()))?;
    let job = Job::open(header, letter.frame.clone(), &super::ACCEPTED)
        .map_err(|(_, error)| unreadable(error.to_string()))?;
    let task = &job.envelope.task;
    if let Some(misfit) = known.misfit(task, args, limits) {
        let task = task.clone();
        return Err(ReviveError::Misfit { task, misfit });
    }
    encode(header, &job.envelope, args, limits).map_err(|error| unreadable(error.to_string()))
}
