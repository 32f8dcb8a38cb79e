//! Where a supervisor shows its children to whoever looks, from whatever thread.
//!
//! A tree must be readable while one of its threads is blocked, so it is not asked for but read: each supervisor, its
//! only writer, publishes after each change; readers copy. The lock is held for copying only, never over an await or a
//! call of somebody else's code.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::host::Incubator;
use crate::child::{ChildState, Strategy, TreeNode};
use crate::intensity::Window;

/// What one supervisor shows.
#[derive(Debug, Default)]
pub(crate) struct Board {
    published: Mutex<Option<Published>>,
}

/// A supervisor's children as it saw them last.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) strategy: Strategy,
    /// The instant that the windows count from.
    pub(super) epoch: Instant,
    pub(super) entries: Vec<Entry>,
}

/// One child, with what must be read at the moment of looking.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// All but what the other fields bring.
    pub(super) node: TreeNode,
    pub(super) window: Window,
    pub(super) within: Duration,
    pub(super) incubator: Arc<dyn Incubator>,
    /// What the child shows, if it is a supervisor.
    pub(super) board: Option<Arc<Board>>,
}

impl Board {
    pub(super) fn publish(&self, published: Published) {
        *self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(published);
    }

    /// Completes `node`, which stands for the supervisor of this board, with what it shows.
    pub(super) fn read_into(&self, node: &mut TreeNode) {
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some(published) = published else { return };
        let now = published.epoch.elapsed();
        node.strategy = Some(published.strategy);
        node.children = published
            .entries
            .into_iter()
            .map(|entry| entry.read(now))
            .collect();
    }

    /// Gives up on whatever was shown last. Called when the supervisor of this board has ended, in whatever way: what
    /// it left behind on a blocked thread will never answer, and whoever waits for that must learn of it.
    pub(super) fn forsake(&self) {
        let published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for entry in published
            .into_iter()
            .flat_map(|published| published.entries)
        {
            entry.incubator.forsake(entry.node.incarnation);
            if let Some(board) = &entry.board {
                board.forsake();
            }
        }
    }
}

impl Entry {
    fn read(self, now: Duration) -> TreeNode {
        let mut node = self.node;
        node.restarts_in_window = self.window.count(now, self.within);
        node.backlog = self.incubator.backlog().load(Ordering::Relaxed);
        if let Some(board) = &self.board {
            board.read_into(&mut node);
        }
        // Whoever does not answer, or is not there, has not published lately either.
        match node.state {
            ChildState::Unresponsive => node.mark_stale(),
            ChildState::Restarting | ChildState::Parked => {
                node.children.iter_mut().for_each(TreeNode::mark_stale);
            }
            _ => {}
        }
        node
    }
}
