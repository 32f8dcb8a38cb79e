//! From which figure on something is a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::judge::ReasonKind;
use crate::ids::QueueName;

/// Two thresholds of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Two<T> {
    /// From here on it is degraded.
    pub degraded: T,
    /// From here on it is critical.
    pub critical: T,
}

/// The thresholds of one queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueThresholds {
    /// How long the oldest ready task may wait. Default 5 and 30 minutes.
    pub ready_age: Two<Duration>,
    /// How many tasks may die a minute. Default 10 and 100.
    pub dead_per_minute: Two<f64>,
    /// Which share of the attempts may fail. Default 0.25 and 0.75.
    pub failed_share: Two<f64>,
    /// Of how many attempts that share must be. Default 20.
    pub min_attempts: u64,
    /// How many dead tasks may wait for the store. Default 1,000 and 100,000.
    pub dead_outbox: Two<u64>,
}

impl Default for QueueThresholds {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            ready_age: Two {
                degraded: minutes(5),
                critical: minutes(30),
            },
            dead_per_minute: Two {
                degraded: 10.0,
                critical: 100.0,
            },
            failed_share: Two {
                degraded: 0.25,
                critical: 0.75,
            },
            min_attempts: 20,
            dead_outbox: Two {
                degraded: 1_000,
                critical: 100_000,
            },
        }
    }
}

/// All thresholds.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// Of queues without thresholds of their own.
    pub queue: QueueThresholds,
    /// Of single queues.
    pub queues: BTreeMap<QueueName, QueueThresholds>,
    /// How far a worker's clock may be from the broker's. Default 5 s and 1 minute.
    pub skew: Two<Duration>,
    /// Which share of a file system must be free. Default 0.1 and 0.02.
    pub disk_free: Two<f64>,
    /// What is no reason here. Default nothing.
    pub ignore: BTreeSet<ReasonKind>,
    /// How many crashes within the window of its restart intensity make a child one that loops. Default 3.
    pub crashes: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            queue: QueueThresholds::default(),
            queues: BTreeMap::new(),
            skew: Two {
                degraded: Duration::from_secs(5),
                critical: Duration::from_secs(60),
            },
            disk_free: Two {
                degraded: 0.1,
                critical: 0.02,
            },
            ignore: BTreeSet::new(),
            crashes: 3,
        }
    }
}

impl Thresholds {
    /// Returns those of a queue.
    #[must_use]
    pub fn of(&self, queue: &QueueName) -> &QueueThresholds {
        self.queues.get(queue).unwrap_or(&self.queue)
    }
}
