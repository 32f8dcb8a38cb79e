//! The audit: what the broker counted on the way in against what it counted on the way out.

use std::fmt;

use celeriac_actors::ports::{Counters, QueueStatus};
use serde::Serialize;

/// The sums over all queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Audit {
    enqueued: u64,
    revived: u64,
    succeeded: u64,
    dead: u64,
    cancelled: u64,
    expired: u64,
    still_held: u64,
    lost: i128,
}

impl Audit {
    pub(super) fn of(queues: &[QueueStatus]) -> Self {
        let counted = sum(queues);
        let still_held = queues.iter().map(QueueStatus::held).sum();
        Self {
            enqueued: counted.enqueued,
            revived: counted.revived,
            succeeded: counted.succeeded,
            dead: counted.dead,
            cancelled: counted.cancelled,
            expired: counted.expired,
            still_held,
            lost: counted.outstanding() - i128::from(still_held),
        }
    }

    /// Returns whether nothing was lost, nothing made up, and nothing is left.
    pub(super) const fn is_settled(&self) -> bool {
        self.lost == 0 && self.still_held == 0
    }
}

/// Sums up what all queues counted.
pub(super) fn sum(queues: &[QueueStatus]) -> Counters {
    let mut all = Counters::default();
    for counters in queues.iter().map(|queue| queue.counters) {
        all.enqueued += counters.enqueued;
        all.succeeded += counters.succeeded;
        all.dead += counters.dead;
        all.cancelled += counters.cancelled;
        all.expired += counters.expired;
        all.retried += counters.retried;
        all.released += counters.released;
        all.rescued += counters.rescued;
        all.revived += counters.revived;
        all.stale += counters.stale;
        all.result_dropped += counters.result_dropped;
    }
    all
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.lost == 0 { '=' } else { '≠' };
        writeln!(
            f,
            "enqueued + revived {sign} succeeded + dead + cancelled + expired + still held"
        )?;
        writeln!(
            f,
            "{:>8} + {:>7} {sign} {:>9} + {:>4} + {:>9} + {:>7} + {:>10}",
            self.enqueued,
            self.revived,
            self.succeeded,
            self.dead,
            self.cancelled,
            self.expired,
            self.still_held
        )?;
        write!(f, "lost = {}", self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(counters: Counters, ready: u64) -> QueueStatus {
        QueueStatus {
            queue: "default".parse().unwrap(),
            ready,
            scheduled: 0,
            retrying: 0,
            active: 0,
            dead_outbox: 0,
            paused: false,
            consumers: 0,
            oldest_ready: None,
            counters,
        }
    }

    #[test]
    fn what_is_missing_is_lost_and_what_is_held_is_not() {
        let counters = Counters {
            enqueued: 10,
            revived: 1,
            succeeded: 6,
            dead: 2,
            ..Counters::default()
        };
        let whole = Audit::of(&[queue(counters, 1), queue(Counters::default(), 2)]);
        assert_eq!((whole.lost, whole.is_settled()), (0, false));
        let torn = Audit::of(&[queue(counters, 1)]);
        assert_eq!((torn.lost, torn.is_settled()), (2, false));
        assert!(torn.to_string().ends_with("lost = 2"));
    }
}
