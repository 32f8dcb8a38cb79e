//! The keeper: the one who asks the broker about breakers, so that nobody else has to.
//!
//! Tells the others at once what this process decides, and looks once a second what they decided. Where no breaker is in
//! use, it asks nobody.

use std::rc::Rc;
use std::time::Duration;

use actix::fut::ActorFutureExt;
use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Breakers;

/// How often it looks; each time a little earlier or later, so that processes do not look together.
const LOOK: Duration = Duration::from_secs(1);

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How soon it tries again what did not work.
const AGAIN: Duration = Duration::from_millis(250);

/// Keeps breakers in step with the other workers. See the file's header.
#[derive(Clone)]
pub(crate) struct Keeper {
    breakers: Breakers,
    leave: Rc<Notify>,
}

impl Keeper {
    pub(crate) fn new(breakers: Breakers) -> Self {
        Self {
            breakers,
            leave: Rc::default(),
        }
    }

    async fn serve(self) {
        loop {
            let worked = if self.breakers.all().is_empty() {
                true
            } else {
                timeout(PATIENCE, self.breakers.sync()).await == Ok(true)
            };
            let pause = LOOK.mul_f64(0.8 + 0.4 * rand::rng().random::<f64>());
            tokio::select! {
                biased;
                () = self.leave.notified() => break,
                () = self.breakers.untold(), if worked => {}
                () = sleep(if worked { pause } else { AGAIN }) => {}
            }
        }
        // The last word, such as of a probe that was given back.
        let _in_time = timeout(AGAIN, self.breakers.sync()).await;
    }

    /// Is asked to stop.
    pub(crate) fn stop(&mut self, _: &mut Context<Self>) {
        self.leave.notify_one();
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let served = self.clone().serve().into_actor(self);
        ctx.spawn(served.map(|(), _, ctx| ctx.stop()));
    }
}
