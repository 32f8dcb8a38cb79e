//! The herald: tells the broker, once a beat, that this process lives and what it is doing.
//!
//! What it tells is made by the runtime, which knows the whole tree; the herald only keeps the rhythm. A beat that fails
//! is not repeated: the next one says more. When it ends in order, it says farewell.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::line::Link;
use crate::outage::Access;
use crate::ports::WorkerRecord;

/// Makes the record of this process as it is now.
pub type Describe = Arc<dyn Fn() -> Option<WorkerRecord> + Send + Sync>;

/// How often a process beats.
pub const BEAT: Duration = Duration::from_secs(1);

/// Keeps the rhythm. See the file's header.
#[derive(Clone)]
pub(crate) struct Herald {
    link: Link,
    describe: Describe,
}

impl Herald {
    pub(crate) fn new(link: Link, describe: Describe) -> Self {
        Self { link, describe }
    }

    async fn beat(self) {
        let mut rhythm = interval(BEAT);
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rhythm.tick().await;
            let Some(record) = (self.describe)() else {
                continue;
            };
            let began = Instant::now();
            match timeout(BEAT, self.link.broker.beat(&record)).await {
                Ok(Ok(())) => self.link.outage.answered(began, Access::Write),
                Ok(Err(error)) => self.link.outage.failed(began, Access::Write, &error),
                Err(_) => {
                    let why = "no answer to a beat in time";
                    self.link.outage.failed(began, Access::Write, why);
                }
            }
        }
    }

    /// Is asked to stop: takes the record of this process away, if the broker lets it.
    pub(crate) fn stop(&mut self, ctx: &mut Context<Self>) {
        let (link, describe) = (self.link.clone(), Arc::clone(&self.describe));
        let farewell = async move {
            if let Some(record) = describe() {
                let farewell = link.broker.farewell(&record.worker);
                // The record ends by itself when nobody takes it away.
                let _in_time = timeout(Duration::from_millis(200), farewell).await;
            }
        };
        ctx.spawn(actix::fut::ActorFutureExt::map(
            farewell.into_actor(self),
            |(), _, ctx| ctx.stop(),
        ));
    }
}

impl Actor for Herald {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(self.clone().beat().into_actor(self));
    }
}
