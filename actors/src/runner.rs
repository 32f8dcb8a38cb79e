//! Runners: how a kind of task gets from a delivery into the user's code, and how that code's end comes back.
//!
//! A runner is shared by all lanes it was made for; the futures it makes stay on the thread that asked for them. It
//! catches no panic (a [`Flight`](crate::flight) does) and decides nothing about the task: what an end means for it is
//! decided in [`execution`](crate::execution).

use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Handler};
use futures_util::future::LocalBoxFuture;

use crate::attempt::{Attempt, HandoffGuard, encode_output, take_body};
use crate::context::{AttemptContext, Phase};
use crate::frame::decode_value;
use crate::misfit::Misfit;
use crate::mode::Mode;
use crate::panics::PanicReport;
use crate::ports::Death;
use crate::reference::{Ref, SendError, Slot};
use crate::task::{Task, TaskError};

mod blocking;
mod foreign;

pub(crate) use blocking::Withdrawal;
pub(crate) use foreign::ForeignRunner;
pub use foreign::{ForeignAttempt, ForeignError};

/// How often an attempt is handed to another incarnation of its actor before it is given back to the queue.
const MAX_DISPATCHES: u32 = 16;

/// How an attempt ended, as far as its code is concerned.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// It returned: the encoded output, or its error.
    Returned(Result<Vec<u8>, TaskError>),
    /// It panicked, or its actor did while it had it in its hands.
    Panicked(PanicReport),
    /// Its arguments are not what the task expects. Nothing was started.
    Undecodable(String),
    /// No task actor could take it (restarting for too long, parked, ended); nothing was started.
    Unavailable,
    /// A breaker is open, and somebody else probes it; nothing was started.
    Parked(Duration),
    /// The runtime dropped it; the context says why.
    Aborted,
    /// The delivery turned out to be somebody else's before it was started.
    Lost,
    /// The process of its own that ran it died.
    Died(Death),
}

/// Makes the future of one attempt.
pub(crate) trait Runner: Send + Sync {
    /// Runs it on this thread.
    fn start(&self, context: AttemptContext) -> LocalBoxFuture<'static, AttemptEnd>;

    /// Runs it on a thread of the blocking pool, where the kind of task can do that.
    fn start_blocking(
        &self,
        _context: &AttemptContext,
    ) -> Option<LocalBoxFuture<'static, AttemptEnd>> {
        None
    }

    /// Returns where it runs when nobody says where.
    fn usual_mode(&self) -> Mode {
        Mode::Inline
    }

    /// Returns whether it can run there.
    fn can(&self, mode: Mode) -> bool;
}

/// Runs a task as a plain async function.
pub(crate) struct FunctionRunner<T, F> {
    function: F,
    task: PhantomData<fn(T)>,
}

impl<T, F> FunctionRunner<T, F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            task: PhantomData,
        }
    }
}

impl<T, F, R> Runner for FunctionRunner<T, F>
where
    T: Task,
    F: Fn(Attempt<T>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<T::Output, TaskError>> + 'static,
{
    fn start(&self, context: AttemptContext) -> LocalBoxFuture<'static, AttemptEnd> {
        let function = self.function.clone();
        Box::pin(async move {
            let args = match decode::<T>(&context) {
                Ok(args) => args,
                Err(end) => return end,
            };
            context.set_phase(Phase::Started);
            AttemptEnd::Returned(encode_output(function(Attempt::new(args, context)).await))
        })
    }

    fn start_blocking(
        &self,
        context: &AttemptContext,
    ) -> Option<LocalBoxFuture<'static, AttemptEnd>> {
        let function = self.function.clone();
        let body = move |context: AttemptContext| {
            let args = match decode::<T>(&context) {
                Ok(args) => args,
                Err(end) => return end,
            };
            context.set_phase(Phase::Started);
            let aborted = context.clone();
            let returned = function(Attempt::new(args, context));
            blocking::wait_for(async move { encode_output(returned.await) }, &aborted)
        };
        Some(blocking::on_pool(context, body))
    }

    fn can(&self, _: Mode) -> bool {
        true
    }
}

/// Runs a task as a plain synchronous function, on a thread that may be blocked.
pub(crate) struct BlockingRunner<T, F> {
    function: F,
    task: PhantomData<fn(T)>,
}

impl<T, F> BlockingRunner<T, F> {
    pub(crate) fn new(function: F) -> Self {
        Self {
            function,
            task: PhantomData,
        }
    }
}

impl<T, F> Runner for BlockingRunner<T, F>
where
    T: Task,
    F: Fn(Attempt<T>) -> Result<T::Output, TaskError> + Clone + Send + Sync + 'static,
{
    fn start(&self, context: AttemptContext) -> LocalBoxFuture<'static, AttemptEnd> {
        let function = self.function.clone();
        blocking::on_pool(&context, move |context| {
            let args = match decode::<T>(&context) {
                Ok(args) => args,
                Err(end) => return end,
            };
            context.set_phase(Phase::Started);
            AttemptEnd::Returned(encode_output(function(Attempt::new(args, context))))
        })
    }

    fn start_blocking(
        &self,
        context: &AttemptContext,
    ) -> Option<LocalBoxFuture<'static, AttemptEnd>> {
        Some(self.start(context.clone()))
    }

    fn usual_mode(&self) -> Mode {
        Mode::Blocking
    }

    fn can(&self, mode: Mode) -> bool {
        mode != Mode::Inline
    }
}

/// Runs a task in one of the instances of its actor on this lane.
pub(crate) struct ActorRunner<T: Task> {
    instances: std::sync::Arc<[Ref<Attempt<T>>]>,
    next: AtomicUsize,
}

impl<T: Task> ActorRunner<T> {
    /// Creates the runner of the instances that `slots` point at; there is at least one.
    pub(crate) fn new<A>(slots: &[Slot<A>]) -> Self
    where
        A: Actor + Handler<Attempt<T>>,
        A::Context: ToEnvelope<A, Attempt<T>>,
    {
        let instances = slots.iter().map(Slot::reference).collect();
        Self {
            instances,
            next: AtomicUsize::new(0),
        }
    }
}

impl<T: Task> Runner for ActorRunner<T> {
    fn start(&self, context: AttemptContext) -> LocalBoxFuture<'static, AttemptEnd> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let instance = self.instances[turn % self.instances.len()].clone();
        Box::pin(async move {
            let _guard = HandoffGuard(context.key());
            if let Err(end) = hand_over(&instance, &context).await {
                return end;
            }
            match take_body(context.key()) {
                Some(body) => AttemptEnd::Returned(body.await),
                None => AttemptEnd::Returned(Err(TaskError::permanent(
                    "the attempt was handled on another thread than its lane's",
                ))),
            }
        })
    }

    fn can(&self, mode: Mode) -> bool {
        actor_can(mode)
    }
}

/// Returns whether a task of a task actor can run there: an actor lives on its lane's thread, whoever needs it.
pub(crate) fn actor_can(mode: Mode) -> bool {
    mode != Mode::Blocking
}

/// Sends the attempt until an incarnation of the actor has handled it. Attempts that died in a mailbox behind another
/// one's panic are sent again; the one that was in the actor's hands is the culprit.
async fn hand_over<T: Task>(
    instance: &Ref<Attempt<T>>,
    context: &AttemptContext,
) -> Result<(), AttemptEnd> {
    for _ in 0..MAX_DISPATCHES {
        let attempt = Attempt::new(decode::<T>(context)?, context.clone());
        context.set_phase(Phase::Sent);
        match instance.send(attempt).await {
            Ok(_) => return Ok(()),
            Err(SendError::Interrupted { .. }) => match context.phase() {
                Phase::Culprit | Phase::Started => {
                    return Err(AttemptEnd::Panicked(blame(context)));
                }
                Phase::Unstarted | Phase::Sent => {}
            },
            Err(_) => return Err(AttemptEnd::Unavailable),
        }
    }
    Err(AttemptEnd::Unavailable)
}

fn blame(context: &AttemptContext) -> PanicReport {
    match context.accusation() {
        Some(panic) => panic.report(),
        None => PanicReport {
            message: "its task actor ended while it had the attempt in its hands".to_owned(),
            location: None,
            backtrace: None,
        },
    }
}

fn decode<T: Task>(context: &AttemptContext) -> Result<T, AttemptEnd> {
    let (args, limits) = (context.job().args(), &context.worker_context().limits);
    decode_value(args, limits).map_err(|error| {
        let misfit = Misfit::of::<T>(args, limits);
        AttemptEnd::Undecodable(misfit.map_or_else(
            || error.to_string(),
            |misfit| format!("the arguments do not decode{misfit}"),
        ))
    })
}
