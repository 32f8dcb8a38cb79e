//! The handle to a whole tree.
//!
//! Starts the topmost supervisor, which nobody supervises, and tells how it ended: the one exit that nobody handles is
//! handed to the caller instead. Dropping the handle cuts the tree off.

use std::sync::Arc;

use actix::Message;
use slog::o;
use tokio::sync::{mpsc, oneshot, watch};

use super::Supervisor;
use super::board::Board;
use super::host::{Control, Cradle, Hosted, Incubator};
use super::lineage::{Hold, Lineage};
use super::messages::topmost;
use crate::child::{
    Birth, ChildState, Environment, ExitNote, ExitReason, LastExit, StopKind, SupervisorSpec,
    TreeNode,
};
use crate::panics;
use crate::reference::{Ref, Slot, Vacancy};
use crate::time::{Clock, Timestamp};

/// A running tree of supervised actors. Dropping it kills the tree; see [`Root::stop`].
#[derive(Debug)]
#[must_use = "dropping the root kills the tree"]
pub struct Root {
    slot: Slot<Supervisor>,
    controls: mpsc::Sender<Control>,
    exit: watch::Receiver<Option<LastExit>>,
    pulse: watch::Receiver<u64>,
    board: Arc<Board>,
    since: Timestamp,
    hold: Hold,
}

impl Root {
    /// Starts a tree on the present arbiter and installs the panic hook.
    ///
    /// Returns at once; the children start in order. A spec with two children of one name exits with an error.
    ///
    /// # Panics
    /// Outside of an actix system.
    pub fn start(name: &str, spec: SupervisorSpec, environment: Environment) -> Self {
        panics::install();
        let slot = Slot::new(name);
        let hosted = Hosted::new(slot.clone(), Supervisor::recipe(spec));
        let (lineage, hold) = Lineage::root();
        let (pulse, board) = (lineage.pulse(), Arc::clone(&lineage.board));
        let (controls, controls_in) = mpsc::channel(4);
        let (born, _) = oneshot::channel();
        let (exit, exit_in) = oneshot::channel();
        let clock = Arc::clone(&environment.clock);
        let since = clock.now();
        let number = hosted.begin();
        let birth = Birth {
            name: Arc::clone(slot.name()),
            path: Arc::clone(slot.name()),
            incarnation: number,
            exit: ExitNote::default(),
            log: environment.log.new(o!("supervisor" => name.to_owned())),
            environment,
            lineage: lineage.clone(),
        };
        hosted.host(Cradle {
            birth,
            controls: controls_in,
            born,
            exit,
        });
        let exit = report_exit(exit_in, slot.clone(), lineage, clock);
        Self {
            slot,
            controls,
            exit,
            pulse,
            board,
            since,
            hold,
        }
    }

    /// Returns a stable reference to the root supervisor, to add, stop or restart its children.
    #[must_use]
    pub fn reference<M>(&self) -> Ref<M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Supervisor: actix::Handler<M>,
    {
        self.slot.reference()
    }

    /// Waits until the tree has ended, and returns why: normal after [`Root::stop`], an error when it gave up.
    pub async fn exited(&self) -> ExitReason {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit
                .as_ref()
                .map_or(ExitReason::Killed, |exit| exit.reason.clone()),
            Err(_) => ExitReason::Killed,
        }
    }

    /// Asks the tree to stop: children in reverse order, each within its own timeouts. Waits until it has.
    ///
    /// May be called at any time, also during start and again. Bounded by the children's shutdown timeouts.
    pub async fn stop(&self) -> ExitReason {
        // Full: it has been asked and not got to it yet. Closed: it has ended.
        let _asked_before = self.controls.try_send(Control::Stop(StopKind::ForGood));
        self.exited().await
    }

    /// Kills the tree without asking anybody. Returns at once.
    pub fn kill(&self) {
        self.hold.send_replace(());
    }

    /// Returns the whole tree as it is. Callable from every thread; never waits for a child.
    #[must_use]
    pub fn tree(&self) -> TreeNode {
        let exit = self.exit.borrow().clone();
        let state = if exit.is_some() {
            ChildState::Ended
        } else {
            ChildState::Up
        };
        let mut node = topmost(self.slot.name(), 1, state);
        node.up_since = exit.is_none().then_some(self.since);
        node.last_exit = exit;
        node.backlog = self
            .slot
            .backlog()
            .load(std::sync::atomic::Ordering::Relaxed);
        self.board.read_into(&mut node);
        if node.strategy.is_none() && node.state == ChildState::Up {
            // It has not run yet. Without children it would look complete.
            node.state = ChildState::Starting;
        }
        node
    }

    /// Waits until the tree looks as `condition` wants it, and returns it; or as it is when it has ended.
    ///
    /// Sees each state that lasts. What only time changes (restarts leaving their window) wakes nobody.
    pub async fn wait_for(&self, condition: impl Fn(&TreeNode) -> bool) -> TreeNode {
        let mut pulse = self.pulse.clone();
        loop {
            pulse.mark_unchanged();
            let tree = self.tree();
            if tree.state == ChildState::Ended || condition(&tree) || pulse.changed().await.is_err()
            {
                return tree;
            }
        }
    }
}

/// Passes on the exit of the root supervisor to everybody who asks, however late.
fn report_exit(
    exit: oneshot::Receiver<ExitReason>,
    slot: Slot<Supervisor>,
    lineage: Lineage,
    clock: Arc<dyn Clock>,
) -> watch::Receiver<Option<LastExit>> {
    let (report, reported) = watch::channel(None);
    drop(actix_rt::spawn(async move {
        let reason = exit.await.unwrap_or(ExitReason::Killed);
        slot.vacate(1, Vacancy::Ended);
        lineage.board.forsake();
        report.send_replace(Some(LastExit {
            reason,
            at: clock.now(),
        }));
        lineage.beat();
    }));
    reported
}
