//! How a child hangs in the tree: what cuts it off, where it publishes, and whom a change wakes.
//!
//! Invariant: when an incarnation ends in whatever way, or is abandoned, everything below it is cut off, even while the
//! thread of the supervisor in between is blocked.

use std::fmt;
use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;

use super::board::Board;

/// Held by whoever may end an incarnation. Dropping it, or sending on it, cuts the incarnation off.
pub(crate) type Hold = watch::Sender<()>;

/// What a child inherits from those above it.
#[derive(Clone)]
pub(crate) struct Lineage {
    /// One leash per ancestor, the child's own last.
    leashes: Vec<watch::Receiver<()>>,
    /// Is bumped whenever something anywhere in the tree changes.
    pulse: Arc<watch::Sender<u64>>,
    /// Where the child, if it is a supervisor, shows its children.
    pub(super) board: Arc<Board>,
}

impl Lineage {
    /// Creates the lineage of a root, and what holds it.
    pub(super) fn root() -> (Self, Hold) {
        let (hold, leash) = watch::channel(());
        let lineage = Self {
            leashes: vec![leash],
            pulse: Arc::new(watch::Sender::new(0)),
            board: Arc::default(),
        };
        (lineage, hold)
    }

    /// Creates the lineage of a child, and what holds it. Its board is its own: an abandoned predecessor keeps the old.
    pub(super) fn child(&self) -> (Self, Hold) {
        let (hold, leash) = watch::channel(());
        let mut leashes = self.leashes.clone();
        leashes.push(leash);
        (
            Self {
                leashes,
                pulse: Arc::clone(&self.pulse),
                board: Arc::default(),
            },
            hold,
        )
    }

    /// Tells whoever watches the tree that something has changed.
    pub(super) fn beat(&self) {
        self.pulse
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Returns a watch on changes of the whole tree.
    pub(super) fn pulse(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Completes when the child, or anyone above it, is cut off.
    pub(super) async fn cut(mut self) {
        let cuts = self
            .leashes
            .iter_mut()
            .map(|leash| Box::pin(leash.changed()));
        // Sent or dropped: either way it is over.
        let (_outcome, _, _) = select_all(cuts).await;
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage")
            .field("depth", &self.leashes.len())
            .finish_non_exhaustive()
    }
}
