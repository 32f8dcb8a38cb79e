//! A first worker. `cargo run -- run` starts it; `cargo run -- enqueue hello.greet --args '{"name":"Ada"}' --wait`
//! gives it something to do from another terminal.

use std::process::ExitCode;

use celeriac::{Attempt, Task};
use serde::{Deserialize, Serialize};

/// Greets somebody.
#[derive(Debug, Serialize, Deserialize)]
struct Greet {
    name: String,
}

impl Task for Greet {
    const NAME: &'static str = "hello.greet";
    type Output = String;
}

fn main() -> ExitCode {
    celeriac::cli::main(|app| {
        app.task(|attempt: Attempt<Greet>| async move {
            // A task may run more than once: write it so that a second run does no harm.
            Ok(format!("Hello, {}!", attempt.args.name))
        })
    })
}
