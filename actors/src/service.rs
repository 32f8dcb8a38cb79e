//! Services: async functions that run beside the tasks for as long as the process does, supervised.

use std::future::Future;
use std::time::Duration;

use actix::fut::ActorFutureExt;
use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture};
use futures_util::future::LocalBoxFuture;

use crate::child::{Birth, ChildSpec, OnExhausted, Placement, Recipe, Shutdown};
use crate::intensity::Limit;
use crate::reference::Slot;

/// How long a service may take to end once it is told to.
const LEAVE: Duration = Duration::from_millis(250);

/// Runs one call of the function. Its future ends with it.
struct Service {
    body: Option<LocalBoxFuture<'static, ()>>,
}

impl Actor for Service {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(body) = self.body.take() {
            ctx.spawn(body.into_actor(self).map(|(), _, ctx| ctx.stop()));
        }
    }
}

/// Specifies a child that runs `body` on a thread of its own, again whenever it ends or panics.
///
/// It notes why it ends with [`Birth::exit`]. One that crashes beyond `limit` is parked and tried again with growing
/// waits: it takes nothing else down. At the end of the process its future is dropped wherever it waits.
pub fn spec<F, R>(name: &str, limit: Limit, body: F) -> ChildSpec
where
    F: Fn(Birth) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + 'static,
{
    let recipe = Recipe::new(move |birth| Service {
        body: Some(Box::pin(body(birth))),
    });
    ChildSpec::new(&Slot::<Service>::new(name), recipe)
        .placement(Placement::Fresh)
        .on_exhausted(OnExhausted::park(limit))
        .shutdown(Shutdown::within(LEAVE))
}
