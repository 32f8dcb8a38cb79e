//! `celeriac tree [WORKER]`: the supervision tree of every worker, as it last told it.

pub(super) mod draw;

use celeriac_actors::time::Clock;
use clap::Args;
use serde_json::{Value, json};

use super::exit::{Exit, Failure};
use super::session::Session;
use super::text::brief;
use super::{Global, output};
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::workers::{self, Worker};

/// Shows the supervision tree of the workers.
#[derive(Args, Debug)]
pub(crate) struct TreeArgs {
    /// Only this worker; its name's beginning is enough where only one begins so.
    #[arg(value_name = "WORKER")]
    worker: Option<String>,
}

pub(crate) fn run(args: &TreeArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    let broker = session.existing_broker()?;
    let workers = Session::block_on(Session::insist(|| workers::read(&*broker)))??;
    let workers = match &args.worker {
        Some(name) => vec![choose(workers, name).map_err(Failure::usage)?],
        None => workers,
    };
    let now = SystemClock.now();
    if session.json {
        let list: Vec<Value> = workers
            .iter()
            .map(|worker| {
                let mut document = worker.document(now);
                document["tree"] = json!(worker.detail.as_ref().map(|detail| &detail.tree));
                document
            })
            .collect();
        output::json(&json!({ "workers": list }));
    } else if workers.is_empty() {
        output::line("no worker has been seen; start one with `celeriac run`");
    } else {
        let trees: Vec<String> = workers.iter().map(|w| draw::worker(w, now)).collect();
        output::line(&trees.join("\n\n"));
    }
    Ok(Exit::Ok)
}

/// Finds the worker that was meant: the one of that name, else the only one that begins so, the living first.
fn choose(workers: Vec<Worker>, name: &str) -> Result<Worker, String> {
    let is_it = |worker: &&Worker| worker.record.worker.as_str() == name;
    if let Some(worker) = workers.iter().find(is_it) {
        return Ok(worker.clone());
    }
    let begins = |worker: &Worker| worker.record.worker.as_str().starts_with(name);
    let mut hits: Vec<Worker> = workers.iter().filter(|w| begins(w)).cloned().collect();
    if hits.len() > 1 && hits.iter().filter(|worker| worker.record.alive).count() == 1 {
        hits.retain(|worker| worker.record.alive);
    }
    let names = |workers: &[Worker]| {
        let names: Vec<&str> = workers.iter().map(|w| w.record.worker.as_str()).collect();
        names.join(", ")
    };
    let typed = brief(name, 60);
    match hits.len() {
        1 => Ok(hits.remove(0)),
        0 if workers.is_empty() => Err(format!("there is no worker `{typed}`: none has been seen")),
        0 => Err(format!(
            "there is no worker `{typed}`; there are {}",
            names(&workers)
        )),
        _ => Err(format!("`{typed}` may be {}", names(&hits))),
    }
}

#[cfg(test)]
mod tests {
    use super::draw::tests::worker;
    use super::*;

    #[test]
    fn a_beginning_is_enough_where_it_is_enough() {
        let three = || {
            let mut silent = worker("web-1:7:aa");
            silent.record.alive = false;
            vec![silent, worker("web-1:8:bb"), worker("db:1:cc")]
        };
        let chosen = |name: &str| choose(three(), name).map(|w| w.record.worker.to_string());
        assert_eq!(chosen("db").unwrap(), "db:1:cc");
        assert_eq!(chosen("web-1:7").unwrap(), "web-1:7:aa");
        assert_eq!(chosen("web-1").unwrap(), "web-1:8:bb");
        assert!(chosen("").unwrap_err().contains("may be"));
        assert!(chosen("x").unwrap_err().contains("there are web-1:7:aa"));
    }
}
