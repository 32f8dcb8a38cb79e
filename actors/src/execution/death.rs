//! What the death of an attempt's process means for its task: an interruption with evidence, never the worker's end.
//!
//! A death that nobody asked for counts as a delivery, and as a strike where nothing else ever ran in that process: then
//! it died of this task. It uses up no attempt; at the last strike the task is poison. After the first death a task gets
//! new processes only.

use std::time::Duration;

use rand::Rng;

use super::{Conclusion, Ended, bury_with, rewritten};
use crate::context::Abort;
use crate::failure::{Failure, FailureKind};
use crate::lease::Outcome;
use crate::ports::{Death, MAX_STRIKES};
use crate::state::DeadReason;

/// How long a task waits whose process died, before it is tried again.
const AFTER_DEATH: Duration = Duration::from_secs(1);

impl Ended<'_> {
    pub(super) fn died(&self, death: &Death, rng: &mut impl Rng) -> Conclusion {
        match self.aborted {
            Some(Abort::HardLimit) => {
                let note = format!(
                    "its process was ended at its hard limit of {:?}: {}",
                    self.limits.hard, death.status
                );
                let failure = Failure::new(FailureKind::HardLimit, note);
                self.again(failure.with_causes(death.causes()), (None, None), rng)
            }
            Some(Abort::Revoked) => {
                let note = "its process was ended by a revocation";
                self.cancelled(Failure::new(FailureKind::Cancelled, note))
            }
            Some(Abort::Released) => Outcome::release().into(),
            None if self.revoked => {
                let note = format!("its process died after it was revoked: {}", death.status);
                self.cancelled(Failure::new(FailureKind::Crash, note))
            }
            None => self.crashed(death),
        }
    }

    fn crashed(&self, death: &Death) -> Conclusion {
        let note = format!("its process died: {}", death.status);
        let failure = Failure::new(FailureKind::Crash, note.clone());
        let failure = self.stamp(failure.with_causes(death.causes()));
        let mut header = self.job.header;
        header.deliveries = header.deliveries.saturating_add(1);
        header.strikes = header.strikes.saturating_add(u8::from(death.was_alone));
        let frame = rewritten(self.job, header, failure.clone(), self.frame_limits);
        let outcome = if header.strikes < MAX_STRIKES {
            let delay = AFTER_DEATH;
            Outcome::Retry { frame, delay }
        } else {
            let note = failure.message.clone();
            let buried = bury_with(
                &header,
                Some(frame),
                DeadReason::Poison,
                note,
                Some(&failure),
            );
            uncounted(buried, header.attempts)
        };
        Conclusion {
            outcome,
            error: Some(note),
            place: None,
        }
    }
}

/// Takes the attempt that was interrupted out of what is kept for those who wait.
fn uncounted(mut outcome: Outcome, attempts: u16) -> Outcome {
    if let Outcome::Bury {
        result: Some(record),
        ..
    } = &mut outcome
    {
        record.attempts = attempts;
    }
    outcome
}
