//! What guards the user's own writes against a task that runs twice: a key that never changes, and a number that grows.

use super::{AttemptContext, Job};
use crate::time::Timestamp;

/// How many bits of a token count what; together 63, so that it fits into a signed column of a database.
const REVIVAL_BITS: u32 = 7;
const ATTEMPT_BITS: u32 = 12;
const DELIVERY_BITS: u32 = 5;
const CLOCK_BITS: u32 = 39;

impl AttemptContext {
    /// Returns a text that is the same in every attempt, delivery and life of the task, and of no other task: its id.
    ///
    /// For other systems that do a thing once for each key. A task brought back from the dead letters keeps its key, so
    /// that what its former life did is not done again; where that is wanted, add [`revival`](Self::revival) to it.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.id().to_string()
    }

    /// Returns how often the task was brought back from the dead letters.
    #[must_use]
    pub fn revival(&self) -> u32 {
        self.inner.job.envelope.revival
    }

    /// Returns a number that grows with each delivery of the task: who writes it beside its data, and writes only where
    /// the number there is not larger, cannot overwrite what a later holder of the task wrote.
    ///
    /// Greater after each revival, each attempt that counted and each rescue from a worker that died, whatever clocks
    /// say; after a delivery that was undone uncounted (a release, a snooze) by the broker's clock, in milliseconds. So it is
    /// equal only for two deliveries within one millisecond, the first of which was given back uncounted. It goes back
    /// only where the broker lost acknowledged writes. Never above `i64::MAX`. Compare it between deliveries of one task
    /// only. Counts end at 127 revivals, 4,095 attempts and 31 rescues; beyond, the clock alone decides.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        token(&self.inner.job)
    }
}

fn token(job: &Job) -> u64 {
    let counts = [
        (u64::from(job.envelope.revival), REVIVAL_BITS),
        (u64::from(job.header.attempts), ATTEMPT_BITS),
        (u64::from(job.header.deliveries), DELIVERY_BITS),
        (age(job.delivered_at, job.header.enqueued_at), CLOCK_BITS),
    ];
    counts.into_iter().fold(0, |token, (count, bits)| {
        (token << bits) | count.min((1 << bits) - 1)
    })
}

/// Returns how long after its making the task was delivered, in milliseconds.
fn age(delivered: Timestamp, made: Timestamp) -> u64 {
    delivered.as_millis().saturating_sub(made.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::frame::{FrameLimits, encode};
    use crate::header::{Header, Priority};
    use crate::ids::{TaskId, TaskName};

    /// Revivals, attempts, rescues, and the broker's clock at the delivery.
    fn job((revival, attempts, deliveries, at): (u32, u16, u8, u64)) -> Job {
        let header = Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries,
            strikes: 0,
            attempts,
            id: TaskId::from_bytes([7; 16]),
            enqueued_at: Timestamp::from_millis(1_000),
            expires_at: None,
        };
        let mut envelope = Envelope::new(TaskName::new("a").unwrap());
        envelope.revival = revival;
        let frame = encode(header, &envelope, &[0xc0], &FrameLimits::default()).unwrap();
        let mut job = Job::open(header, frame, &FrameLimits::default()).unwrap();
        job.delivered_at = Timestamp::from_millis(at);
        job
    }

    /// Goal: each later delivery has the greater token, whatever happened in between and whatever the clock did where a
    /// count says it.
    #[test]
    fn it_grows_with_every_delivery() {
        let lives = [
            (0, 0, 0, 0), // The producer's clock is ahead of the broker's.
            (0, 0, 0, 1_001),
            (0, 0, 0, 1_002), // released
            (0, 0, 1, 500),   // rescued, and the clock stepped back
            (0, 1, 1, 600),   // retried
            (0, 2, 1, 600),   // retried at once
            (0, 2, 20, 700),  // rescued often
            (0, 4_095, 20, 800),
            (1, 0, 0, 100), // revived
            (1, 0, 0, u64::from(u32::MAX)),
            (200, 0, 0, 0),
        ];
        let tokens: Vec<u64> = lives.into_iter().map(|life| token(&job(life))).collect();
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    }

    #[test]
    fn it_fits_a_signed_column() {
        let most = token(&job((u32::MAX, u16::MAX, u8::MAX, u64::MAX)));
        assert_eq!(most, i64::MAX.cast_unsigned());
    }
}
