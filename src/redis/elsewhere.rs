//! Results at another server than the tasks: stored beside the tasks in the step that ends one, then taken there.
//!
//! Taking is repeatable: a result is removed here only after it is there, and storing it twice changes nothing but when
//! its time ends. Whoever reads looks here first and then there, so that nothing is missed on its way.

use std::sync::{Arc, Weak};
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::BrokerError;
use redis::Value;
use slog::{Logger, info, warn};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::Reply;
use super::decode::{self, Parts};
use super::hub::Channels;
use super::keys::{Keys, slot};
use super::link::Links;
use super::options::{OpenError, RedisOptions};
use super::script::{RESULTS, RESULTS_TAKEN};
use super::url::RedisUrl;

/// How many results one step takes along.
const STEP: usize = 200;
/// How often it looks for what a dead worker left behind.
const LOOK: Duration = Duration::from_secs(5);

/// The other server, and the way there.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) links: Arc<Links>,
    pub(super) channels: Arc<Channels>,
    pub(super) there_is_something: Notify,
    keys: Keys,
    there: Keys,
    here: Arc<Links>,
    log: Logger,
}

impl Elsewhere {
    /// Prepares the way to `url`; opens no connection, so that tasks run while that server is away.
    pub(super) fn open(
        url: RedisUrl,
        options: &RedisOptions,
        keys: &Keys,
        here: &Arc<Links>,
    ) -> Result<Self, OpenError> {
        let there = Keys::new(url.namespace());
        let options = RedisOptions {
            url,
            results: None,
            ..options.clone()
        };
        Ok(Self {
            links: Arc::new(Links::new(&options)?),
            channels: Arc::default(),
            there_is_something: Notify::new(),
            keys: keys.clone(),
            there,
            here: Arc::clone(here),
            log: options.log,
        })
    }

    /// Returns the keys of the other server.
    pub(super) const fn keys_there(&self) -> &Keys {
        &self.there
    }

    /// Takes along what waits; returns whether there may be more.
    async fn take_some(&self) -> Reply<bool> {
        let mut more = false;
        for queue in super::known_queues(&self.here, &self.keys).await? {
            let taken = self.take_of(&queue).await?;
            more |= taken == STEP;
        }
        Ok(more)
    }

    async fn take_of(&self, queue: &QueueName) -> Reply<usize> {
        let root = self.keys.root(queue);
        let mut call = RESULTS.call(&root);
        call.arg(STEP);
        let records = Parts::of(self.here.run(slot(&root), &RESULTS, &call).await?)?.rest();
        let taken = records.len() / 2;
        if taken == 0 {
            return Ok(0);
        }
        let mut done = RESULTS_TAKEN.call(&root);
        let mut records = records.into_iter();
        while let (Some(id), Some(kept)) = (records.next(), records.next()) {
            let (id, kept) = (decode::text(id)?, decode::bytes(kept)?);
            self.store(queue, &id, &kept).await?;
            done.arg(id).arg(kept);
        }
        self.here.run(slot(&root), &RESULTS_TAKEN, &done).await?;
        Ok(taken)
    }

    /// Stores one record there, and tells whoever waits.
    async fn store(&self, queue: &QueueName, id: &str, kept: &[u8]) -> Reply<()> {
        let ttl = kept
            .first_chunk::<8>()
            .ok_or_else(|| decode::strange("a result without its time"))?;
        let key = self.there.of(queue, &format!("t:{id}"));
        let mut set = redis::cmd("SET");
        set.arg(&key)
            .arg(kept)
            .arg("PX")
            .arg(u64::from_be_bytes(*ttl));
        self.links.query(slot(&key), &set).await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&key).arg("");
        match self.links.query(slot(&key), &publish).await? {
            Value::Int(_) => Ok(()),
            other => Err(decode::strange(&format!("{other:?} is no number"))),
        }
    }
}

/// Takes results to the other server until the broker is gone. An outage there is logged once, and once its end.
pub(super) async fn take_there(elsewhere: Weak<Elsewhere>) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let (mut failures, mut away): (u32, Option<Instant>) = (0, None);
    while let Some(here) = elsewhere.upgrade() {
        match here.take_some().await {
            Ok(more) => {
                if let Some(since) = away.take() {
                    let ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                    info!(here.log, "results are taken to their server again"; "away_ms" => ms);
                }
                failures = 0;
                if !more {
                    drop(timeout(LOOK, here.there_is_something.notified()).await);
                }
            }
            Err(error) => {
                if away.is_none() {
                    away = Some(Instant::now());
                    tell(&here.log, &error);
                }
                failures += 1;
                let delay = backoff.delay(failures, &mut rand::rng());
                drop(here);
                sleep(delay).await;
            }
        }
    }
}

fn tell(log: &Logger, error: &BrokerError) {
    warn!(log, "results cannot be taken to their server; they wait at the broker's"; "error" => %error);
}
