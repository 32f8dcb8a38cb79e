//! The runtime inside a program of one's own: synchronous code enqueues, the runtime works beside it, and the program
//! decides when it ends. What still runs then is finished or given back, and a second run takes it up.
//!
//! `cargo run --example embedding`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::policy::seconds;
use celeriac::producer::EnqueueOptions;
use celeriac::runtime::{Runtime, RuntimeOptions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Resize {
    width: u32,
}
celeriac::task!(Resize as "images.resize" -> u32);

fn app() -> App {
    App::new().task(|resize: Attempt<Resize>| async move {
        // Work that blocks its thread has a bounded pool of its own.
        let width = resize.args.width;
        Ok(resize.blocking(move || width / 2).await?)
    })
}

fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future))
}

fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let runtime = Runtime::start(app(), RuntimeOptions::embedded(directory.path())?)?;

    // No async in sight: this is any thread of any program.
    let client = runtime.client().sync()?;
    let now = client.enqueue(&Resize { width: 640 }, EnqueueOptions::default())?;
    println!("resized to {}", client.wait::<Resize>(&now, seconds(10))?);

    let later = EnqueueOptions::default().countdown(Duration::from_secs(1));
    let later = client.enqueue(&Resize { width: 800 }, later)?;
    let exit = block_on(runtime.stop(seconds(5)))?;
    println!("the first run ended: {exit:?}");
    drop((client, runtime));

    let runtime = Runtime::start(app(), RuntimeOptions::embedded(directory.path())?)?;
    let client = runtime.client().sync()?;
    println!(
        "the second run resized to {}",
        client.wait::<Resize>(&later, seconds(10))?
    );
    block_on(runtime.stop(seconds(5)))?;
    Ok(())
}
