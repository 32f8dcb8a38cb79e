//! Who relays: a service of the tree that carries what waits in the outbox to the broker, while it holds the right to.
//!
//! Calls are frozen before they are first sent, so whoever finds one, after whatever death, sends the same again and the
//! broker adds nothing twice. That one relays at a time spares work and keeps the order cheap; safety does not rest on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::blocking::BlockingPool;
use celeriac_actors::child::ChildSpec;
use celeriac_actors::ids::{QueueName, WorkerId};
use celeriac_actors::intensity::Limit;
use celeriac_actors::ports::BrokerError;
use celeriac_actors::producer::Producer;
use celeriac_actors::registry::Registry;
use celeriac_actors::time::Clock;
use diesel::result::QueryResult;
use slog::{Logger, error, info, warn};
use tokio::time::{sleep, timeout};

use super::ledger::{Press, Rows};
use super::table::{Steps, number};
use crate::database::Database;
use crate::spool::book::Frozen;
use crate::spool::courier::{Courier, Verdict};

/// How often a relay looks for what other processes wrote.
const LOOK: Duration = Duration::from_millis(250);
/// How long nobody else relays after the holder was last heard of.
const HOLD: Duration = Duration::from_secs(5);
/// How many calls of one queue are carried before it is another's turn.
const TURN: usize = 16;
/// How long the broker may take over one call.
const ANSWER: Duration = Duration::from_secs(10);

/// What a relay needs beside the database.
#[derive(Clone)]
pub(crate) struct RelaySetup {
    pub(crate) producer: Producer,
    /// The kinds of tasks that the program knows.
    pub(crate) known: Arc<Registry>,
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limit: Limit,
    /// Which of the program's outboxes it is, from 0.
    pub(crate) index: usize,
}

/// Specifies the relay of a database as a child of the tree.
pub(crate) fn service<C: Steps>(database: Database<C>, setup: RelaySetup) -> ChildSpec {
    let limit = setup.limit;
    let name = match setup.index {
        0 => "outbox-relay".to_owned(),
        index => format!("outbox-relay-{index}"),
    };
    celeriac_actors::service::spec(&name, limit, move |birth| {
        let relay = Relay {
            database: database.clone(),
            press: Press {
                producer: setup.producer.clone(),
                known: Arc::clone(&setup.known),
            },
            // A successor on the same process does not wait for the right of its predecessor.
            holder: setup.worker.as_str().to_owned(),
            clock: Arc::clone(&setup.clock),
            courier: Arc::default(),
            threads: BlockingPool::new(1),
            log: birth.log,
        };
        relay.serve()
    })
}

struct Relay<C: Steps> {
    database: Database<C>,
    press: Press,
    holder: String,
    clock: Arc<dyn Clock>,
    courier: Arc<Mutex<Courier>>,
    /// Where queries block.
    threads: BlockingPool,
    log: Logger,
}

impl<C: Steps> Relay<C> {
    /// Relays for ever, however long database or broker are away.
    async fn serve(self) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0;
        loop {
            match self.round().await {
                Ok(()) => {
                    if failures > 0 {
                        info!(self.log, "the outbox is relayed again");
                    }
                    failures = 0;
                    // Either way it looks again.
                    let _either = timeout(LOOK, self.database.news.notified()).await;
                }
                Err(reason) => {
                    if failures == 0 {
                        warn!(self.log, "tasks may wait in the outbox"; "error" => reason);
                    }
                    failures += 1;
                    sleep(backoff.delay(failures, &mut rand::rng())).await;
                }
            }
        }
    }

    /// Carries what waits, if something does and the right to is here; a queue that the broker does not take holds up no
    /// other.
    async fn round(&self) -> Result<(), String> {
        if self.query(|conn| conn.is_empty()).await? {
            return Ok(());
        }
        while self.seize().await? {
            let queues = self.queues().await?;
            if queues.is_empty() {
                break;
            }
            let mut failed = None;
            for name in queues {
                let carried = match QueueName::new(&name) {
                    Ok(queue) => self.carry(&queue).await,
                    Err(error) => Err(error.to_string()),
                };
                failed = carried.err().or(failed);
            }
            if let Some(reason) = failed {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Takes or keeps the right to relay.
    async fn seize(&self) -> Result<bool, String> {
        let (holder, now) = (self.holder.clone(), self.clock.now());
        let at = |after: Duration| number(now.plus(after).as_millis());
        let (now, until) = (number(now.as_millis()), (at(HOLD), at(10 * HOLD)));
        self.query(move |conn| conn.seize(&holder, now, until))
            .await
    }

    /// Makes tasks of the rows that are none yet; returns the queues of which tasks wait.
    async fn queues(&self) -> Result<Vec<String>, String> {
        loop {
            let press = self.press.clone();
            let step = move |conn: &mut C| conn.alone(|conn| Rows(conn).stamp(&press));
            let (rows, refused) = self.query(step).await?;
            if let Some(reason) = refused {
                error!(self.log, "a row of the outbox is no task; it is kept in `celeriac_outbox_rejected`"; "reason" => reason);
            }
            if rows == 0 {
                return self.query(|conn| conn.queues()).await;
            }
        }
    }

    /// Carries some of one queue's calls, one after the other.
    async fn carry(&self, queue: &QueueName) -> Result<(), String> {
        let mut done: Option<Frozen> = None;
        for _ in 0..TURN {
            let Some(frozen) = self.next(queue, done.take()).await? else {
                return Ok(());
            };
            let call = Arc::new(frozen.call.clone());
            let answer = timeout(ANSWER, self.press.producer.broker().enqueue(call)).await;
            let late = || Err(BrokerError::Unavailable("no answer in time".to_owned()));
            let outcome = answer.unwrap_or_else(|_| late());
            let verdict = lock(&self.courier).judge(&frozen, outcome);
            match verdict {
                Verdict::Done => done = Some(frozen),
                Verdict::Later(reason) => return Err(reason),
                verdict => self.apply(frozen, verdict).await?,
            }
            if !self.seize().await? {
                break;
            }
        }
        match done {
            Some(frozen) => self.apply(frozen, Verdict::Done).await,
            None => Ok(()),
        }
    }

    async fn next(
        &self,
        queue: &QueueName,
        done: Option<Frozen>,
    ) -> Result<Option<Frozen>, String> {
        let (queue, courier) = (queue.clone(), Arc::clone(&self.courier));
        let step = move |conn: &mut C| {
            let step = |conn: &mut C| lock(&courier).next(&mut Rows(conn), &queue, done.as_ref());
            conn.alone(step)
        };
        self.query(step).await
    }

    async fn apply(&self, frozen: Frozen, verdict: Verdict) -> Result<(), String> {
        if let Verdict::Reject(reason) = &verdict {
            error!(self.log, "the broker rejects a task for good; it is kept in `celeriac_outbox_rejected`";
                "queue" => %frozen.call.queue, "reason" => reason);
        }
        let courier = Arc::clone(&self.courier);
        let step = move |conn: &mut C| {
            conn.alone(|conn| lock(&courier).apply(&mut Rows(conn), &frozen, &verdict))
        };
        self.query(step).await
    }

    /// Runs queries on a connection of the pool.
    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C) -> QueryResult<T> + Send + 'static,
    ) -> Result<T, String> {
        let pool = self.database.pool.clone();
        let done = self.threads.run(move || {
            let mut connection = pool.get().map_err(|error| error.to_string())?;
            work(&mut connection).map_err(|error| error.to_string())
        });
        done.await.map_err(|error| error.to_string())?
    }
}

fn lock(courier: &Mutex<Courier>) -> MutexGuard<'_, Courier> {
    courier.lock().unwrap_or_else(PoisonError::into_inner)
}
