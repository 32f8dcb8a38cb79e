//! The herald: tells the broker, once a beat, that this process lives and what it is doing.
//!
//! What it tells is made by the runtime, which knows the whole tree; the herald only keeps the rhythm. A beat that fails
//! is not repeated: the next one says more. When it ends in order, it says farewell.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::ActorFutureExt;
use actix::{Actor, ActorContext, AsyncContext, Context, WrapFuture};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::line::Link;
use crate::outage::Access;
use crate::ports::WorkerRecord;

/// Makes the record of this process as it is now.
pub type Describe = Arc<dyn Fn() -> Option<WorkerRecord> + Send + Sync>;

/// How often a process beats.
pub const BEAT: Duration = Duration::from_secs(1);

/// How long a farewell may take: the record ends by itself when nobody takes it away.
const FAREWELL: Duration = Duration::from_millis(200);

/// Keeps the rhythm. See the file's header.
#[derive(Clone)]
pub(crate) struct Herald {
    link: Link,
    describe: Describe,
    leave: Rc<Notify>,
}

impl Herald {
    pub(crate) fn new(link: Link, describe: Describe) -> Self {
        Self {
            link,
            describe,
            leave: Rc::default(),
        }
    }

    /// Beats until it is asked to stop, then says farewell. One after the other: a beat that overtook the farewell would
    /// bring the record of a process back that is gone.
    async fn serve(self) {
        let mut rhythm = interval(BEAT);
        rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.leave.notified() => break,
                _ = rhythm.tick() => self.beat().await,
            }
        }
        self.farewell().await;
    }

    async fn beat(&self) {
        let Some(record) = (self.describe)() else {
            return;
        };
        let began = Instant::now();
        match timeout(BEAT, self.link.broker.beat(&record)).await {
            Ok(Ok(())) => self.link.answered(began, Access::Write),
            Ok(Err(error)) => self.link.outage.failed(began, Access::Write, &error),
            Err(_) => {
                let why = "no answer to a beat in time";
                self.link.outage.failed(began, Access::Write, why);
            }
        }
    }

    /// Takes the record of this process away, if the broker lets it.
    async fn farewell(&self) {
        if let Some(record) = (self.describe)() {
            let farewell = self.link.broker.farewell(&record.worker);
            let _in_time = timeout(FAREWELL, farewell).await;
        }
    }

    /// Is asked to stop.
    pub(crate) fn stop(&mut self, _: &mut Context<Self>) {
        self.leave.notify_one();
    }
}

impl Actor for Herald {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let served = self.clone().serve().into_actor(self);
        ctx.spawn(served.map(|(), _, ctx| ctx.stop()));
    }
}

#[cfg(feature = "testkit")]
#[cfg(test)]
mod tests {
    use actix::{Handler, Message};
    use slog::{Discard, Logger, o};

    use super::*;
    use crate::ids::WorkerId;
    use crate::outage::Outage;
    use crate::ports::Broker;
    use crate::testkit::{Fault, ManualClock, MemoryBroker, Method};
    use crate::time::Timestamp;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Leave;

    impl Handler<Leave> for Herald {
        type Result = ();

        fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
            self.stop(ctx);
        }
    }

    fn record() -> WorkerRecord {
        WorkerRecord {
            worker: WorkerId::new("w").unwrap(),
            host: "here".to_owned(),
            pid: 1,
            version: "0".to_owned(),
            queues: Vec::new(),
            concurrency: 1,
            started_at: Timestamp::EPOCH,
            quiet: false,
            detail: String::new(),
            beat: BEAT,
            seen_at: Timestamp::EPOCH,
            alive: true,
        }
    }

    /// Goal: a process that said farewell is not heard of again.
    /// Method: hold the reply to its farewell beyond the time of the next beat.
    #[test]
    fn no_beat_follows_the_farewell() {
        let system = actix_rt::System::with_tokio_rt(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().start_paused(true).build().unwrap()
        });
        system.block_on(async {
            let broker = Arc::new(MemoryBroker::new(Arc::new(ManualClock::new())));
            let method = Method::Farewell;
            broker.plan(Fault::HeldReply { method });
            let link = Link {
                broker: broker.clone(),
                outage: Arc::new(Outage::new("broker", Logger::root(Discard, o!()))),
            };
            let herald = Herald::new(link, Arc::new(|| Some(record()))).start();
            tokio::time::sleep(BEAT.mul_f64(0.9)).await;
            assert_eq!(broker.workers().await.unwrap().len(), 1);
            herald.send(Leave).await.unwrap();
            tokio::time::sleep(BEAT).await;
            assert_eq!(broker.workers().await, Ok(Vec::new()));
            assert!(!herald.connected());
        });
    }
}
