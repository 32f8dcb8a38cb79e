//! The `celeriac` program: the daemon and its commands, with no tasks of its own but the demo's.

use std::process::ExitCode;

fn main() -> ExitCode {
    celeriac::cli::main(|app| app)
}
