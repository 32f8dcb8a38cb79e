//! The retry scheduler: makes due retries and scheduled tasks ready, and sleeps until the next one is due.
//!
//! One bounded step per queue at a time, so a million due tasks never hold up the broker; between steps it looks at the
//! other queues. It sleeps no longer than [`LONGEST_SLEEP`], so a lost wake-up or a stepped clock delays nothing for
//! longer than that. Any number of processes may do this at once: each step is atomic and moves a task once.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, WrapFuture};
use rand::RngExt;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::ids::QueueName;
use crate::lease::MAX_BATCH;
use crate::line::Link;
use crate::messages::DueChanged;
use crate::outage::Access;
use crate::ports::BrokerError;

/// The longest time between two looks.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// The most by which a look at due tasks is delayed, so that many processes do not all look at once.
const JITTER: Duration = Duration::from_millis(20);

/// Makes due tasks ready. See the file's header.
pub(crate) struct RetryScheduler {
    link: Link,
    queues: Vec<QueueName>,
    nudge: Rc<Notify>,
}

impl RetryScheduler {
    pub(crate) fn new(link: Link, queues: Vec<QueueName>) -> Self {
        Self {
            link,
            queues,
            nudge: Rc::new(Notify::new()),
        }
    }
}

impl Actor for RetryScheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let (link, queues, nudge) = (
            self.link.clone(),
            self.queues.clone(),
            Rc::clone(&self.nudge),
        );
        ctx.spawn(
            async move {
                loop {
                    let sleep = promote_all(&link, &queues).await.unwrap_or(LONGEST_SLEEP);
                    // Either way it looks again: at the due time, or because an earlier one came in.
                    let _either = timeout(sleep.min(LONGEST_SLEEP), nudge.notified()).await;
                    let jitter = rand::rng().random_range(Duration::ZERO..=JITTER);
                    tokio::time::sleep(jitter).await;
                }
            }
            .into_actor(self),
        );
    }
}

impl Handler<DueChanged> for RetryScheduler {
    type Result = ();

    fn handle(&mut self, _: DueChanged, _: &mut Context<Self>) {
        self.nudge.notify_one();
    }
}

/// Promotes what is due in all queues; returns how long until the next task is due.
async fn promote_all(link: &Link, queues: &[QueueName]) -> Result<Duration, BrokerError> {
    let mut left: VecDeque<&QueueName> = queues.iter().collect();
    let mut sleep = LONGEST_SLEEP;
    while let Some(queue) = left.pop_front() {
        let promoted = link
            .repeat(
                Access::Write,
                || link.broker.promote_due(queue, MAX_BATCH),
                |promoted| promoted.moved > 0,
            )
            .await?;
        match promoted.next_due {
            Some(due) if due <= promoted.now => left.push_back(queue),
            Some(due) => sleep = sleep.min(due.since(promoted.now)),
            None => {}
        }
    }
    Ok(sleep)
}
