//! Clusters of dead letters: those that died of the same, counted together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::store::{DeadLetter, DeadStatus};
use crate::fingerprint::Fingerprint;
use crate::ids::{BurialId, TaskName};
use crate::state::DeadReason;
use crate::time::Timestamp;

/// The letters of one fingerprint that match a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadCluster {
    /// What they died of.
    pub fingerprint: Fingerprint,
    /// How many they are.
    pub total: u64,
    /// How many of them there are in each status.
    pub by_status: StatusCounts,
    /// When the first of them was buried.
    pub first_at: Timestamp,
    /// When the last of them was buried.
    pub last_at: Timestamp,
    /// The one that was buried last.
    pub sample: BurialId,
    /// Its kind, where it could be read.
    pub task: Option<TaskName>,
    /// Why it died.
    pub reason: DeadReason,
    /// What it said, see [`DeadLetter::message`].
    pub message: String,
}

/// How many letters there are in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCounts {
    /// Nobody has decided about them yet.
    pub new: u64,
    /// They are being revived.
    pub reviving: u64,
    /// They were enqueued again.
    pub revived: u64,
    /// They stay dead.
    pub discarded: u64,
}

impl StatusCounts {
    /// Returns the count of a status, to be changed.
    pub const fn of(&mut self, status: DeadStatus) -> &mut u64 {
        match status {
            DeadStatus::New => &mut self.new,
            DeadStatus::Reviving => &mut self.reviving,
            DeadStatus::Revived => &mut self.revived,
            DeadStatus::Discarded => &mut self.discarded,
        }
    }
}

/// A page of clusters, the largest first; those of one size in the order of their fingerprints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPage {
    /// The clusters.
    pub clusters: Vec<DeadCluster>,
    /// Behind which the next page starts; `None` at the end.
    pub next: Option<ClusterCursor>,
}

/// A place among the clusters. One that grows or shrinks between two pages may be seen twice or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCursor {
    /// How many letters the last cluster seen has.
    pub total: u64,
    /// The last cluster seen.
    pub fingerprint: Fingerprint,
}

impl ClusterPage {
    /// Takes a page of at most `limit` from the front of `clusters`, which may have more.
    #[must_use]
    pub fn cut(mut clusters: Vec<DeadCluster>, limit: usize) -> Self {
        let more = clusters.len() > limit;
        clusters.truncate(limit);
        let next = clusters.last().filter(|_| more).map(|last| ClusterCursor {
            total: last.total,
            fingerprint: last.fingerprint,
        });
        Self { clusters, next }
    }

    /// Counts letters that are at hand and takes the page of at most `limit` clusters behind `after`.
    #[must_use]
    pub fn of<'a>(
        letters: impl IntoIterator<Item = &'a DeadLetter>,
        after: Option<ClusterCursor>,
        limit: usize,
    ) -> Self {
        let mut clusters: BTreeMap<Fingerprint, DeadCluster> = BTreeMap::new();
        for letter in letters {
            let fingerprint = Fingerprint::of(letter);
            let one = DeadCluster::of(letter, fingerprint);
            match clusters.get_mut(&fingerprint) {
                Some(cluster) => cluster.add(one),
                None => drop(clusters.insert(fingerprint, one)),
            }
        }
        let place = |cluster: &DeadCluster| (std::cmp::Reverse(cluster.total), cluster.fingerprint);
        let mut clusters: Vec<DeadCluster> = clusters.into_values().collect();
        clusters.retain(|cluster| {
            after.is_none_or(|at| place(cluster) > (std::cmp::Reverse(at.total), at.fingerprint))
        });
        clusters.sort_by_key(place);
        Self::cut(clusters, limit)
    }
}

impl DeadCluster {
    /// Returns the cluster of a single letter.
    fn of(letter: &DeadLetter, fingerprint: Fingerprint) -> Self {
        let mut by_status = StatusCounts::default();
        *by_status.of(letter.status) = 1;
        Self {
            fingerprint,
            total: 1,
            by_status,
            first_at: letter.buried_at,
            last_at: letter.buried_at,
            sample: letter.id,
            task: letter.task.clone(),
            reason: letter.reason,
            message: letter.message().to_owned(),
        }
    }

    /// Adds another one of the same fingerprint.
    fn add(&mut self, other: Self) {
        let mut by_status = self.by_status;
        by_status.new += other.by_status.new;
        by_status.reviving += other.by_status.reviving;
        by_status.revived += other.by_status.revived;
        by_status.discarded += other.by_status.discarded;
        let (total, first_at) = (self.total + other.total, self.first_at.min(other.first_at));
        if (other.last_at, other.sample) > (self.last_at, self.sample) {
            *self = other;
        }
        (self.total, self.first_at, self.by_status) = (total, first_at, by_status);
    }
}
