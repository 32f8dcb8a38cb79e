//! `celeriac explain`: why a task does not run, or why a queue stands still, with the command that changes it.

use celeriac_actors::explain::{Explanation, explain};
use celeriac_actors::ids::{QueueName, TaskName};
use celeriac_actors::time::Clock as _;
use clap::Args;

use super::exit::{Exit, Failure};
use super::output::plain;
use super::queues::change::known;
use super::session::Session;
use super::{Global, output};
use crate::admin::task_view::read_id;
use crate::app::App;
use crate::clock::SystemClock;
use crate::look::Patience;
use crate::look::explain::Ask;
use crate::look::hunt::Hunt;

/// Explains a task or a queue.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The task's id.
    #[arg(value_name = "ID", required_unless_present = "queue")]
    id: Option<String>,
    /// Explain this queue; with an id: look for the task in this queue only.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
}

pub(crate) fn run(args: &ExplainArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let id = args.id.as_deref().map(read_id).transpose();
    let id = id.map_err(Failure::usage)?;
    let session = Session::open(global, app, &[])?;
    let broker = session.existing_broker()?;
    let registry = app.registry();
    let max_attempts = |kind: &TaskName| {
        let policy = registry.policy_of(kind)?;
        Some(policy.attempts())
    };
    let ask = Ask {
        broker: &broker,
        now: SystemClock.now(),
        patience: Patience::ONE_SHOT,
        lease: session.config.lease,
        max_attempts: &max_attempts,
    };
    let facts = Session::block_on(async {
        let queue = match &args.queue {
            Some(name) => Some(known(&session, &*broker, name).await?),
            None => None,
        };
        let queue = queue.as_ref();
        let Some(id) = id else {
            let Some(queue) = queue else {
                return Err(Failure::usage(
                    "name a task by its id, or a queue with --queue",
                ));
            };
            return Ok(ask.queue(queue).await?);
        };
        let (store, keeper) = (session.store(), session.keeper());
        let hunt = Hunt {
            id,
            broker: &*broker,
            store: match &store {
                Ok(store) => Ok(store),
                Err(failure) => Err(failure.to_string()),
            },
            kept_at: keeper.server(),
            limits: session.limits(),
            patience: Patience::ONE_SHOT,
        };
        Ok(ask.task(&hunt, queue.map(QueueName::as_str)).await?)
    })??;
    let answer = explain(&facts);
    if session.json {
        output::json(&answer);
    } else {
        output::line(&draw(&answer));
    }
    Ok(Exit::Ok)
}

/// Draws the answer: what is the matter, then the reasons, each with its command below.
fn draw(answer: &Explanation) -> String {
    let mut text = match (&answer.task, &answer.queue) {
        (Some(task), Some(queue)) => format!("task {task} in queue {queue}"),
        (Some(task), None) => format!("task {task}"),
        (None, queue) => queue
            .as_ref()
            .map_or_else(|| "queue".to_owned(), |it| format!("queue {it}")),
    };
    if let Some(state) = answer.state {
        text.push_str(&format!(": {state}"));
    }
    for reason in &answer.reasons {
        text.push_str(&format!("\n  {}", plain(&reason.text)));
        if let Some(command) = &reason.command {
            text.push_str(&format!("\n      {}", plain(command)));
        }
    }
    for unread in &answer.unread {
        text.push_str(&format!("\n  not read: {}", plain(unread)));
    }
    text
}
