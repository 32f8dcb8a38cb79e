//! The acts of the demo: enqueue, kill and watch the rescue, revive, poison, stop.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use celeriac_actors::ids::{QueueName, TaskId, WorkerId};
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::{
    DeadFilter, DeadLetter, DeadLetters as _, DeadStats, QueueStatus, ScanRequest, id_of,
};
use celeriac_actors::revival::revive;
use celeriac_actors::state::TaskState;
use tokio::time::Instant;

use super::audit;
use super::fleet::Fleet;
use super::plan::{self, Plan};
use super::progress::Progress;
use crate::client::Client;
use crate::look::workers::{self, Worker};
use crate::runtime::WorkerDetail;
use crate::store::{Store, StoreOptions, StoreUrl};

/// How long an act may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the demo looks.
const LOOK: Duration = Duration::from_millis(50);
/// How long the workers get to stop.
const STOP: Duration = Duration::from_secs(10);

/// What the acts are played with.
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) store: Store,
    pub(super) fleet: Fleet,
    pub(super) progress: Progress,
    root: std::path::PathBuf,
    /// When a worker's record was last read, and whether a blocked thread was reported.
    looked: Instant,
    named: bool,
    /// How many workers were started again.
    restarts: usize,
}

impl Stage {
    /// Prepares the data directory below `root` and starts two workers on it.
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let data = Fleet::data(root);
        let client = Client::embedded(&data)?;
        let options = StoreOptions {
            migrate: true,
            ..StoreOptions::default()
        };
        Ok(Self {
            client,
            store: Store::open(&StoreUrl::file(data.join("store.db")), options)?,
            fleet: Fleet::start(root, 2)?,
            progress: Progress::new(),
            root: root.to_owned(),
            looked: Instant::now(),
            named: false,
            restarts: 0,
        })
    }

    /// Act one: waits for the workers, then enqueues the mix.
    pub(super) async fn enqueue_mix(&mut self, plan: &mut Plan<'_>) -> anyhow::Result<()> {
        let started = Instant::now();
        for pid in self.fleet.pids() {
            self.worker_of(pid).await?;
        }
        let pids = self.fleet.pids();
        self.progress.say(
            "2 workers",
            &format!(
                "process {} and process {}, ready after {}",
                pids[0],
                pids[1],
                seconds(started.elapsed())
            ),
        );
        let files = plan::files(&self.root.join("files"))?;
        plan.mix(&files, &self.root.join("late"))?;
        let started = Instant::now();
        self.client.producer().add(plan.take()).await?;
        self.progress.say(
            "enqueued",
            &format!(
                "{} tasks in {}: {} files to checksum, sleeps, echoes, failures, panics",
                plan.tasks.len(),
                seconds(started.elapsed()),
                files.len()
            ),
        );
        Ok(())
    }

    /// Act two: kills a worker when a third has ended, starts it again, and waits until what it held is back.
    pub(super) async fn kill_in_the_middle(&mut self, plan: &Plan<'_>) -> anyhow::Result<()> {
        self.progress.open();
        let third = plan.tasks.len() as u64 / 3;
        self.until(plan, |queues| ended(queues) >= third).await?;
        let victim = self.worker_of(self.fleet.pids()[0]).await?;
        self.fleet.kill(0)?;
        let killed = Instant::now();
        let count = self.held_by(&victim).await?.len();
        self.progress.say(
            "SIGKILL worker 1",
            &format!("it held {count} tasks and could give none of them back"),
        );
        while !self.held_by(&victim).await?.is_empty() {
            self.look(plan).await?;
            if killed.elapsed() > PATIENCE {
                bail!("the tasks of the killed worker were not rescued");
            }
        }
        self.progress.say(
            "rescued",
            &format!(
                "all {count} were back in their queues after {}; worker 1 is process {} now",
                seconds(killed.elapsed()),
                self.fleet.pids()[0]
            ),
        );
        Ok(())
    }

    /// Waits until every task has ended and every dead one is in the store.
    pub(super) async fn finish(&mut self, plan: &Plan<'_>) -> anyhow::Result<()> {
        self.progress.open();
        let all = plan.tasks.len();
        let queues = self.until(plan, settled).await?;
        self.progress.close();
        let counted = audit::sum(&queues);
        self.progress.say(
            "ended",
            &format!(
                "all {all}: {} succeeded ({} retries on the way), {} died",
                counted.succeeded, counted.retried, counted.dead
            ),
        );
        Ok(())
    }

    /// Act three: removes the reason why some died, and brings them back.
    pub(super) async fn revive(&mut self, plan: &Plan<'_>) -> anyhow::Result<()> {
        plan::supply(&plan.tasks)?;
        let filter = DeadFilter {
            task: Some("demo.checksum".parse()?),
            ..DeadFilter::default()
        };
        let letters = self.store.list(&filter, None, 1_000).await?.letters;
        for letter in &letters {
            revive(letter.id, &self.store, self.client.broker()).await?;
        }
        self.until(plan, settled).await?;
        self.progress.say(
            "revived",
            &format!(
                "{} dead letters whose files were missing: the files are there now",
                letters.len()
            ),
        );
        Ok(())
    }

    /// Act four: a task that kills every process that runs it, among others that do no harm.
    pub(super) async fn poison(&mut self, plan: &mut Plan<'_>) -> anyhow::Result<()> {
        let neighbours = plan.poison()?;
        let (before, started) = (self.restarts, Instant::now());
        self.client.producer().add(plan.take()).await?;
        self.progress.open();
        self.until(plan, settled).await?;
        self.progress.close();
        self.progress.say(
            "poison",
            &format!(
                "demo.abort killed {} workers before it was buried, after {}; {neighbours} tasks beside it went on",
                self.restarts - before,
                seconds(started.elapsed())
            ),
        );
        Ok(())
    }

    /// Returns a worker whose whole tree serves.
    pub(super) async fn whole_worker(&self) -> anyhow::Result<Worker> {
        let started = Instant::now();
        let is_whole = |worker: &Worker| {
            let mut detail = worker.detail.iter();
            worker.record.alive && detail.any(|detail| detail.tree.is_complete())
        };
        while started.elapsed() < STOP {
            let workers = workers::read(&**self.client.broker()).await?;
            if let Some(worker) = workers.into_iter().find(is_whole) {
                return Ok(worker);
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("no worker's tree is complete")
    }

    /// Stops the workers as an operator would; returns what was wrong with that.
    pub(super) async fn stop(&mut self) -> anyhow::Result<Vec<String>> {
        let started = Instant::now();
        let mut wrong = Vec::new();
        for (index, end) in self.fleet.stop(STOP).await?.into_iter().enumerate() {
            match end {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("worker {} ended with {status}", index + 1)),
                None => wrong.push(format!("worker {} did not stop", index + 1)),
            }
        }
        if wrong.is_empty() {
            let text = format!(
                "both workers ended with 0 after {}",
                seconds(started.elapsed())
            );
            self.progress.say("SIGTERM", &text);
        }
        Ok(wrong)
    }

    /// Returns the dead letters and their statistics.
    pub(super) async fn dead(&self) -> anyhow::Result<(DeadStats, Vec<DeadLetter>)> {
        let all = DeadFilter::default();
        let stats = self.store.stats(&all).await?;
        Ok((stats, self.store.list(&all, None, 1_000).await?.letters))
    }

    /// Looks until `done`, starting again what ended.
    async fn until(
        &mut self,
        plan: &Plan<'_>,
        done: impl Fn(&[QueueStatus]) -> bool,
    ) -> anyhow::Result<Vec<QueueStatus>> {
        let started = Instant::now();
        loop {
            let queues = self.look(plan).await?;
            if done(&queues) {
                return Ok(queues);
            }
            if started.elapsed() > PATIENCE {
                bail!("nothing more happens: {queues:?}");
            }
        }
    }

    /// One look: starts again what ended, shows how far everything is.
    async fn look(&mut self, plan: &Plan<'_>) -> anyhow::Result<Vec<QueueStatus>> {
        tokio::time::sleep(LOOK).await;
        self.restarts += self.fleet.tend()?.len();
        let queues = self.client.broker().queues().await?;
        self.progress
            .show(ended(&queues), plan.tasks.len() as u64, &queues);
        if !self.named && self.looked.elapsed() > Duration::from_millis(500) {
            self.looked = Instant::now();
            self.name_the_blocked().await?;
        }
        Ok(queues)
    }

    /// Says which task blocks a thread, once there is one.
    async fn name_the_blocked(&mut self) -> anyhow::Result<()> {
        for record in self.client.broker().workers().await? {
            let Ok(detail) = serde_json::from_str::<WorkerDetail>(&record.detail) else {
                continue;
            };
            let Some(culprit) = detail.lanes.into_iter().find_map(|lane| lane.blocked_by) else {
                continue;
            };
            self.named = true;
            self.progress.say(
                "blocked thread",
                &format!(
                    "{} keeps its thread for {} now; what waited behind it was given back",
                    culprit.task,
                    seconds(Duration::from_millis(culprit.elapsed_ms))
                ),
            );
            break;
        }
        Ok(())
    }

    /// Waits for the record of the worker with this process id.
    async fn worker_of(&self, pid: u32) -> anyhow::Result<WorkerId> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let workers = self.client.broker().workers().await?;
            if let Some(found) = workers.into_iter().find(|worker| worker.pid == pid) {
                return Ok(found.worker);
            }
            tokio::time::sleep(LOOK / 5).await;
        }
        bail!("the worker with process id {pid} did not start")
    }

    /// Returns the tasks in flight at a worker.
    async fn held_by(&self, worker: &WorkerId) -> anyhow::Result<Vec<(QueueName, TaskId)>> {
        let mut held = Vec::new();
        for status in self.client.broker().queues().await? {
            let mut request = ScanRequest {
                queue: status.queue,
                state: TaskState::Active,
                after: None,
                limit: MAX_BATCH,
            };
            loop {
                let page = self.client.broker().scan(&request).await?;
                for task in page.tasks {
                    if task.holder.is_some_and(|(holder, _)| holder == *worker) {
                        held.extend(id_of(&task.frame).map(|id| (request.queue.clone(), id)));
                    }
                }
                if page.next.is_none() {
                    break;
                }
                request.after = page.next;
            }
        }
        Ok(held)
    }
}

/// Returns how many tasks have ended.
fn ended(queues: &[QueueStatus]) -> u64 {
    let counted = audit::sum(queues);
    (counted.succeeded + counted.dead + counted.cancelled + counted.expired)
        .saturating_sub(counted.revived)
}

/// Returns whether nothing is held and every dead task is in the store.
fn settled(queues: &[QueueStatus]) -> bool {
    queues
        .iter()
        .all(|queue| queue.held() == 0 && queue.dead_outbox == 0)
}

fn seconds(length: Duration) -> String {
    format!("{:.2} s", length.as_secs_f64())
}
