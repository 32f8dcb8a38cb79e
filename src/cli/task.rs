//! `celeriac task`: everything that is known of one task, wherever it is; and revoking it.

mod draw;
mod revoke;

use celeriac_actors::ids::TaskId;
use celeriac_actors::ports::Broker;
use celeriac_actors::time::Clock;
use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::session::Session;
use super::{Global, output};
use crate::admin::enqueue::known_queue;
use crate::admin::task_view::{self, read_id};
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::Patience;
use crate::look::hunt::{Found, Hunt};

/// What is done with one task.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Show everything that is known of a task.
    Show(ShowArgs),
    /// Have tasks not run, by id, kind or header.
    Revoke(revoke::RevokeArgs),
}

/// Shows one task.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// The task's id.
    #[arg(value_name = "ID")]
    id: String,
    /// Look in this queue only.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
}

pub(crate) fn run(command: &TaskCommand, global: &Global, app: &App) -> Result<Exit, Failure> {
    match command {
        TaskCommand::Show(args) => show(args, global, app),
        TaskCommand::Revoke(args) => revoke::run(args, global, app),
    }
}

fn show(args: &ShowArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let id = read_id(&args.id).map_err(Failure::usage)?;
    let session = Session::open(global, app, &[])?;
    if let Some(queue) = &args.queue {
        known_queue(&session.config, queue).map_err(Failure::usage)?;
    }
    let broker = session.existing_broker()?;
    let found = Session::block_on(find(&session, &*broker, id, args.queue.as_deref()))??;
    if found.is_nothing() {
        let (looked, total) = (found.looked, found.total);
        let may_be = if found.is_complete {
            ""
        } else {
            "; it may be among the rest"
        };
        let text = format!("task {id} was not found; searched {looked} of {total} tasks{may_be}");
        return Err(match found.unread {
            Some(why) => Failure::unavailable(anyhow::anyhow!(
                "{text}; whether it has ended cannot be told: {why}"
            )),
            None => Failure::usage(text),
        });
    }
    if session.json {
        output::json(&task_view::document(id, &found, &session.limits()));
    } else {
        output::line(&draw::draw(
            id,
            &found,
            &session.limits(),
            SystemClock.now(),
        ));
    }
    Ok(Exit::Ok)
}

/// Looks for a task everywhere; says so where the store could not be asked.
async fn find(
    session: &Session,
    broker: &dyn Broker,
    id: TaskId,
    queue: Option<&str>,
) -> Result<Found, Failure> {
    let store = session.store();
    let keeper = session.keeper();
    let hunt = Hunt {
        id,
        broker,
        store: match &store {
            Ok(store) => Ok(store),
            Err(failure) => Err(failure.to_string()),
        },
        kept_at: keeper.server(),
        limits: session.limits(),
        patience: Patience::ONE_SHOT,
    };
    let found = hunt.find(queue).await?;
    if let Some(why) = &found.store_unread {
        output::complain(&format!("celeriac: the store was not asked: {why}"));
    }
    Ok(found)
}
