//! Which server a slot is served by, and what a failure says about that.

mod cluster;
mod sentinel;
pub(super) mod slots;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::cluster::Cluster;
use self::sentinel::Sentinels;
use super::dial::Dialer;
use super::fault::{Class, Fault};
use super::link::Slot;
use super::node::Node;
use super::pool::Pool;
use super::url::{Place, RedisUrl};

/// How the servers of a broker hang together.
#[derive(Debug)]
pub(super) enum Topology {
    /// One server.
    Single(Node),
    /// One master, which sentinels know.
    Sentinel(Sentinels),
    /// A cluster.
    Cluster(Cluster),
}

/// What to do after a failure that left nothing behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the caller.
    GiveUp,
    /// Look up the server and try again.
    Again,
    /// The same after a pause of at most this length.
    Pause(Duration),
    /// Go there once.
    Ask(Node),
}

impl Topology {
    pub(super) fn new(url: &RedisUrl, dialer: &Dialer) -> Self {
        match &url.place {
            Place::Server(node) => Self::Single(node.clone()),
            Place::Sentinel { sentinels, master } => {
                let dialer = Dialer {
                    login: url.sentinel_login.clone(),
                    db: 0,
                    masters_only: false,
                    ..dialer.clone()
                };
                Self::Sentinel(Sentinels::new(sentinels.clone(), master.clone(), dialer))
            }
            Place::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone())),
        }
    }

    /// Returns whether a connection to a server that is no master is refused at once.
    pub(super) const fn masters_only(&self) -> bool {
        matches!(self, Self::Sentinel(_))
    }

    /// Finds the server of a slot.
    pub(super) async fn node(
        &self,
        pool: &Arc<Pool>,
        slot: Slot,
        deadline: Instant,
    ) -> Result<Node, Fault> {
        match self {
            Self::Single(node) => Ok(node.clone()),
            Self::Sentinel(sentinels) => sentinels.master(pool, deadline).await,
            Self::Cluster(cluster) => cluster.owner(pool, slot, deadline).await,
        }
    }

    /// Returns the server that a slot was last known to be served by.
    pub(super) fn known(&self, slot: Slot) -> Option<Node> {
        match self {
            Self::Single(node) => Some(node.clone()),
            Self::Sentinel(sentinels) => sentinels.known(),
            Self::Cluster(cluster) => cluster.known(slot),
        }
    }

    /// Finds every server that takes writes.
    pub(super) async fn masters(
        &self,
        pool: &Arc<Pool>,
        deadline: Instant,
    ) -> Result<Vec<Node>, Fault> {
        match self {
            Self::Cluster(cluster) => cluster.masters(pool, deadline).await,
            _ => Ok(vec![self.node(pool, Slot(0), deadline).await?]),
        }
    }

    /// Takes note of a failure at `node`, and says how to go on.
    pub(super) fn learn(&self, pool: &Pool, node: &Node, slot: Slot, fault: &Fault) -> Step {
        match self {
            Self::Single(_) => match fault.class {
                Class::NotSent | Class::NoTime => Step::Again, // The gate spreads attempts out.
                _ => Step::GiveUp,
            },
            Self::Sentinel(sentinels) => sentinels.learn(pool, node, fault),
            Self::Cluster(cluster) => cluster.learn(node, slot, fault),
        }
    }
}
