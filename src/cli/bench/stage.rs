//! The runtime under measurement: as `run` starts it, with tasks that do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use celeriac_actors::attempt::Attempt;
use celeriac_actors::permits::QueueShare;
use celeriac_actors::policy::ResultLimits;
use celeriac_actors::task::Task;
use celeriac_actors::time::Clock;
use futures_util::stream::{FuturesUnordered, TryStreamExt};
use serde::{Deserialize, Serialize};
use slog::Logger;
use tokio::time::Instant;

use super::ground::{Ground, failed};
use super::load::{self, Load, Noop};
use super::machine::own_cpu;
use crate::app::App;
use crate::cli::exit::{Exit, Failure};
use crate::cli::run::tree_options;
use crate::cli::session::Session;
use crate::client::Client;
use crate::clock::SystemClock;
use crate::runtime::{Runtime, RuntimeOptions};

/// A task that tells when it started.
#[derive(Debug, Serialize, Deserialize)]
struct Probe {
    slot: usize,
    sent_ns: u64,
}

impl Task for Probe {
    const NAME: &'static str = "bench.probe";
    const QUEUE: &'static str = load::QUEUE;
    type Output = ();
}

/// The time from enqueue to start of each probe, in nanoseconds.
type Latencies = Arc<Vec<AtomicU64>>;

/// A running runtime and its client.
pub(super) struct Stage<'a> {
    pub(super) ground: &'a Ground,
    pub(super) client: Client,
    runtime: Runtime,
    started: Arc<AtomicU64>,
    latencies: Latencies,
}

/// What lifecycles took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    pub(super) time: Duration,
    /// On a core, by this process.
    pub(super) own: Duration,
    /// On a core, by the server.
    pub(super) server: Option<Duration>,
    /// Scripts that the server ran.
    pub(super) calls: Option<u64>,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl<'a> Stage<'a> {
    /// Starts a runtime as the configuration says, that drains the queue of the measurement too; `probes` is how many
    /// latencies it can note.
    pub(super) fn start(
        ground: &'a Ground,
        session: &Session,
        log: &Logger,
        probes: usize,
    ) -> Result<Self, Failure> {
        let config = &session.config;
        let latencies: Latencies = Arc::new((0..probes).map(|_| AtomicU64::new(0)).collect());
        let started = Arc::new(AtomicU64::new(0));
        let (seen, probed, kept) = (
            Arc::clone(&started),
            Arc::clone(&started),
            Arc::clone(&latencies),
        );
        let app = App::new()
            .task(move |_: Attempt<Noop>| {
                seen.fetch_add(1, Ordering::Relaxed);
                async { Ok(()) }
            })
            .task(move |probe: Attempt<Probe>| {
                let latency = now_ns().saturating_sub(probe.args.sent_ns).max(1);
                if let Some(slot) = kept.get(probe.args.slot) {
                    slot.store(latency, Ordering::Relaxed);
                }
                probed.fetch_add(1, Ordering::Relaxed);
                async { Ok(()) }
            });
        let mut options = RuntimeOptions::new(Arc::clone(&ground.broker), ground.worker.clone());
        options.tree = tree_options(config);
        options
            .tree
            .queues
            .push((load::queue()?, QueueShare::default()));
        options.limits = session.limits();
        options.results = ResultLimits {
            ttl: config.results.ttl,
            max_size: config.results.max_size,
        };
        options.blocking_threads = config.blocking_threads;
        options.log = log.clone();
        let runtime =
            Runtime::start(app, options).map_err(|error| Failure::new(Exit::GaveUp, error))?;
        Ok(Self {
            ground,
            client: ground.client(),
            runtime,
            started,
            latencies,
        })
    }

    /// Takes tasks from enqueue to settlement, and returns what that took from the first call on.
    pub(super) async fn lifecycle(&self, load: &Load) -> Result<Took, Failure> {
        let goal = self.started.load(Ordering::Relaxed) + load.tasks;
        self.until(goal, load).await
    }

    /// Enqueues a load, and waits until so many tasks in all have been settled.
    pub(super) async fn until(&self, goal: u64, load: &Load) -> Result<Took, Failure> {
        let (own, server) = (own_cpu(), self.ground.server_cpu().await?);
        let calls = self.ground.server_calls().await?;
        let start = SystemClock.since_boot();
        let done = load::settled(&*self.ground.broker, &self.started, goal);
        let (_, ()) = tokio::try_join!(load.enqueue(&self.client), done)?;
        let time = SystemClock.since_boot().saturating_sub(start);
        let own = own_cpu().saturating_sub(own);
        let now = self.ground.server_cpu().await?;
        let spent = |now: Duration| now.saturating_sub(server.unwrap_or_default());
        let called = self.ground.server_calls().await?;
        Ok(Took {
            time,
            own,
            server: now.map(spent),
            calls: called.map(|now| now.saturating_sub(calls.unwrap_or_default())),
        })
    }

    /// Waits until so many tasks in all have been settled.
    pub(super) async fn settled(&self, goal: u64) -> Result<(), Failure> {
        load::settled(&*self.ground.broker, &self.started, goal).await
    }

    /// Enqueues one task after the other at a steady rate, on a schedule that waits for nothing.
    pub(super) async fn latency(&self, rate: u32) -> Result<Latency, Failure> {
        let goal = self.started.load(Ordering::Relaxed) + self.latencies.len() as u64;
        let mut under_way = FuturesUnordered::new();
        let start = Instant::now();
        for slot in 0..self.latencies.len() {
            let due = start + Duration::from_secs_f64(slot as f64 / f64::from(rate));
            // What is under way goes on while the next one is waited for.
            let wait = tokio::time::sleep_until(due);
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    biased;
                    () = &mut wait => break,
                    answer = under_way.try_next(), if !under_way.is_empty() => {
                        answer?;
                    }
                }
            }
            let client = &self.client;
            under_way.push(async move {
                let sent_ns = now_ns();
                let probe = Probe { slot, sent_ns };
                client.enqueue(&probe).await.map(drop).map_err(failed)
            });
        }
        while under_way.try_next().await?.is_some() {}
        self.settled(goal).await?;
        let slots = self.latencies.iter();
        Ok(Latency::of(
            slots.map(|slot| slot.load(Ordering::Relaxed)).collect(),
        ))
    }

    /// Ends the runtime.
    pub(super) async fn stop(self) {
        self.runtime.stop(Duration::from_secs(5)).await;
    }
}

impl Latency {
    fn of(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        // The smallest that at least so many percent do not exceed.
        let us = |percent: usize| {
            let at = (all.len() * percent).div_ceil(100).saturating_sub(1);
            all.get(at).map_or(0.0, |ns| *ns as f64 / 1_000.0)
        };
        Self {
            p50: us(50),
            p99: us(99),
            max: us(100),
        }
    }
}

fn now_ns() -> u64 {
    u64::try_from(SystemClock.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn percentiles_are_of_all() {
        let latency = Latency::of((1..=1_000).rev().map(|us| us * 1_000).collect());
        let found = [latency.p50, latency.p99, latency.max];
        assert!(
            found
                .iter()
                .zip([500.0, 990.0, 1_000.0])
                .all(|(a, b)| (a - b).abs() < f64::EPSILON)
        );
    }
}
