//! `celeriac config show|check`: what is in force and from where, and what is wrong with it.

use clap::Subcommand;

use super::exit::{Exit, Failure};
use super::session::sources;
use super::{Global, output};
use crate::app::App;
use crate::config::{check_programs, load};

/// Shows or checks the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its value and where it comes from; secrets are hidden.
    Show,
    /// Report every mistake; exit 64 when there is one.
    Check,
}

pub(crate) fn run(command: &ConfigCommand, global: Global, app: &App) -> Result<Exit, Failure> {
    let sources = sources(&global, app, &[]);
    let mut loaded = load(&sources);
    match command {
        ConfigCommand::Show => {
            if global.json {
                output::json(&loaded.effective);
            } else {
                output::line(loaded.effective.to_string().trim_end());
            }
            loaded
                .into_result()
                .map_err(|report| Failure::new(Exit::Usage, report))?;
            Ok(Exit::Ok)
        }
        ConfigCommand::Check => {
            let programs = check_programs(&sources, &loaded);
            loaded.report.mistakes.extend(programs);
            let failed = loaded.report.errors() > 0;
            if global.json {
                output::json(&loaded.report);
            } else if loaded.report.mistakes.is_empty() {
                output::line("the configuration is right");
            } else {
                output::line(loaded.report.to_string().trim_end());
            }
            Ok(if failed { Exit::Usage } else { Exit::Ok })
        }
    }
}
