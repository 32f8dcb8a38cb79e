//! The message a task actor handles, and the only answer it can give.
//!
//! actix spawns a `ResponseFuture` detached: dropping the request does not end it, and nobody of ours sees its panic. So
//! a handler answers with a [`Run`], which does not run where it is made: it goes back to the consumer that sent the
//! attempt, on the same thread, and the consumer polls it, times it, aborts it by dropping it, and catches its unwind.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};
use futures_util::future::LocalBoxFuture;

use crate::context::{AttemptContext, Phase};
use crate::frame::encode_value;
use crate::panics;
use crate::task::{Task, TaskError};

/// One attempt of a task: its arguments, and through [`Deref`] everything in [`AttemptContext`].
#[derive(Debug)]
pub struct Attempt<T: Task> {
    /// The task's arguments.
    pub args: T,
    hand: Hand,
}

/// Knows when an actor panics with the attempt in its hands: only then is it dropped while its thread unwinds.
#[derive(Debug)]
struct Hand(AttemptContext);

impl Drop for Hand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.accuse(panics::share_last());
        }
    }
}

impl<T: Task> Attempt<T> {
    pub(crate) fn new(args: T, context: AttemptContext) -> Self {
        Self {
            args,
            hand: Hand(context),
        }
    }

    /// Runs `body` as this attempt. The body starts after the handler has returned.
    pub fn run<F, R>(self, body: F) -> Run<T::Output>
    where
        F: FnOnce(Self) -> R,
        R: Future<Output = Result<T::Output, TaskError>> + 'static,
    {
        let hand = Hand(self.hand.0.clone());
        self.set_phase(Phase::Started);
        let body = body(self);
        Run::new(hand, Box::pin(async move { encode_output(body.await) }))
    }

    /// Ends this attempt at once, for handlers that have nothing to wait for.
    pub fn finish(self, outcome: Result<T::Output, TaskError>) -> Run<T::Output> {
        self.set_phase(Phase::Started);
        Run::new(
            self.hand,
            Box::pin(std::future::ready(encode_output(outcome))),
        )
    }

    /// Returns the context, which outlives the arguments.
    #[must_use]
    pub fn context(&self) -> &AttemptContext {
        &self.hand.0
    }
}

impl<T: Task> Deref for Attempt<T> {
    type Target = AttemptContext;

    fn deref(&self) -> &AttemptContext {
        &self.hand.0
    }
}

impl<T: Task> Message for Attempt<T> {
    type Result = Handed<T::Output>;
}

/// The task's future, its output already as stored: MessagePack, empty for `()`.
pub(crate) type Body = LocalBoxFuture<'static, Result<Vec<u8>, TaskError>>;

/// Encodes what an attempt returned.
pub(crate) fn encode_output<O: serde::Serialize + 'static>(
    outcome: Result<O, TaskError>,
) -> Result<Vec<u8>, TaskError> {
    let output = outcome?;
    if TypeId::of::<O>() == TypeId::of::<()>() {
        return Ok(Vec::new());
    }
    // The task has done its work and would do it again with the same end.
    encode_value(&output).map_err(TaskError::permanent)
}

/// What a handler of an [`Attempt`] answers with; made by [`Attempt::run`] and [`Attempt::finish`] only.
#[must_use = "an attempt runs only when its `Run` is returned from the handler"]
pub struct Run<O> {
    hand: Hand,
    body: Body,
    output: PhantomData<fn() -> O>,
}

impl<O> Run<O> {
    fn new(hand: Hand, body: Body) -> Self {
        Self {
            hand,
            body,
            output: PhantomData,
        }
    }
}

impl<O> std::fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("key", &self.hand.0.key())
            .finish_non_exhaustive()
    }
}

/// The proof that a handler answered with a [`Run`]. Nobody else can make one.
#[derive(Debug)]
pub struct Handed<O>(PhantomData<fn() -> O>);

impl<A, M, O> MessageResponse<A, M> for Run<O>
where
    A: Actor,
    M: Message<Result = Handed<O>>,
    O: 'static,
{
    fn handle(self, _: &mut A::Context, reply: Option<OneshotSender<Handed<O>>>) {
        let Some(reply) = reply else { return };
        let key = self.hand.0.key();
        HANDOFF.with_borrow_mut(|bodies| bodies.insert(key, self.body));
        if reply.send(Handed(PhantomData)).is_err() {
            // The attempt was aborted while it waited in the mailbox: its body must never run.
            drop(take_body(key));
        }
    }
}

thread_local! {
    /// Bodies on their way from a handler to the consumer of the same thread. Each stays for one turn of the loop.
    static HANDOFF: RefCell<HashMap<u64, Body>> = RefCell::new(HashMap::new());
}

/// Takes the body that a handler left for attempt `key`. `None` when it was handled on another thread.
pub(crate) fn take_body(key: u64) -> Option<Body> {
    HANDOFF.with_borrow_mut(|bodies| bodies.remove(&key))
}

/// Takes back the body of an attempt whose consumer went away before it fetched it.
pub(crate) struct HandoffGuard(pub(crate) u64);

impl Drop for HandoffGuard {
    fn drop(&mut self) {
        // `try_with`: at the end of a thread its locals are gone, and the bodies with them.
        let body = HANDOFF.try_with(|bodies| bodies.borrow_mut().remove(&self.0));
        drop(body);
    }
}
