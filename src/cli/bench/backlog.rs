//! What a backlog costs: ready tasks behind the one that is fetched, and scheduled tasks before and when they are due.

use std::time::Duration;

use celeriac_actors::ports::When;
use celeriac_actors::time::Clock;
use serde::Serialize;
use slog::Logger;

use super::ground::{Site, failed};
use super::load::{self, Load};
use super::machine::own_cpu;
use super::stage::{Stage, Took};
use crate::cli::exit::Failure;
use crate::clock::SystemClock;

/// How much lies behind in the measurement that others are compared with.
const FEW: u64 = 1_000;

/// How long it is watched how much CPU waiting costs.
const WATCH: Duration = Duration::from_secs(3);

/// Lifecycles with ready tasks behind.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Behind {
    pub(super) ready: u64,
    pub(super) lifecycle_per_s: f64,
    /// CPU of daemon and server.
    pub(super) cpu_us_per_task: f64,
    /// The CPU per task with 1,000 behind.
    pub(super) few_cpu_us_per_task: f64,
    pub(super) cost_ratio: f64,
}

/// Scheduled tasks, all due at the same moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Scheduled {
    pub(super) tasks: u64,
    pub(super) enqueue_per_s: f64,
    /// CPU of daemon and server while none is due, in percent of a core.
    pub(super) idle_cpu_percent: f64,
    /// How fast they became ready, with consumers at work.
    pub(super) ready_per_s: f64,
    /// How fast they were through, from the moment they were due.
    pub(super) done_per_s: f64,
}

/// Measures lifecycles with `ready` tasks behind, and with a thousand.
pub(super) async fn behind(
    site: &Site<'_>,
    load: &Load,
    ready: u64,
    log: &Logger,
) -> Result<Behind, Failure> {
    let few = with_behind(site, load, FEW, log).await?;
    let many = with_behind(site, load, ready, log).await?;
    let cpu = |took: Took| took.cpu().as_secs_f64() * 1e6 / load.tasks as f64;
    Ok(Behind {
        ready,
        lifecycle_per_s: load.tasks as f64 / many.time.as_secs_f64(),
        cpu_us_per_task: cpu(many),
        few_cpu_us_per_task: cpu(few),
        cost_ratio: cpu(many) / cpu(few),
    })
}

async fn with_behind(
    site: &Site<'_>,
    load: &Load,
    ready: u64,
    log: &Logger,
) -> Result<Took, Failure> {
    let ground = site.ground()?;
    load.of(ready).enqueue(&ground.client()).await?;
    let stage = Stage::start(&ground, site.session(), log, 0)?;
    // As many go out as come in, so that what lies behind stays.
    let took = stage.until(load.tasks, load).await?;
    stage.stop().await;
    site.clean().await?;
    Ok(took)
}

/// Measures what scheduled tasks cost while they wait, and how fast they go when they are due. `rate` is how many can be
/// scheduled a second.
pub(super) async fn scheduled(
    site: &Site<'_>,
    load: &Load,
    rate: f64,
    log: &Logger,
) -> Result<Scheduled, Failure> {
    let ground = site.ground()?;
    let scheduling = Duration::try_from_secs_f64(2.0 * load.tasks as f64 / rate);
    let lead = Duration::from_secs(4) + WATCH + scheduling.map_err(failed)?;
    let due = SystemClock.now().plus(lead);
    let enqueued = load.schedule(&ground.client(), When::At(due)).await?;
    let stage = Stage::start(&ground, site.session(), log, 0)?;
    // What starting costs is not waiting.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = |until| Duration::from_millis(until).checked_sub(now_ms());
    if left(due.as_millis()).is_none_or(|left| left < WATCH) {
        return Err(failed("the tasks were due before they were all scheduled"));
    }
    let (own, server) = (own_cpu(), ground.server_cpu().await?.unwrap_or_default());
    tokio::time::sleep(WATCH).await;
    let busy = own_cpu().saturating_sub(own)
        + ground
            .server_cpu()
            .await?
            .unwrap_or_default()
            .saturating_sub(server);
    tokio::time::sleep(left(due.as_millis()).unwrap_or_default()).await;
    let start = SystemClock.since_boot();
    let all_ready = async {
        while load::status(&*ground.broker).await?.scheduled > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(SystemClock.since_boot().saturating_sub(start))
    };
    let all_done = async {
        stage.settled(load.tasks).await?;
        Ok::<_, Failure>(SystemClock.since_boot().saturating_sub(start))
    };
    let (ready, done) = tokio::try_join!(all_ready, all_done)?;
    stage.stop().await;
    site.clean().await?;
    let per_s = |time: Duration| load.tasks as f64 / time.as_secs_f64();
    Ok(Scheduled {
        tasks: load.tasks,
        enqueue_per_s: per_s(enqueued),
        idle_cpu_percent: busy.as_secs_f64() / WATCH.as_secs_f64() * 100.0,
        ready_per_s: per_s(ready),
        done_per_s: per_s(done),
    })
}

fn now_ms() -> Duration {
    Duration::from_millis(SystemClock.now().as_millis())
}

impl Took {
    /// Returns the time on a core of daemon and server.
    pub(super) fn cpu(&self) -> Duration {
        self.own + self.server.unwrap_or_default()
    }
}
