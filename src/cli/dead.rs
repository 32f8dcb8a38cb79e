//! `celeriac dead list|show|revive|discard|purge|stats`: the dead letters, and what becomes of them.
//!
//! Every command first copies what the broker has buried and nobody has stored yet, by the same step as the dead-letter
//! actor, so that it sees all there is, with or without a daemon. Every change leaves a record in the store's audit.

mod choice;
mod desk;
mod discard;
mod filter;
mod list;
mod purge;
mod revive;
mod show;
mod stats;
mod tally;

use clap::Subcommand;

use self::choice::Choice;
use self::desk::Desk;
use self::filter::Filters;
use super::Global;
use super::exit::{Exit, Failure};
use super::session::Session;
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
    /// Enqueue dead tasks again, each as a new life.
    Revive(Choice),
    /// Decide that dead tasks stay dead; their letters are kept.
    Discard(Choice),
    /// Delete dead letters for good, oldest first; never one that is being revived.
    Purge {
        #[command(flatten)]
        filters: Filters,
        /// Without a filter: all of them.
        #[arg(long)]
        all: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Count dead letters by queue, task, reason, status and day.
    Stats(Filters),
}

pub(crate) fn run(command: DeadCommand, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    Session::block_on(async move {
        // What is wrong with the command itself is said before anything is touched.
        match command {
            DeadCommand::List(filters) => list::run(&Desk::open(session).await?, &filters).await,
            DeadCommand::Show { id } => {
                let wanted = choice::parse(&id)?;
                show::run(&Desk::open(session).await?, wanted).await
            }
            DeadCommand::Revive(choice) => {
                let chosen = choice.check("revive")?;
                revive::run(&Desk::open(session).await?, chosen).await
            }
            DeadCommand::Discard(choice) => {
                let chosen = choice.check("discard")?;
                discard::run(&Desk::open(session).await?, chosen).await
            }
            DeadCommand::Purge { filters, all, yes } => {
                choice::needs_filter("purge", &filters, all)?;
                purge::run(&Desk::open(session).await?, &filters, yes).await
            }
            DeadCommand::Stats(filters) => stats::run(&Desk::open(session).await?, &filters).await,
        }
    })?
}
