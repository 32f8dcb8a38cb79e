//! The keys, each from one function, with the tag that decides its slot.
//!
//! A queue's keys share its *root*, `<namespace>:{<queue>}:`, and so its slot; the scripts add the suffixes:
//!
//! | suffix | what |
//! |---|---|
//! | (none) | hash: paused, last sweep, version of the revocations, running numbers |
//! | `r0` to `r9` | list of ready frames, by priority |
//! | `f:INCARNATION` | hash of deliveries in flight: tag, frame |
//! | `m:INCARNATION` | set of tags with a start mark |
//! | `i:INCARNATION` | hash: number and reply of the last call, lease, worker |
//! | `leases` | zset: incarnation, deadline |
//! | `lives` | hash: incarnation, what it was opened with |
//! | `closed` | zset: closed incarnation, until when that is remembered |
//! | `orphans` | hash: closed incarnation that may still hold something |
//! | `scheduled`, `retrying` | zset by due time: running number (6 bytes) and frame |
//! | `dead` | zset by burial number: the dead outbox |
//! | `revoked` | zset: revocation by its key (an id as hex, or a rule), until when that is remembered |
//! | `p:CHANNEL` | number and reply of a producer's last call |
//! | `t:TASK` | what became of a task; the channel on which that is told |
//! | `wake` | list of tokens for ready tasks: one, of a burst up to 16 |
//! | `due`, `bell` | list of at most one token: an earlier due time, something dead |
//! | `news` | channel: `revoked` |
//! | `counters` | hash |
//!
//! What belongs to no queue lies under the fixed tag `{celeriac}`.

use celeriac_actors::ids::{QueueName, TaskId};

use super::link::Slot;
use super::topology::slots::slot_of;

/// Makes the keys of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    namespace: String,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
        }
    }

    /// Returns the root of a queue's keys, itself a key.
    pub(super) fn root(&self, queue: &QueueName) -> String {
        format!("{}:{{{queue}}}:", self.namespace)
    }

    /// Returns one key of a queue.
    pub(super) fn of(&self, queue: &QueueName, suffix: &str) -> String {
        format!("{}:{{{queue}}}:{suffix}", self.namespace)
    }

    /// Returns the key of what became of a task, and the channel on which that is told.
    pub(super) fn record(&self, queue: &QueueName, task: TaskId) -> String {
        format!(
            "{}:{{{queue}}}:t:{}",
            self.namespace,
            task.as_uuid().simple()
        )
    }

    /// Returns the set of all queues.
    pub(super) fn registry(&self) -> String {
        self.global("queues")
    }

    /// Returns the key of the form in which the data are written.
    pub(super) fn schema(&self) -> String {
        self.global("schema")
    }

    /// Returns the hash of all workers.
    pub(super) fn workers(&self) -> String {
        self.global("workers")
    }

    /// Returns the word that tells whether the data was wiped.
    pub(super) fn generation(&self) -> String {
        self.global("generation")
    }

    /// Returns the hash of a shared value.
    pub(super) fn shared(&self, key: &str) -> String {
        self.global(&format!("s:{key}"))
    }

    fn global(&self, what: &str) -> String {
        format!("{}:{{celeriac}}:{what}", self.namespace)
    }
}

/// Returns the slot of a key: that of its tag, if it has one.
pub(super) fn slot(key: &str) -> Slot {
    slot_of(key.as_bytes())
}
