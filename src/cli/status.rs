//! `celeriac status`: the whole at a glance, read from the broker, whichever process runs the work.

mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::activity::{LaneActivity, Running};
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, BrokerError};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::{Clock, Timestamp};
use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::queues;
use super::session::Session;
use super::spool::{self, Seen};
use super::text::{ago, span};
use super::when::to_the_second;
use super::{Global, output};
use crate::admin::breakers::Breaker;
use crate::admin::overview::Whole;
use crate::admin::queues::Audit;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::database::outbox::{Gauges, OutboxStatus};
use crate::look::Patience;
use crate::look::revoked::{Revoked, fate};
use crate::look::workers::Worker;

/// The most running attempts that are listed.
const MAX_RUNNING: usize = 20;

/// Shows the whole.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Look again every so many seconds (1 to 3600; 2 when not said) until Ctrl-C.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

pub(crate) fn run(args: &StatusArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    if let Some(seconds) = args.watch {
        let broker = session.existing_broker()?;
        let pause = Duration::from_secs(seconds);
        return Session::block_on(watch::run(&session, &broker, pause))?;
    }
    let now = SystemClock.now();
    let status = match read(&session, app.outboxes()) {
        Err(failure) => return Err(without_broker(failure, &session, now)),
        Ok(status) => status,
    };
    if session.json {
        let broker = session.config.broker.to_string();
        output::json(&status.document(&broker, now));
    } else {
        output::line(&status.draw(&session.config.broker.to_string(), now));
    }
    Ok(Exit::Ok)
}

fn read(session: &Session, outboxes: Gauges) -> Result<Status, Failure> {
    let broker = session.existing_broker()?;
    let looked = Session::insist(|| look(&broker, &session.config));
    let mut status: Status = Session::block_on(looked)??;
    status.outbox = outboxes.read().transpose();
    Ok(status)
}

/// Shows what can be seen without the broker: the spool, which matters most just then.
fn without_broker(failure: Failure, session: &Session, now: Timestamp) -> Failure {
    let Some(spool) = spool::look(&session.config) else {
        return failure;
    };
    if session.json {
        return failure.detail("spool", spool.document());
    }
    output::line(&format!("spool   {}", spool.text(now)));
    failure
}

/// What was read.
struct Status {
    whole: Whole,
    spool: Option<Seen>,
    /// The program's outboxes, where it has some, or why they cannot be read.
    outbox: Option<Result<OutboxStatus, String>>,
    /// Of the queues of which tasks run.
    revoked: Revoked,
}

/// Returns the queues of which tasks run, by what the workers tell.
fn at_work(workers: &[Worker]) -> BTreeSet<QueueName> {
    let alive = workers.iter().filter(|worker| worker.record.alive);
    let lanes = alive.flat_map(|worker| worker.detail.iter().flat_map(|detail| &detail.lanes));
    let running = lanes.flat_map(|lane| &lane.running);
    running.map(|running| running.queue.clone()).collect()
}

async fn look(broker: &Arc<dyn Broker>, config: &Config) -> Result<Status, BrokerError> {
    let whole = Whole::read(broker, config).await?;
    Ok(Status {
        revoked: Revoked::read(&**broker, at_work(&whole.workers), Patience::ONE_SHOT).await?,
        whole,
        spool: spool::look(config),
        outbox: None,
    })
}

impl Status {
    fn document(&self, broker: &str, now: Timestamp) -> Value {
        let mut document = self.whole.document(broker, now);
        if let Some(spool) = &self.spool {
            document["spool"] = spool.document();
        }
        match &self.outbox {
            None => {}
            Some(Ok(outbox)) => {
                document["outbox"] =
                    json!({ "pending": outbox.pending, "rejected": outbox.rejected });
            }
            Some(Err(why)) => document["outbox"] = json!({ "error": why }),
        }
        document
    }

    fn draw(&self, broker: &str, now: Timestamp) -> String {
        let mut parts = vec![
            format!("broker  {broker} ({})", self.whole.durability.as_str()),
            queues::held(&self.whole.queues, now),
            self.draw_workers(now),
        ];
        if let Some(spool) = &self.spool {
            parts.insert(1, format!("spool   {}", spool.text(now)));
        }
        parts.extend(self.draw_outbox());
        parts.extend(self.draw_running());
        parts.extend(self.draw_children());
        let shut = self.whole.breakers.table(now, Breaker::is_shut);
        parts.extend((!shut.is_empty()).then_some(shut));
        let mut outages: Vec<String> = self
            .whole
            .workers
            .iter()
            .flat_map(Worker::outages)
            .collect();
        outages.extend(self.whole.workers.iter().flat_map(Worker::spent_budgets));
        if !outages.is_empty() {
            parts.push(outages.join("\n"));
        }
        parts.push(Audit::of(&self.whole.queues).to_string());
        parts.join("\n\n")
    }

    fn draw_outbox(&self) -> Option<String> {
        Some(match self.outbox.as_ref()? {
            Ok(outbox) => {
                let pending = output::counted(outbox.pending, "task");
                let rejected = match outbox.rejected {
                    0 => String::new(),
                    count => format!(", {count} rejected (table `celeriac_outbox_rejected`)"),
                };
                format!("outbox  {pending} not relayed yet{rejected}")
            }
            Err(why) => format!("outbox  cannot be read: {}", output::plain(why)),
        })
    }

    fn draw_workers(&self, now: Timestamp) -> String {
        if self.whole.workers.is_empty() {
            return "no worker has been seen; start one with `celeriac run`".to_owned();
        }
        let row = |worker: &Worker| {
            let record = &worker.record;
            let names: Vec<&str> = record.queues.iter().map(|queue| queue.as_str()).collect();
            vec![
                record.worker.to_string(),
                match worker.silent_since() {
                    Some(at) => format!("silent since {}", to_the_second(at)),
                    None => worker.state().to_owned(),
                },
                span(worker.up(now)),
                ago(record.seen_at, now),
                match worker.silent_since() {
                    Some(_) => "-".to_owned(),
                    None => format!("{}/{}", worker.running(), record.concurrency),
                },
                names.join(","),
            ]
        };
        let head = ["WORKER", "STATE", "UP", "SEEN", "RUNNING", "QUEUES"];
        let mut text = output::table(
            &head,
            &self.whole.workers.iter().map(row).collect::<Vec<_>>(),
        );
        for worker in self
            .whole
            .workers
            .iter()
            .filter(|worker| worker.record.alive)
        {
            if let Some(address) = worker.detail.as_ref().and_then(|detail| detail.http) {
                text.push_str(&format!(
                    "\n{} serves http://{address}",
                    worker.record.worker
                ));
            }
        }
        let silent = self.whole.workers.iter();
        for line in silent.filter_map(|worker| worker.obituary(&self.whole.workers, now)) {
            text.push('\n');
            text.push_str(&line);
        }
        text
    }

    /// Draws the child processes of all workers, where there are some.
    fn draw_children(&self) -> Option<String> {
        let alive = self
            .whole
            .workers
            .iter()
            .filter(|worker| worker.record.alive);
        let rows: Vec<Vec<String>> = alive
            .flat_map(|worker| {
                let children = worker.detail.iter().flat_map(|detail| &detail.children);
                children.map(move |child| {
                    let dash = || "-".to_owned();
                    let ran = child.running_ms.map(Duration::from_millis);
                    vec![
                        child.pid.to_string(),
                        child.task.as_ref().map_or_else(dash, ToString::to_string),
                        child.id.map_or_else(dash, |id| id.to_string()),
                        ran.map_or_else(dash, span),
                        child.attempts.to_string(),
                        child
                            .memory
                            .map_or_else(dash, |bytes| format!("{} MiB", bytes >> 20)),
                        worker.record.worker.to_string(),
                    ]
                })
            })
            .collect();
        let head = ["CHILD", "TASK", "ID", "FOR", "DONE", "MEMORY", "WORKER"];
        let mut text = (!rows.is_empty()).then(|| output::table(&head, &rows));
        let waiting = self.whole.waiting_for_a_child();
        if waiting > 0 {
            let waiting = output::counted(waiting as u64, "attempt");
            let line = format!("waiting for a child: {waiting}");
            text = Some(text.map_or_else(|| line.clone(), |text| format!("{text}\n{line}")));
        }
        text
    }

    /// What there is to say of an attempt that runs.
    fn note(&self, blocks: bool, running: &Running) -> String {
        let revoked = self.revoked.of_id(&running.queue, running.id);
        let revoked = revoked.map(|terminate| fate(TaskState::Active, terminate));
        let blocks = blocks.then_some("BLOCKS ITS THREAD");
        let notes: Vec<&str> = blocks.into_iter().chain(revoked).collect();
        notes.join(", ")
    }

    fn draw_running(&self) -> Option<String> {
        let alive = self
            .whole
            .workers
            .iter()
            .filter(|worker| worker.record.alive);
        let lanes: Vec<(&Worker, &LaneActivity)> = alive
            .flat_map(|worker| {
                let lanes = worker.detail.iter().flat_map(|detail| &detail.lanes);
                lanes.map(move |lane| (worker, lane))
            })
            .collect();
        let mut rows = Vec::new();
        for (worker, lane) in &lanes {
            for running in &lane.running {
                let blocks = lane
                    .blocked_by
                    .as_ref()
                    .is_some_and(|by| by.id == running.id);
                let millis = running.elapsed_ms;
                rows.push((
                    millis,
                    vec![
                        running.task.to_string(),
                        running.id.to_string(),
                        running.queue.to_string(),
                        running.attempt.to_string(),
                        span(Duration::from_millis(millis)),
                        worker.record.worker.to_string(),
                        self.note(blocks, running),
                    ],
                ));
            }
        }
        if rows.is_empty() {
            return None;
        }
        rows.sort_by_key(|(millis, _)| std::cmp::Reverse(*millis));
        let total: usize = lanes.iter().map(|(_, lane)| lane.running_total).sum();
        let shown: Vec<Vec<String>> = rows.into_iter().take(MAX_RUNNING).map(|r| r.1).collect();
        let more = total.saturating_sub(shown.len());
        let head = ["RUNNING", "ID", "QUEUE", "ATTEMPT", "FOR", "WORKER", ""];
        let mut text = output::table(&head, &shown);
        if more > 0 {
            text.push_str(&format!(
                "\n… and {} more",
                output::counted(more as u64, "attempt")
            ));
        }
        Some(text)
    }
}
