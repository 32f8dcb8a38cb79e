//! Hosting one incarnation on the arbiter where it lives.
//!
//! Runs the factory, spawns the actor's context as a task of its own, keeps the task's handle, and reports how it
//! ended. A [`Steward`] inside the actor's context answers pings and passes on the request to stop, so that no actor
//! has to implement a message for that. Panics of the factory, of the actor and of its destructors are caught here.
//!
//! After a panic actix still calls `stopping` and `stopped` while the context is dropped. That happens after the
//! unwinding, under a guard of ours: a second panic there costs a line in the report and not the process.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{self, Poll};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, AsyncContext, Context};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use super::lineage::Lineage;
use crate::child::{Birth, ExitReason, Recipe, StopKind};
use crate::panics::{self, PanicReport};
use crate::reference::{Slot, Vacancy};

/// What a supervisor asks of an incarnation.
#[derive(Debug)]
pub(crate) enum Control {
    /// Answer.
    Ping(oneshot::Sender<()>),
    /// Stop.
    Stop(StopKind),
}

/// What an incarnation is started with.
#[derive(Debug)]
pub(crate) struct Cradle {
    pub(super) birth: Birth,
    pub(super) controls: mpsc::Receiver<Control>,
    /// Is told when the actor serves.
    pub(super) born: oneshot::Sender<()>,
    /// Is told how the incarnation ended; dropped untold when its thread goes away.
    pub(super) exit: oneshot::Sender<ExitReason>,
}

/// A child with its type erased: makes incarnations, and rules over its slot.
pub(crate) trait Incubator: fmt::Debug + Send + Sync {
    fn name(&self) -> &Arc<str>;
    fn kind(&self) -> &'static str;
    fn backlog(&self) -> Arc<AtomicUsize>;
    /// Begins an incarnation and returns its number.
    fn begin(&self) -> u64;
    /// Empties the slot after `incarnation`.
    fn vacate(&self, incarnation: u64, vacancy: Vacancy);
    /// Fails the requests that `incarnation` still holds: it will never answer.
    fn forsake(&self, incarnation: u64);
    /// Hosts an incarnation as a task on the present arbiter.
    fn host(&self, cradle: Cradle);
}

/// The [`Incubator`] of actors of type `A`.
pub(crate) struct Hosted<A: Actor> {
    slot: Slot<A>,
    recipe: Arc<Recipe<A>>,
}

impl<A: Actor<Context = Context<A>>> Hosted<A> {
    pub(crate) fn new(slot: Slot<A>, recipe: Recipe<A>) -> Self {
        Self {
            slot,
            recipe: Arc::new(recipe),
        }
    }
}

impl<A: Actor> fmt::Debug for Hosted<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>> Incubator for Hosted<A> {
    fn name(&self) -> &Arc<str> {
        self.slot.name()
    }

    fn kind(&self) -> &'static str {
        // Without the path and before any type parameters, whose own paths would confuse the search.
        let full = std::any::type_name::<A>();
        let end = full.find('<').unwrap_or(full.len());
        let start = full[..end].rfind("::").map_or(0, |at| at + 2);
        &full[start..]
    }

    fn backlog(&self) -> Arc<AtomicUsize> {
        self.slot.backlog()
    }

    fn begin(&self) -> u64 {
        self.slot.begin()
    }

    fn vacate(&self, incarnation: u64, vacancy: Vacancy) {
        self.slot.vacate(incarnation, vacancy);
    }

    fn forsake(&self, incarnation: u64) {
        self.slot.forsake(incarnation);
    }

    fn host(&self, cradle: Cradle) {
        let (slot, recipe) = (self.slot.clone(), Arc::clone(&self.recipe));
        drop(actix_rt::spawn(async move {
            let Cradle {
                birth,
                controls,
                born,
                exit,
            } = cradle;
            let lineage = birth.lineage.clone();
            let steward = Steward {
                arrival: Some(Arrival {
                    slot,
                    incarnation: birth.incarnation,
                }),
                born: Some(born),
                recipe,
                controls,
            };
            let reason = live(birth, steward, lineage).await;
            // Nobody listens any more when the incarnation was abandoned.
            let _unheard = exit.send(reason);
        }));
    }
}

/// Makes the actor, lets it live, and returns why it ended.
async fn live<A>(birth: Birth, steward: Steward<A>, lineage: Lineage) -> ExitReason
where
    A: Actor<Context = Context<A>>,
{
    let note = birth.exit.clone();
    let recipe = Arc::clone(&steward.recipe);
    let cut = lineage.cut();
    tokio::pin!(cut);

    let made = tokio::select! {
        biased;
        () = &mut cut => return ExitReason::Killed,
        made = panics::catch(async { (recipe.factory)(birth).await }) => made,
    };
    let actor = match made {
        Ok(Ok(actor)) => actor,
        Ok(Err(error)) => return error.into(),
        Err(report) => return ExitReason::Panic { report },
    };

    let mut context = Context::new();
    context.set_mailbox_capacity(recipe.mailbox);
    context.spawn(steward);
    let mut task = actix_rt::spawn(panics::catch(context.into_future(actor)));
    tokio::select! {
        biased;
        ended = &mut task => match ended {
            Ok(Ok(())) => note.take(),
            Ok(Err(report)) => ExitReason::Panic { report },
            Err(error) => exit_of(error),
        },
        () = &mut cut => kill(task).await,
    }
}

/// Ends the actor's task and waits until its actor is dropped.
async fn kill(task: JoinHandle<Result<(), PanicReport>>) -> ExitReason {
    task.abort();
    drop(task.await);
    ExitReason::Killed
}

fn exit_of(error: JoinError) -> ExitReason {
    match error.try_into_panic() {
        Ok(payload) => ExitReason::Panic {
            report: PanicReport::of_payload(&*payload),
        },
        Err(_aborted) => ExitReason::Killed,
    }
}

/// Lives inside the actor's context and speaks for its supervisor.
struct Steward<A: Actor> {
    arrival: Option<Arrival<A>>,
    born: Option<oneshot::Sender<()>>,
    recipe: Arc<Recipe<A>>,
    controls: mpsc::Receiver<Control>,
}

/// Where the actor is to be found once it has started.
struct Arrival<A: Actor> {
    slot: Slot<A>,
    incarnation: u64,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Steward<A> {
    type Output = ();

    /// First polled after `started`, and not before everything that `started` told the context to wait for.
    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        if let Some(Arrival { slot, incarnation }) = self.arrival.take()
            && !slot.occupy(incarnation, ctx.address())
        {
            // Given up on while it started: its successor has the slot.
            ctx.terminate();
            return Poll::Ready(());
        }
        if self.born.is_some() && (self.recipe.ready)(actor) {
            let _unheard = self.born.take().map(|born| born.send(()));
        }
        while let Poll::Ready(Some(control)) = self.controls.poll_recv(task) {
            match control {
                Control::Ping(answer) => {
                    let _unheard = answer.send(());
                }
                Control::Stop(kind) => (self.recipe.on_stop)(actor, kind, ctx),
            }
        }
        Poll::Pending
    }
}
