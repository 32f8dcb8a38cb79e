//! Child specs: how a child is made, placed, restarted, pinged and stopped.
//!
//! A [`ChildSpec`] is cheap to clone and is never patched: a supervisor makes every incarnation from the same one.
//! The actor's type is erased behind `Incubator`, so supervisors know specs and not what their children are.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Context};
use actix_rt::ArbiterHandle;
use futures_util::future::LocalBoxFuture;

use super::{Birth, Pings, Restart, Shutdown, StartError, StopKind, Strategy};
use crate::backoff::Backoff;
use crate::intensity::Limit;
use crate::reference::Slot;
use crate::supervisor::{Hosted, Incubator, Supervisor};

type Factory<A> =
    Box<dyn Fn(Birth) -> LocalBoxFuture<'static, Result<A, StartError>> + Send + Sync>;
type OnStop<A> = Box<dyn Fn(&mut A, StopKind, &mut <A as Actor>::Context) + Send + Sync>;
type Ready<A> = Box<dyn Fn(&A) -> bool + Send + Sync>;
type Choose = Arc<dyn Fn(u64) -> io::Result<ArbiterHandle> + Send + Sync>;

/// How an actor is made, and how it is told to stop.
///
/// The factory is called for every incarnation, on the arbiter where the actor will live. Its panic is a panic exit.
pub struct Recipe<A: Actor> {
    pub(crate) factory: Factory<A>,
    pub(crate) on_stop: OnStop<A>,
    /// Whether the actor serves; asked after `started` and whenever the actor has been polled, until it says yes.
    pub(crate) ready: Ready<A>,
    pub(crate) mailbox: usize,
}

impl<A: Actor<Context = Context<A>>> Recipe<A> {
    /// Creates a recipe from a factory that cannot fail.
    pub fn new(factory: impl Fn(Birth) -> A + Send + Sync + 'static) -> Self {
        Self::boxed(Box::new(move |birth| {
            let actor = factory(birth);
            Box::pin(async move { Ok(actor) })
        }))
    }

    /// Creates a recipe from a factory that waits, and may fail.
    pub fn starting<F, Fut>(factory: F) -> Self
    where
        F: Fn(Birth) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<A, StartError>> + 'static,
    {
        Self::boxed(Box::new(move |birth| Box::pin(factory(birth))))
    }

    fn boxed(factory: Factory<A>) -> Self {
        Self {
            factory,
            on_stop: Box::new(|_, _, ctx| ctx.stop()),
            ready: Box::new(|_| true),
            mailbox: 16,
        }
    }

    /// Sets what the actor does when it is asked to stop: finish what it must, then `ctx.stop()`.
    ///
    /// Default: `ctx.stop()` at once, which drops the messages in the mailbox. May be called more than once.
    #[must_use]
    pub fn on_stop(
        mut self,
        on_stop: impl Fn(&mut A, &mut Context<A>) + Send + Sync + 'static,
    ) -> Self {
        self.on_stop = Box::new(move |actor, _, ctx| on_stop(actor, ctx));
        self
    }

    /// Sets when the actor counts as started; it can be found before. Asked after `started` and whenever something
    /// happened in the actor. Default: at once.
    pub(crate) fn ready(mut self, ready: impl Fn(&A) -> bool + Send + Sync + 'static) -> Self {
        self.ready = Box::new(ready);
        self
    }

    pub(crate) fn on_stop_kind(
        mut self,
        on_stop: impl Fn(&mut A, StopKind, &mut Context<A>) + Send + Sync + 'static,
    ) -> Self {
        self.on_stop = Box::new(on_stop);
        self
    }

    /// Sets how many messages the mailbox holds before `try_send` is refused (default 16; 0 counts as 1).
    #[must_use]
    pub fn mailbox(mut self, capacity: usize) -> Self {
        self.mailbox = capacity.max(1);
        self
    }
}

impl<A: Actor> fmt::Debug for Recipe<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipe")
            .field("mailbox", &self.mailbox)
            .finish_non_exhaustive()
    }
}

/// On which arbiter an incarnation lives.
#[derive(Clone, Default)]
pub enum Placement {
    /// On the supervisor's.
    #[default]
    Here,
    /// On this one, for every incarnation.
    On(ArbiterHandle),
    /// On a new one per incarnation, which is stopped when the incarnation has ended or is abandoned; never joined.
    Fresh,
    /// On the one this returns for the incarnation's number. Its failure is an error exit.
    Chosen(Choose),
}

impl Placement {
    /// Returns a placement that asks `choose` for each incarnation, by its number.
    pub fn chosen(
        choose: impl Fn(u64) -> io::Result<ArbiterHandle> + Send + Sync + 'static,
    ) -> Self {
        Self::Chosen(Arc::new(choose))
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Here => "Here",
            Self::On(_) => "On(..)",
            Self::Fresh => "Fresh",
            Self::Chosen(_) => "Chosen(..)",
        })
    }
}

/// What happens when a child crashes more often than is accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnExhausted {
    /// Its supervisor stops all children and exits with an error. Counted together with all such siblings against the
    /// supervisor's limit.
    Escalate,
    /// It is parked: tried again after `retry`, for ever. Counted alone. Such a child never takes siblings down.
    Park {
        /// How many of its crashes are accepted before it is parked.
        limit: Limit,
        /// The waits between tries while it is parked.
        retry: Backoff,
    },
}

impl OnExhausted {
    /// Returns parking beyond `limit`, tried again after 1 s, doubling to a minute.
    #[must_use]
    pub fn park(limit: Limit) -> Self {
        Self::Park {
            limit,
            retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
        }
    }
}

/// How to make a child again and again, and how to treat it.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    pub(crate) incubator: Arc<dyn Incubator>,
    pub(crate) restart: Restart,
    pub(crate) on_exhausted: OnExhausted,
    pub(crate) backoff: Backoff,
    pub(crate) stable_after: Duration,
    pub(crate) start_timeout: Duration,
    pub(crate) shutdown: Shutdown,
    pub(crate) pings: Option<Pings>,
    pub(crate) placement: Placement,
    /// Whether it is asked to stop, not killed, while it starts: it may have children that serve already.
    pub(crate) asked_while_starting: bool,
    pub(crate) reach: Reach,
}

/// Tells whether a child can be reached at all; nothing says that it always can.
#[derive(Clone, Default)]
pub(crate) struct Reach(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Reach {
    /// Returns whether there is any use in asking the child for something, and in waiting for it.
    pub(crate) fn is_there(&self) -> bool {
        self.0.as_ref().is_none_or(|answers| answers())
    }
}

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reach").field(&self.is_there()).finish()
    }
}

impl ChildSpec {
    /// Creates a spec for the child that answers at `slot`, whose name it takes.
    ///
    /// Defaults: permanent, escalates, restarted after 10 ms doubling to 5 s, stable after 30 s, 10 s to start, 5 s
    /// to stop, pinged each second and reported after 5, on the supervisor's arbiter. One slot belongs to one spec.
    #[must_use]
    pub fn new<A: Actor<Context = Context<A>>>(slot: &Slot<A>, recipe: Recipe<A>) -> Self {
        Self {
            incubator: Arc::new(Hosted::new(slot.clone(), recipe)),
            restart: Restart::default(),
            on_exhausted: OnExhausted::Escalate,
            backoff: Backoff::default(),
            stable_after: Duration::from_secs(30),
            start_timeout: Duration::from_secs(10),
            shutdown: Shutdown::default(),
            pings: Some(Pings::default()),
            placement: Placement::default(),
            asked_while_starting: false,
            reach: Reach::default(),
        }
    }

    /// Creates a spec for a nested supervisor.
    ///
    /// It counts as started when each of its children has been tried. Its times to start and to stop are what its
    /// children need one after the other, and a second; set your own after this. Children that were added while it
    /// ran do not come back with it.
    #[must_use]
    pub fn supervisor(slot: &Slot<Supervisor>, spec: SupervisorSpec) -> Self {
        let slack = Duration::from_secs(1);
        let ask = spec.longest_shutdown().saturating_add(slack);
        let start = spec.longest_start().saturating_add(slack);
        let mut child = Self::new(slot, Supervisor::recipe(spec))
            .shutdown(Shutdown::within(ask))
            .start_timeout(start);
        child.asked_while_starting = true;
        child
    }

    /// Returns the child's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.incubator.name()
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets what happens when it crashes too often.
    #[must_use]
    pub fn on_exhausted(mut self, on_exhausted: OnExhausted) -> Self {
        self.on_exhausted = on_exhausted;
        self
    }

    /// Sets the waits between restarts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long an incarnation must serve for the earlier crashes to be forgotten.
    #[must_use]
    pub fn stable_after(mut self, stable_after: Duration) -> Self {
        self.stable_after = stable_after;
        self
    }

    /// Sets how long factory and `started` may take together. Beyond it the start is cut off: an error exit.
    #[must_use]
    pub fn start_timeout(mut self, start_timeout: Duration) -> Self {
        self.start_timeout = start_timeout;
        self
    }

    /// Sets how long the child may take to end.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets what tells whether its thread answers. While it does not, a child that is to stop is abandoned at once: all
    /// children of one blocked thread together, instead of one after the other, each after its own timeout. Called on the
    /// supervisor's arbiter; must not wait.
    #[must_use]
    pub fn asked_while(mut self, answers: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.reach = Reach(Some(Arc::new(answers)));
        self
    }

    /// Sets how it is pinged; nothing turns pings off.
    #[must_use]
    pub fn pings(mut self, pings: Option<Pings>) -> Self {
        self.pings = pings;
        self
    }

    /// Sets on which arbiter it lives.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }
}

/// How a supervisor treats its children, and which it starts with.
#[derive(Clone, Debug, Default)]
pub struct SupervisorSpec {
    /// Who is restarted together with a child that crashed.
    pub strategy: Strategy,
    /// How many crashes of its escalating children, taken together, it accepts before it gives up.
    pub limit: Limit,
    /// Its children, in the order of their start. Names must differ; at most [`SupervisorSpec::MAX_CHILDREN`].
    pub children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// The most children of one supervisor.
    pub const MAX_CHILDREN: usize = 1_024;

    /// Creates a supervisor without children.
    #[must_use]
    pub fn new(strategy: Strategy, limit: Limit) -> Self {
        Self {
            strategy,
            limit,
            children: Vec::new(),
        }
    }

    /// Adds a child after those that are there.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec) -> Self {
        self.children.push(spec);
        self
    }

    /// Returns how long all children may take to end, one after the other.
    #[must_use]
    pub fn longest_shutdown(&self) -> Duration {
        self.children
            .iter()
            .map(|child| child.shutdown.longest())
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    fn longest_start(&self) -> Duration {
        self.children
            .iter()
            .map(|child| child.start_timeout.saturating_add(child.shutdown.kill))
            .fold(Duration::ZERO, Duration::saturating_add)
    }
}
