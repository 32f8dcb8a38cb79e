//! The messages a running supervisor answers.

use std::sync::Arc;

use actix::{Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::Supervisor;
use super::attend::Report;
use super::plan::Goal;
use crate::child::{ChildSpec, ChildState, TreeNode};

/// Why a child was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddChildError {
    /// A sibling of this name is there already.
    #[error("a child called {0} is there already")]
    NameTaken(Arc<str>),
    /// The supervisor has as many children as it may.
    #[error("a supervisor has at most 1024 children")]
    Full,
    /// The supervisor is about to end.
    #[error("the supervisor is stopping")]
    Closing,
}

/// No child has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no child called {0}")]
pub struct NoSuchChild(pub Arc<str>);

/// Shows the supervisor and everything below it.
///
/// Answered at once from what is published: a blocked thread below makes nodes stale, not the answer late. What only
/// its own supervisor knows (restarts, last exit) is empty in the topmost node; [`super::Root::tree`] needs no message.
#[derive(Clone, Copy, Debug)]
pub struct Inspect;

impl Message for Inspect {
    type Result = TreeNode;
}

/// Adds a child after the others and starts it when it is its turn. The reply does not wait for the start.
///
/// It lasts as long as this incarnation of the supervisor.
#[derive(Clone, Debug)]
pub struct AddChild(pub ChildSpec);

impl Message for AddChild {
    type Result = Result<(), AddChildError>;
}

/// Stops a child for good, also one that is parked or waits for its backoff; it stays in the tree as ended.
///
/// The reply comes when it has ended, was killed, or was abandoned. Start it again with [`RestartChild`].
#[derive(Clone, Debug)]
pub struct StopChild(pub Arc<str>);

impl Message for StopChild {
    type Result = Result<(), NoSuchChild>;
}

/// Stops a child like [`StopChild`] and forgets it: its name is free when the reply comes.
#[derive(Clone, Debug)]
pub struct RemoveChild(pub Arc<str>);

impl Message for RemoveChild {
    type Result = Result<(), NoSuchChild>;
}

/// Restarts a child: stops it first if it runs, starts it at once if it waits, is parked or has ended.
///
/// Not a crash: counts nothing, touches no sibling, and forgets its backoff. The reply does not wait for the start.
#[derive(Clone, Debug)]
pub struct RestartChild(pub Arc<str>);

impl Message for RestartChild {
    type Result = Result<(), NoSuchChild>;
}

impl Handler<Report> for Supervisor {
    type Result = bool;

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) -> bool {
        self.note(report, ctx)
    }
}

impl Handler<Inspect> for Supervisor {
    type Result = actix::MessageResult<Inspect>;

    fn handle(&mut self, _: Inspect, _: &mut Context<Self>) -> Self::Result {
        let mut node = topmost(&self.birth.name, self.birth.incarnation, ChildState::Up);
        if self.closing.is_some() {
            node.state = ChildState::Stopping;
        }
        self.birth.lineage.board.read_into(&mut node);
        actix::MessageResult(node)
    }
}

impl Handler<AddChild> for Supervisor {
    type Result = Result<(), AddChildError>;

    fn handle(&mut self, AddChild(spec): AddChild, ctx: &mut Context<Self>) -> Self::Result {
        self.adopt(spec)?;
        self.drive(ctx);
        Ok(())
    }
}

impl Handler<StopChild> for Supervisor {
    type Result = ResponseFuture<Result<(), NoSuchChild>>;

    fn handle(&mut self, StopChild(name): StopChild, ctx: &mut Context<Self>) -> Self::Result {
        self.end_child(name, false, ctx)
    }
}

impl Handler<RemoveChild> for Supervisor {
    type Result = ResponseFuture<Result<(), NoSuchChild>>;

    fn handle(&mut self, RemoveChild(name): RemoveChild, ctx: &mut Context<Self>) -> Self::Result {
        self.end_child(name, true, ctx)
    }
}

impl Handler<RestartChild> for Supervisor {
    type Result = Result<(), NoSuchChild>;

    fn handle(
        &mut self,
        RestartChild(name): RestartChild,
        ctx: &mut Context<Self>,
    ) -> Self::Result {
        let index = self.position(&name).ok_or(NoSuchChild(name))?;
        if self.closing.is_none() {
            let now = self.now();
            self.wards[index].restart_by_order(now);
            self.drive(ctx);
        }
        Ok(())
    }
}

impl Supervisor {
    fn end_child(
        &mut self,
        name: Arc<str>,
        remove: bool,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<(), NoSuchChild>> {
        let Some(index) = self.position(&name) else {
            return Box::pin(async { Err(NoSuchChild(name)) });
        };
        let (ended, wait) = oneshot::channel();
        let ward = &mut self.wards[index];
        ward.remove |= remove;
        ward.wait_for_end(ended);
        ward.aim(Goal::End);
        self.drive(ctx);
        Box::pin(async move {
            // Dropped unanswered when the supervisor ends, and the child with it.
            let _gone_anyway = wait.await;
            Ok(())
        })
    }
}

/// Returns a node for a supervisor that knows of itself only what it is called.
pub(super) fn topmost(name: &str, incarnation: u64, state: ChildState) -> TreeNode {
    TreeNode {
        name: name.to_owned(),
        kind: "Supervisor".to_owned(),
        state,
        incarnation,
        restarts_in_window: 0,
        restarts_total: 0,
        last_exit: None,
        up_since: None,
        backlog: 0,
        abandoned: 0,
        stale: false,
        strategy: None,
        children: Vec::new(),
    }
}
