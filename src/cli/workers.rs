//! `celeriac workers`: a line for each worker of the broker.

use celeriac_actors::time::{Clock as _, Timestamp};

use super::exit::{Exit, Failure};
use super::output::plain;
use super::session::Session;
use super::text::{ago, span};
use super::{Global, output};
use crate::admin::workers::{blocked, lanes};
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::workers::{Worker, read};
use crate::runtime::WorkerDetail;

/// Lists all workers.
pub(crate) fn run(global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    let broker = session.existing_broker()?;
    let workers = Session::block_on(Session::insist(|| read(&*broker)))??;
    let now = SystemClock.now();
    if session.json {
        workers
            .iter()
            .for_each(|worker| output::json(&worker.document(now)));
    } else if workers.is_empty() {
        output::line("no worker has been seen; start one with `celeriac run`");
    } else {
        output::line(&table(&workers, now));
    }
    Ok(Exit::Ok)
}

/// Draws a line for each worker; of one that is silent nobody knows what it does.
fn table(workers: &[Worker], now: Timestamp) -> String {
    let head = [
        "WORKER", "HOST", "PID", "VERSION", "STATE", "UP", "SEEN", "RUNNING", "BLOCKED",
        "CHILDREN", "STUCK", "QUEUES", "AWAY",
    ];
    let row = |worker: &Worker| {
        let record = &worker.record;
        let detail = worker.detail.as_ref().filter(|_| record.alive);
        let told = |of: &dyn Fn(&WorkerDetail) -> String| detail.map_or_else(|| "-".to_owned(), of);
        let names: Vec<&str> = record.queues.iter().map(|queue| queue.as_str()).collect();
        vec![
            record.worker.to_string(),
            plain(&record.host),
            record.pid.to_string(),
            plain(&record.version),
            worker.state().to_owned(),
            span(worker.up(now)),
            ago(record.seen_at, now),
            told(&|_| format!("{}/{}", worker.running(), record.concurrency)),
            told(&|detail| format!("{}/{}", blocked(detail), lanes(detail))),
            told(&|detail| detail.children.len().to_string()),
            told(&|detail| detail.stuck_threads.to_string()),
            names.join(","),
            told(&|detail| {
                let broker = detail.broker_away.as_ref().map(|_| "broker");
                let store = detail.store_away.as_ref().map(|_| "store");
                broker
                    .into_iter()
                    .chain(store)
                    .collect::<Vec<_>>()
                    .join(",")
            }),
        ]
    };
    output::table(&head, &workers.iter().map(row).collect::<Vec<_>>())
}
