//! A consumer's line to the broker: its incarnation, and the numbered calls it makes, one outstanding at a time.
//!
//! A call whose outcome is unknown is repeated to the letter, with backoff, for as long as it takes: an outage delays
//! settlements and loses none. Invariant: numbers and tags only ever grow within an incarnation, and a new incarnation
//! starts both again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::ids::{IncarnationId, QueueName, WorkerId};
use crate::lease::{ExchangeCall, Exchanged, Incarnation, Settlement};
use crate::outage::{Access, Outage};
use crate::ports::{Broker, BrokerError, Wake};
use crate::revocation::Revocation;
use crate::table::AttemptTable;

/// How long a call that failed waits before it is repeated.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// What came back on the line.
pub(crate) enum Answer {
    /// The incarnation is open.
    Opened(Result<(), BrokerError>),
    /// A call was answered.
    Exchanged(Result<Exchanged, BrokerError>),
    /// The queue's revocations, asked for because their version moved; with the reply that waits for them, if one does.
    Revocations(
        Option<Exchanged>,
        Result<(u64, Vec<Revocation>), BrokerError>,
    ),
    /// The incarnation is closed, or will be by rescue.
    Closed,
}

/// The broker as one consumer sees it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) outage: Arc<Outage>,
}

impl Link {
    /// Makes a call that writes again and again while the broker is away or refuses.
    pub(crate) async fn insist<T, F, R>(&self, call: F) -> Result<T, BrokerError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, BrokerError>>,
    {
        self.repeat(Access::Write, call, |_| true).await
    }

    /// Makes a call that reads again and again while the broker is away.
    pub(crate) async fn ask<T, F, R>(&self, call: F) -> Result<T, BrokerError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, BrokerError>>,
    {
        self.repeat(Access::Read, call, |_| false).await
    }

    /// Notes that a call that `began` then was answered, and what that proves: nothing while another part of the broker
    /// is away.
    pub(crate) fn answered(&self, began: Instant, proved: Access) {
        if self.broker.is_whole() {
            self.outage.answered(began, proved);
        }
    }

    /// Waits for bells, again and again while the broker is away. What comes of it ends no outage: time may have passed
    /// without a word, and bells may have lain here from before it.
    pub(crate) async fn hear(
        &self,
        queues: &[QueueName],
        timeout: Duration,
    ) -> Result<Vec<Wake>, BrokerError> {
        let until = Instant::now() + timeout;
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let left = until.saturating_duration_since(began);
            match self.broker.wait(queues, left).await {
                Err(error) if error.is_outage() => self.outage.failed(began, Access::Read, &error),
                answer => return answer,
            }
            failures += 1;
            sleep(BACKOFF.delay(failures, &mut rand::rng())).await;
        }
    }

    /// Makes a call again and again while the broker is away or refuses. `wrote` tells from a reply whether it has
    /// written something: an empty step may succeed where nothing can be written.
    pub(crate) async fn repeat<T, F, R>(
        &self,
        access: Access,
        mut call: F,
        wrote: impl Fn(&T) -> bool,
    ) -> Result<T, BrokerError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, BrokerError>>,
    {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            match call().await {
                Err(error) if error.is_outage() => self.outage.failed(began, access, &error),
                answer => {
                    let has_written = answer.as_ref().is_ok_and(&wrote);
                    let proved = if has_written {
                        Access::Write
                    } else {
                        Access::Read
                    };
                    self.answered(began, proved);
                    return answer;
                }
            }
            failures += 1;
            let delay = BACKOFF.delay(failures, &mut rand::rng());
            sleep(delay).await;
        }
    }
}

/// The present incarnation of a consumer.
pub(crate) struct Line {
    pub(crate) incarnation: Incarnation,
    pub(crate) table: Arc<AttemptTable>,
    last_call: u64,
    next_tag: u64,
}

impl Line {
    pub(crate) fn new(queue: &QueueName, worker: &WorkerId, lane: u16, lease: Duration) -> Self {
        let id = IncarnationId::random();
        let (queue, worker) = (queue.clone(), worker.clone());
        let table = Arc::new(AttemptTable::new(queue.clone(), id));
        Self {
            incarnation: Incarnation {
                id,
                queue,
                worker,
                lane,
                lease,
            },
            table,
            last_call: 0,
            next_tag: 1,
        }
    }

    pub(crate) fn open(&self, link: &Link) -> LocalBoxFuture<'static, Answer> {
        let (link, incarnation) = (link.clone(), self.incarnation.clone());
        Box::pin(
            async move { Answer::Opened(link.insist(|| link.broker.open(&incarnation)).await) },
        )
    }

    /// Makes the next numbered call.
    pub(crate) fn exchange(
        &mut self,
        link: &Link,
        settlements: Vec<Settlement>,
        want: u32,
    ) -> LocalBoxFuture<'static, Answer> {
        self.last_call += 1;
        let call = Arc::new(ExchangeCall {
            queue: self.incarnation.queue.clone(),
            incarnation: self.incarnation.id,
            number: self.last_call,
            settlements,
            want,
            first_tag: self.next_tag,
        });
        self.next_tag += u64::from(want);
        self.table.set_outstanding(Some(Arc::clone(&call)));
        let link = link.clone();
        Box::pin(async move {
            Answer::Exchanged(
                link.insist(|| link.broker.exchange(Arc::clone(&call)))
                    .await,
            )
        })
    }

    pub(crate) fn revocations(
        &self,
        link: &Link,
        reply: Option<Exchanged>,
    ) -> LocalBoxFuture<'static, Answer> {
        let (link, queue) = (link.clone(), self.incarnation.queue.clone());
        Box::pin(async move {
            let revoked = link.ask(|| link.broker.revocations(&queue)).await;
            Answer::Revocations(reply, revoked)
        })
    }

    pub(crate) fn close(&self, link: &Link) -> LocalBoxFuture<'static, Answer> {
        let (link, queue, id) = (
            link.clone(),
            self.incarnation.queue.clone(),
            self.incarnation.id,
        );
        Box::pin(async move {
            // What a broker that is away cannot be told, rescue will find.
            let closed = link.broker.close(&queue, id).await;
            drop(closed);
            Answer::Closed
        })
    }
}
