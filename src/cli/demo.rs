//! `celeriac demo`: real tasks through real worker processes on a temporary data directory, one of them killed in the
//! middle, and an account of every task at the end. Reads no configuration, needs no server, leaves nothing behind.

mod audit;
mod fleet;
mod plan;
mod progress;
mod report;
mod stage;
mod verify;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::audit::Audit;
use self::report::Report;
use self::stage::Stage;
use super::exit::{Exit, Failure};
use super::session::Session;
use super::{Global, output};

/// Shows everything at work, in less than a minute.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {}

pub(crate) fn run(_: &DemoArgs, global: &Global) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::TaskFailed, error);
    let root = tempfile::Builder::new()
        .prefix("celeriac-demo-")
        .tempdir()
        .map_err(|error| failed(error.into()))?;
    let shown = Session::block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            report = show(root.path()) => report,
            _ = terminate.recv() => Err(anyhow::anyhow!("interrupted; everything is cleaned up")),
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted; everything is cleaned up")),
        }
    })?;
    let report = shown.map_err(failed)?;
    if global.json {
        output::json(&report.document());
    } else {
        report.print();
    }
    if report.audit.is_settled() && report.wrong.is_empty() {
        Ok(Exit::Ok)
    } else {
        Ok(Exit::TaskFailed)
    }
}

/// Plays the whole demo in `root`.
async fn show(root: &std::path::Path) -> anyhow::Result<Report> {
    output::complain(
        "celeriac demo: two worker processes, one data directory, no server, no configuration\n",
    );
    let mut stage = Stage::open(root)?;
    match play(&mut stage).await {
        Ok(report) => Ok(report),
        Err(error) => {
            stage.progress.close();
            output::complain(&stage.fleet.last_words(15));
            Err(error)
        }
    }
}

async fn play(stage: &mut Stage) -> anyhow::Result<Report> {
    let client = stage.client.clone();
    let mut plan = plan::Plan::new(client.producer());
    stage.enqueue_mix(&mut plan).await?;
    stage.kill_in_the_middle(&plan).await?;
    stage.finish(&plan).await?;
    stage.revive(&plan).await?;
    stage.poison(&mut plan).await?;
    let mut wrong = verify::ends(stage, &plan).await?;
    let worker = stage.whole_worker().await?;
    wrong.extend(stage.stop().await?);
    let queues = stage.client.broker().queues().await?;
    let (dead, letters) = stage.dead().await?;
    Ok(Report {
        worker,
        audit: Audit::of(&queues),
        queues,
        dead,
        letters,
        wrong,
    })
}
