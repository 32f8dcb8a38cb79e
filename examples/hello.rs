//! A task, a runtime on the embedded broker, a result. No server, nothing to configure.
//!
//! `cargo run --example hello`

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::policy::seconds;
use celeriac::runtime::{Runtime, RuntimeOptions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}
celeriac::task!(Greet as "hello.greet" -> String);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let app = App::new()
        .task(|greet: Attempt<Greet>| async move { Ok(format!("Hello, {}!", greet.args.name)) });
    let runtime = Runtime::start(app, RuntimeOptions::embedded(directory.path())?)?;

    let client = runtime.client();
    let handle = client
        .enqueue(&Greet {
            name: "celery".to_owned(),
        })
        .await?;
    println!("{}", client.wait::<Greet>(&handle, seconds(10)).await?);

    runtime.stop(seconds(5)).await;
    Ok(())
}
