//! A runtime at work on Redis, within the test process: what it ran and when, what it logged, what was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::client::Client;
use celeriac::redis::{RedisBroker, RedisOptions};
use celeriac::runtime::{Runtime, RuntimeOptions, fresh_worker_id};
use celeriac_actors::ids::{IncarnationId, QueueName};
use celeriac_actors::lease::Incarnation;
use celeriac_actors::ports::{Broker, Counters, QueueStatus};
use celeriac_actors::producer::{EnqueueOptions, ProducerOptions};
use serde::{Deserialize, Serialize};
use slog::{Drain, Level, Logger, OwnedKVList, Record, o};
use tokio::time::Instant;

use crate::daemon::eventually;

/// A task that sleeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) ms: u64,
}

celeriac::task!(Job as "test.job" -> u64);

/// One attempt at a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) started: Instant,
    pub(crate) ended: Option<Instant>,
}

/// Every attempt at every job, whoever ran it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Arc<Mutex<BTreeMap<u64, Vec<Run>>>>);

impl Runs {
    fn start(&self, number: u64) -> usize {
        let mut all = self.0.lock().unwrap();
        let runs = all.entry(number).or_default();
        runs.push(Run {
            started: Instant::now(),
            ended: None,
        });
        runs.len() - 1
    }

    fn end(&self, number: u64, which: usize) {
        let mut all = self.0.lock().unwrap();
        all.get_mut(&number).unwrap()[which].ended = Some(Instant::now());
    }

    pub(crate) fn all(&self) -> BTreeMap<u64, Vec<Run>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn has_ended(&self, number: u64) -> bool {
        let all = self.0.lock().unwrap();
        let runs = all.get(&number).map(Vec::as_slice).unwrap_or_default();
        runs.iter().any(|run| run.ended.is_some())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Returns the jobs that were started more than once.
    pub(crate) fn doubled(&self) -> Vec<u64> {
        let all = self.0.lock().unwrap();
        let doubled = all.iter().filter(|(_, runs)| runs.len() > 1);
        doubled.map(|(number, _)| *number).collect()
    }
}

/// What was logged: level, message, and the error if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Drain for Log {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(Level::Info) {
            let mut line = Line(format!("{} {}", record.level(), record.msg()));
            slog::KV::serialize(&record.kv(), record, &mut line).unwrap();
            self.0.lock().unwrap().push(line.0);
        }
        Ok(())
    }
}

/// A line under way.
struct Line(String);

impl slog::Serializer for Line {
    fn emit_arguments(&mut self, key: slog::Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        if AsRef::<str>::as_ref(&key) == "error" {
            self.0.push_str(&format!(": {value}"));
        }
        Ok(())
    }
}

impl Log {
    pub(crate) fn count(&self, text: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A runtime, and what it did.
#[derive(Debug)]
pub(crate) struct Works {
    pub(crate) runtime: Runtime,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) runs: Runs,
    pub(crate) log: Log,
}

impl Works {
    /// Starts a runtime on the queue `default` and waits until it serves.
    pub(crate) async fn start(url: &str, lease: Duration) -> Self {
        Self::start_with(url, lease, Runs::default()).await
    }

    /// As [`Works::start`], counting into `runs`.
    pub(crate) async fn start_with(url: &str, lease: Duration, runs: Runs) -> Self {
        let (worker, log) = (fresh_worker_id(), Log::default());
        let redis = RedisOptions::new(url).unwrap().worker(worker.clone());
        let redis = redis.allow_volatile(true);
        let broker: Arc<dyn Broker> = Arc::new(RedisBroker::open(redis).unwrap());
        let mut options = RuntimeOptions::new(Arc::clone(&broker), worker);
        options.tree.queues.retain(|(name, _)| *name == queue());
        options.tree.concurrency = 64;
        options.tree.lease = lease;
        options.tree.sweep = lease / 5;
        options.log = Logger::root(log.clone(), o!());
        let counted = runs.clone();
        let app = App::new().task(move |job: Attempt<Job>| {
            let runs = counted.clone();
            async move {
                let Job { number, ms } = job.args;
                let which = runs.start(number);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                runs.end(number, which);
                Ok(number)
            }
        });
        let runtime = Runtime::start(app, options).unwrap();
        eventually("the runtime serves", async || {
            runtime.is_ready().then_some(())
        })
        .await;
        Self {
            runtime,
            broker,
            runs,
            log,
        }
    }

    /// Waits until these jobs have ended.
    pub(crate) async fn all_end(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            eventually(&format!("job {number} ends"), async || {
                self.runs.has_ended(number).then_some(())
            })
            .await;
        }
    }

    /// Waits until a job is started after an instant; returns how long after.
    pub(crate) async fn first_start(&self, after: Instant) -> Duration {
        eventually("a job is started again", async || {
            let all = self.runs.all();
            let mut starts = all.values().flatten().map(|run| run.started);
            starts.find(|started| *started > after)
        })
        .await
            - after
    }

    pub(crate) async fn stop(self) {
        self.runtime.stop(Duration::from_secs(10)).await;
    }
}

pub(crate) fn queue() -> QueueName {
    QueueName::new("default").unwrap()
}

/// Opens a client.
pub(crate) fn client(url: &str, timeout: Duration) -> Client {
    let options = RedisOptions::new(url).unwrap().allow_volatile(true);
    let options_of_producer = ProducerOptions {
        timeout,
        ..ProducerOptions::default()
    };
    let broker = Arc::new(RedisBroker::open(options).unwrap());
    Client::new(
        broker,
        Arc::new(celeriac::clock::SystemClock),
        options_of_producer,
    )
}

/// Adds jobs in one call.
pub(crate) async fn add(
    client: &Client,
    jobs: &[Job],
) -> Result<(), celeriac_actors::producer::EnqueueError> {
    let producer = client.producer();
    let prepare = |job| producer.prepare(job, EnqueueOptions::default()).unwrap();
    let added = producer.add(jobs.iter().map(prepare).collect()).await;
    added.map(drop)
}

/// Waits until nothing is held; asserts that the queue's counters add up, and returns them.
pub(crate) async fn settled(broker: &dyn Broker) -> Counters {
    let status = eventually("the queue is empty", async || {
        let status = status(broker).await?;
        (status.held() == 0).then_some(status)
    })
    .await;
    assert_eq!(status.counters.outstanding(), 0, "{status:?}");
    status.counters
}

/// Returns how the queue stands, if the broker answers.
pub(crate) async fn status(broker: &dyn Broker) -> Option<QueueStatus> {
    let queues = broker.queues().await.ok()?;
    queues.into_iter().find(|status| status.queue == queue())
}

/// Makes a consumer's life.
pub(crate) fn incarnation(worker: &str) -> Incarnation {
    Incarnation {
        id: IncarnationId::random(),
        queue: queue(),
        worker: worker.parse().unwrap(),
        lane: 0,
        lease: Duration::from_secs(10),
    }
}
