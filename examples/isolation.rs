//! Tasks that would end the whole process, each in a child process of its own: one that aborts, one that never ends, and one
//! that is well. The program goes on, and knows what became of each.
//!
//! `cargo run --example isolation`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use celeriac::mode::Mode;
use celeriac::policy::{Policy, seconds};
use celeriac::producer::EnqueueOptions;
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::{App, Attempt, TaskError};
use serde::{Deserialize, Serialize};

/// Parses foreign data with a library that nobody trusts.
#[derive(Serialize, Deserialize)]
enum Parse {
    Well(String),
    Crashes,
    Hangs,
}
celeriac::task!(Parse as "images.parse" -> usize, Policy::default()
    .mode(Mode::Isolated)
    .max_attempts(1)
    .hard_limit(Duration::from_millis(500)));

fn parse(attempt: Attempt<Parse>) -> Result<usize, TaskError> {
    match &attempt.args {
        Parse::Well(text) => Ok(text.len()),
        Parse::Crashes => std::process::abort(),
        Parse::Hangs => loop {
            std::hint::spin_loop();
        },
    }
}

fn app() -> App {
    App::new().blocking_task(parse)
}

fn main() -> anyhow::Result<()> {
    // First of all: a child process runs attempts here, and never comes back.
    celeriac::isolation::enter(app);

    let directory = tempfile::tempdir()?;
    let runtime = Runtime::start(app(), RuntimeOptions::embedded(directory.path())?)?;
    let client = runtime.client().sync()?;
    for task in [
        Parse::Crashes,
        Parse::Hangs,
        Parse::Well("all is well".to_owned()),
    ] {
        let handle = client.enqueue(&task, EnqueueOptions::default().want_outcome())?;
        match client.wait::<Parse>(&handle, seconds(30)) {
            Ok(length) => println!("parsed {length} bytes"),
            Err(error) => println!("{error}"),
        }
    }
    let stop = runtime.stop(seconds(5));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(stop);
    Ok(())
}
