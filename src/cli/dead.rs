//! `celeriac dead list|show|clusters|revive|discard|purge|export|import|stats`: the dead letters, and what becomes of them.
//!
//! Every command first copies what the broker has buried and nobody has stored yet, by the same step as the dead-letter
//! actor, so that it sees all there is, with or without a daemon. Every change leaves a record in the store's audit.

mod canary;
mod choice;
mod clusters;
mod desk;
mod discard;
mod edit;
mod export;
mod filter;
mod import;
mod list;
mod purge;
mod retention;
mod revive;
mod show;
mod stats;
mod tally;

use std::path::PathBuf;

use clap::Subcommand;

use self::canary::CanaryArgs;
use self::choice::{Choice, Chosen};
use self::desk::Desk;
use self::filter::Filters;
use super::exit::{Exit, Failure};
use super::session::Session;
use super::{Global, demo_tasks};
use crate::app::App;

/// Shows and changes dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, newest first; the newest 50 unless --limit says more, all of them with --json.
    List(Filters),
    /// Show everything that is known of one dead letter.
    Show {
        /// The dead letter, `TASK_ID-NUMBER`, or the task's id while it has only one.
        id: String,
    },
    /// Count dead letters by what they died of, the most frequent first; the largest 20 unless --limit says more.
    Clusters(Filters),
    /// Enqueue dead tasks again, each as a new life.
    Revive {
        #[command(flatten)]
        choice: Choice,
        #[command(flatten)]
        canary: CanaryArgs,
        /// With a single id: revive it with these arguments as JSON instead of its own.
        #[arg(
            long,
            value_name = "JSON",
            allow_hyphen_values = true,
            conflicts_with = "canary"
        )]
        args: Option<String>,
    },
    /// Decide that dead tasks stay dead; their letters are kept.
    Discard(Choice),
    /// Delete dead letters for good, oldest first; never one that is being revived.
    Purge {
        #[command(flatten)]
        filters: Filters,
        /// Without a filter: all of them.
        #[arg(long)]
        all: bool,
        /// Instead of a filter: those that the configuration does not keep any longer.
        #[arg(long, conflicts_with_all = ["all", "queue", "task", "reason", "status", "fingerprint", "since", "until", "limit"])]
        retention: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Write dead letters as lines of JSON, the newest first, with nothing left out.
    Export {
        #[command(flatten)]
        filters: Filters,
        /// The file, for its owner alone; `-` for standard output.
        #[arg(long, short, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// Take what `dead export` wrote; letters that are there already are left as they are.
    Import {
        /// The file; `-` for standard input.
        #[arg(value_name = "FILE")]
        input: PathBuf,
    },
    /// Count dead letters by queue, task, reason, status and day.
    Stats(Filters),
}

pub(crate) fn run(command: DeadCommand, global: &Global, app: App) -> Result<Exit, Failure> {
    let session = Session::open(global, &app, &[])?;
    // As for `enqueue`: a daemon with `--demo` knows the demo tasks.
    let app = demo_tasks::add(app);
    Session::block_on(async move {
        // What is wrong with the command itself is said before anything is touched.
        match command {
            DeadCommand::List(filters) => list::run(&Desk::open(session).await?, &filters).await,
            DeadCommand::Show { id } => {
                let wanted = choice::parse(&id)?;
                show::run(&Desk::open(session).await?, wanted).await
            }
            DeadCommand::Clusters(filters) => {
                clusters::run(&Desk::open(session).await?, &filters).await
            }
            DeadCommand::Revive {
                choice,
                canary: _, // The parser refuses it beside `--args`.
                args: Some(args),
            } => {
                let (wanted, args) = edit::check(choice, &args)?;
                edit::run(&Desk::open(session).await?, wanted, &args, app.registry()).await
            }
            DeadCommand::Revive { choice, canary, .. } => {
                let chosen = choice.check("revive")?;
                match (canary.plan(), chosen) {
                    (None, chosen) => revive::run(&Desk::open(session).await?, chosen).await,
                    (Some(plan), Chosen::Matching(filters)) => {
                        canary::run(&Desk::open(session).await?, &filters, plan).await
                    }
                    (Some(_), Chosen::Ids(_)) => Err(Failure::usage(
                        "`--canary` takes a filter or `--all`, not ids",
                    )),
                }
            }
            DeadCommand::Discard(choice) => {
                let chosen = choice.check("discard")?;
                discard::run(&Desk::open(session).await?, chosen).await
            }
            DeadCommand::Purge {
                yes,
                retention: true,
                ..
            } => retention::run(&Desk::open(session).await?, yes).await,
            DeadCommand::Purge {
                filters, all, yes, ..
            } => {
                choice::needs_filter("purge", &filters, all)?;
                purge::run(&Desk::open(session).await?, &filters, yes).await
            }
            DeadCommand::Export { filters, output } => {
                export::run(&Desk::open(session).await?, &filters, &output).await
            }
            DeadCommand::Import { input } => import::run(&Desk::open(session).await?, &input).await,
            DeadCommand::Stats(filters) => stats::run(&Desk::open(session).await?, &filters).await,
        }
    })?
}
