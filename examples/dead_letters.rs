//! What becomes of a task that died: it is kept with everything that is known of it, counted, and revived when its
//! cause is mended.
//!
//! `cargo run --example dead_letters`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::policy::{Policy, seconds};
use celeriac::ports::{DeadFilter, DeadLetters};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::store::{Store, StoreOptions, StoreUrl};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Export {
    month: String,
}
celeriac::task!(Export as "reports.export" -> String,
    Policy::default().max_attempts(2).backoff(Duration::from_millis(10), Duration::from_millis(20)));

/// Whether the disk of this example is mounted.
#[derive(Clone, Default)]
struct Disk(Arc<AtomicBool>);

async fn export(export: Attempt<Export>) -> Result<String, celeriac::task::TaskError> {
    if !export.state::<Disk>()?.0.load(Ordering::Relaxed) {
        return Err("the disk is not mounted".into());
    }
    Ok(format!("{}.csv", export.args.month))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let url = StoreUrl::file(directory.path().join("store.db"));
    let store = Arc::new(Store::open(
        &url,
        StoreOptions {
            migrate: true,
            ..StoreOptions::default()
        },
    )?);
    let disk = Disk::default();

    let mut options = RuntimeOptions::embedded(directory.path())?;
    options.store = Some(store.clone());
    let runtime = Runtime::start(App::new().state(disk.clone()).task(export), options)?;
    let client = runtime.client();
    let handle = client
        .enqueue(&Export {
            month: "2026-01".to_owned(),
        })
        .await?;

    let filter = DeadFilter {
        id: Some(handle.id),
        ..DeadFilter::default()
    };
    let letter = loop {
        let page = store.list(&filter, None, 1).await?;
        match page.letters.into_iter().next() {
            Some(letter) => break letter,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    println!(
        "dead letter: {} ({})",
        letter.task.map_or_else(String::new, String::from),
        letter.reason
    );
    for failure in &letter.failures {
        println!("  attempt {}: {}", failure.attempt, failure.message);
    }
    let stats = store.stats(&DeadFilter::default()).await?;
    println!(
        "statistics: {} in all, {} of {}",
        stats.total, stats.by_task[0].count, stats.by_task[0].key
    );

    disk.0.store(true, Ordering::Relaxed);
    let revived = celeriac::revival::revive(letter.id, &*store, client.broker()).await?;
    println!(
        "revived: {}",
        client.wait::<Export>(&revived, seconds(10)).await?
    );
    println!("status: {}", store.show(letter.id).await?.status);

    runtime.stop(seconds(5)).await;
    Ok(())
}
