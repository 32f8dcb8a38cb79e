//! Task actors: the user's own actix actors, built by a factory, supervised on every lane, fed by that lane's consumers.

use std::any::type_name;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use futures_util::future::LocalBoxFuture;

use crate::attempt::Attempt;
use crate::child::{ChildSpec, OnExhausted, Placement, Recipe, Shutdown, StartError};
use crate::context::WorkerContext;
use crate::ids::TaskName;
use crate::intensity::Limit;
use crate::lane::LaneSeat;
use crate::reference::Slot;
use crate::registry::{RegisterError, Registry};
use crate::runner::{ActorRunner, Runner};
use crate::task::{BoxError, Task};

/// What the factory of a task actor is given.
#[derive(Clone, Debug)]
pub struct Boot {
    /// What all attempts of the process share: state, blocking pool, logger, producer.
    pub worker: Arc<WorkerContext>,
    /// The lane it will live on, from 0.
    pub lane: u16,
    /// How often this instance has been built, this time included.
    pub incarnation: u64,
}

type Built<A> = LocalBoxFuture<'static, Result<A, BoxError>>;
type BoxFactory<A> = Arc<dyn Fn(Boot) -> Built<A> + Send + Sync>;
type MakeRunner<A> = Arc<dyn Fn(&[Slot<A>]) -> Arc<dyn Runner> + Send + Sync>;
type Register = fn(&mut Registry) -> Result<(), RegisterError>;

/// A function that builds a task actor. `Kind` only tells the forms apart and is always inferred.
///
/// Forms: `fn() -> A`, `fn(Boot) -> A`, the same with `Result<A, E>`, and each of them async.
///
/// The bounds of the impls stand in the order in which the compiler learns types: the function first, then what it
/// returns. In another order it finds the async forms ambiguous.
pub trait Factory<A, Kind>: Send + Sync + 'static {
    /// Builds one instance.
    fn build(&self, boot: Boot) -> LocalBoxFuture<'static, Result<A, BoxError>>;
}

/// Tells the forms of factories apart.
#[derive(Debug)]
pub struct Form<const BOOT: bool, const FALLIBLE: bool, const ASYNC: bool>;

impl<A: Actor, F: Fn() -> A + Send + Sync + 'static> Factory<A, Form<false, false, false>> for F {
    fn build(&self, _: Boot) -> Built<A> {
        Box::pin(std::future::ready(Ok(self())))
    }
}

impl<A: Actor, F: Fn(Boot) -> A + Send + Sync + 'static> Factory<A, Form<true, false, false>>
    for F
{
    fn build(&self, boot: Boot) -> Built<A> {
        Box::pin(std::future::ready(Ok(self(boot))))
    }
}

impl<A, E, F> Factory<A, (Form<false, true, false>, E)> for F
where
    F: Fn() -> Result<A, E> + Send + Sync + 'static,
    E: Into<BoxError>,
    A: Actor,
{
    fn build(&self, _: Boot) -> Built<A> {
        Box::pin(std::future::ready(self().map_err(Into::into)))
    }
}

impl<A, E, F> Factory<A, (Form<true, true, false>, E)> for F
where
    F: Fn(Boot) -> Result<A, E> + Send + Sync + 'static,
    E: Into<BoxError>,
    A: Actor,
{
    fn build(&self, boot: Boot) -> Built<A> {
        Box::pin(std::future::ready(self(boot).map_err(Into::into)))
    }
}

impl<A, R, F> Factory<A, (Form<false, false, true>, R)> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = A> + 'static,
    A: Actor,
{
    fn build(&self, _: Boot) -> Built<A> {
        let building = self();
        Box::pin(async move { Ok(building.await) })
    }
}

impl<A, R, F> Factory<A, (Form<true, false, true>, R)> for F
where
    F: Fn(Boot) -> R + Send + Sync + 'static,
    R: Future<Output = A> + 'static,
    A: Actor,
{
    fn build(&self, boot: Boot) -> Built<A> {
        let building = self(boot);
        Box::pin(async move { Ok(building.await) })
    }
}

impl<A, E, R, F> Factory<A, (Form<false, true, true>, E, R)> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, E>> + 'static,
    E: Into<BoxError>,
    A: Actor,
{
    fn build(&self, _: Boot) -> Built<A> {
        let building = self();
        Box::pin(async move { building.await.map_err(Into::into) })
    }
}

impl<A, E, R, F> Factory<A, (Form<true, true, true>, E, R)> for F
where
    F: Fn(Boot) -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, E>> + 'static,
    E: Into<BoxError>,
    A: Actor,
{
    fn build(&self, boot: Boot) -> Built<A> {
        let building = self(boot);
        Box::pin(async move { building.await.map_err(Into::into) })
    }
}

/// A kind of task actor: how it is built, how many there are on each lane, and which tasks it handles.
pub struct TaskActor<A: Actor> {
    name: String,
    instances: u16,
    mailbox: usize,
    limit: Limit,
    factory: BoxFactory<A>,
    handles: Vec<(&'static str, MakeRunner<A>, Register)>,
}

impl<A: Actor<Context = Context<A>>> TaskActor<A> {
    /// Creates a kind of task actor that is built by `factory`, named after its type, one instance on each lane.
    pub fn new<K>(factory: impl Factory<A, K>) -> Self {
        let path = type_name::<A>();
        let base = path.split('<').next().unwrap_or(path);
        let name = base.rsplit("::").next().unwrap_or(base).to_lowercase();
        Self {
            name,
            instances: 1,
            mailbox: 1_024,
            limit: Limit::default(),
            factory: Arc::new(move |boot| factory.build(boot)),
            handles: Vec::new(),
        }
    }

    /// Says that it handles tasks of kind `T`.
    #[must_use]
    pub fn handles<T: Task>(mut self) -> Self
    where
        A: Handler<Attempt<T>>,
    {
        let make: MakeRunner<A> = Arc::new(|slots| Arc::new(ActorRunner::<T>::new(slots)));
        self.handles
            .push((T::NAME, make, |registry| registry.add::<T>(None)));
        self
    }

    /// Sets its name in the tree.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how many instances each lane has; 0 counts as 1. Attempts take turns among them.
    #[must_use]
    pub fn instances(mut self, count: u16) -> Self {
        self.instances = count.max(1);
        self
    }

    /// Sets how many crashes of an instance within which time are accepted before it is parked.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn registrations(&self) -> Vec<Register> {
        self.handles
            .iter()
            .map(|(_, _, register)| *register)
            .collect()
    }

    fn spec(&self, slot: &Slot<A>, worker: &Arc<WorkerContext>, seat: &LaneSeat) -> ChildSpec {
        let (factory, worker, lane) = (Arc::clone(&self.factory), Arc::clone(worker), seat.lane());
        let recipe = Recipe::starting(move |birth| {
            let boot = Boot {
                worker: Arc::clone(&worker),
                lane,
                incarnation: birth.incarnation,
            };
            let building = factory(boot);
            async move {
                building
                    .await
                    .map_err(|error| StartError::Failed(describe(&*error)))
            }
        });
        let (seat, lane) = (seat.clone(), seat.clone());
        ChildSpec::new(slot, recipe.mailbox(self.mailbox))
            .on_exhausted(OnExhausted::park(self.limit))
            .placement(Placement::chosen(move |_| seat.current()))
            .shutdown(Shutdown::within(Duration::from_millis(500)))
            .asked_while(move || lane.answers())
            .pings(None)
    }
}

impl<A: Actor> std::fmt::Debug for TaskActor<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskActor")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a lane needs of one kind of task actor: the children to supervise, and the runners that feed them.
pub(crate) struct Equipment {
    pub(crate) specs: Vec<ChildSpec>,
    pub(crate) runners: Vec<(TaskName, Arc<dyn Runner>)>,
}

/// A kind of task actor, its type erased.
pub(crate) trait TaskActorKind: Send + Sync {
    fn name(&self) -> &str;
    fn handles(&self, task: &TaskName) -> bool;
    fn equip(&self, worker: &Arc<WorkerContext>, seat: &LaneSeat) -> Equipment;
}

impl<A: Actor<Context = Context<A>>> TaskActorKind for TaskActor<A> {
    fn name(&self) -> &str {
        &self.name
    }

    fn handles(&self, task: &TaskName) -> bool {
        self.handles.iter().any(|(name, ..)| *name == task.as_str())
    }

    fn equip(&self, worker: &Arc<WorkerContext>, seat: &LaneSeat) -> Equipment {
        let name = |i| {
            if self.instances == 1 {
                self.name.clone()
            } else {
                format!("{}-{i}", self.name)
            }
        };
        let slots: Vec<Slot<A>> = (0..self.instances).map(|i| Slot::new(name(i))).collect();
        let specs = slots
            .iter()
            .map(|slot| self.spec(slot, worker, seat))
            .collect();
        let runners = self.handles.iter().filter_map(|(task, make, _)| {
            // Registration has checked the name.
            TaskName::new(task).ok().map(|task| (task, make(&slots)))
        });
        Equipment {
            specs,
            runners: runners.collect(),
        }
    }
}

/// The runners of one lane by task name.
pub(crate) type Runners = HashMap<TaskName, Arc<dyn Runner>>;

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
