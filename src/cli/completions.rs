//! `celeriac completions SHELL`: what a shell needs to complete the command line.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Exit;

/// Prints the completions of a shell.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints completions for the program that is called as `program`.
pub(crate) fn run(args: &CompletionsArgs, program: &str, mut command: Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, program, &mut script);
    // A closed pipe ends the output, not the command.
    let _gone = std::io::stdout().lock().write_all(&script);
    Exit::Ok
}

/// Returns the name under which the program was called.
pub(crate) fn program(called: Option<&OsStr>) -> String {
    let name = called.and_then(|path| Path::new(path).file_name());
    name.map_or_else(
        || "celeriac".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
