//! `celeriac task show ID`: everything that is known of one task, wherever it is.

mod view;

use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::lease::{FinalRecord, MAX_BATCH};
use celeriac_actors::letters::letter_from;
use celeriac_actors::ports::{
    Broker, DeadFilter, DeadLetter, DeadLetters, QueueStatus, StoredTask, id_of,
};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Clock;
use clap::{Args, Subcommand};

use super::enqueue::known_queue;
use super::exit::{Exit, Failure};
use super::search::{Search, stored};
use super::session::Session;
use super::text::brief;
use super::{Global, output};
use crate::app::App;
use crate::clock::SystemClock;

/// The most dead letters of one task that are shown.
const MAX_LETTERS: u32 = 100;

/// What is done with one task.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Show everything that is known of a task.
    Show(ShowArgs),
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
    let TaskCommand::Show(args) = command;
    let id: TaskId = args.id.parse().map_err(|error| {
        Failure::usage(format!(
            "`{}` is no id of a task: {error}",
            brief(&args.id, 60)
        ))
    })?;
    let session = Session::open(global, app, &[])?;
    if let Some(queue) = &args.queue {
        known_queue(&session.config, queue).map_err(Failure::usage)?;
    }
    let broker = session.existing_broker()?;
    let hunt = Hunt {
        id,
        broker: &*broker,
        limits: session.limits(),
    };
    let found = Session::block_on(hunt.find(args.queue.as_deref(), &session))??;
    if found.is_nothing() {
        let (looked, total) = (found.looked, found.total);
        let may_be = if found.is_complete {
            ""
        } else {
            "; it may be among the rest"
        };
        return Err(Failure::usage(format!(
            "task {id} was not found; searched {looked} of {total} tasks{may_be}"
        )));
    }
    if session.json {
        output::json(&view::document(id, &found, &session.limits()));
    } else {
        output::line(&view::draw(
            id,
            &found,
            &session.limits(),
            SystemClock.now(),
        ));
    }
    Ok(Exit::Ok)
}

/// What was found of a task.
#[derive(Default)]
struct Found {
    stored: Option<(QueueName, StoredTask)>,
    end: Option<(QueueName, FinalRecord)>,
    letters: Vec<DeadLetter>,
    looked: u64,
    total: u64,
    is_complete: bool,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.end.is_none() && self.letters.is_empty()
    }
}

/// The search for one task.
struct Hunt<'a> {
    id: TaskId,
    broker: &'a dyn Broker,
    limits: FrameLimits,
}

impl Hunt<'_> {
    /// Looks where it can be found directly, then, when it is not there, through what waits.
    async fn find(&self, queue: Option<&str>, session: &Session) -> Result<Found, Failure> {
        let mut queues = Session::insist(|| self.broker.queues()).await?;
        queues.retain(|status| queue.is_none_or(|name| status.queue.as_str() == name));
        let mut found = Found::default();
        let mut search = Search::new(self.broker);
        self.search(&queues, &[TaskState::Active], &mut search, &mut found)
            .await?;
        for status in &queues {
            let end = Session::insist(|| self.broker.result(&status.queue, self.id)).await?;
            found.end = end.map(|end| (status.queue.clone(), end)).or(found.end);
        }
        self.outbox(queue, &mut found).await?;
        self.store(queue, session, &mut found).await;
        // A letter that was revived tells nothing of where the task is now.
        let is_over = found.end.is_some() || found.letters.iter().any(is_its_end);
        if found.stored.is_none() && !is_over {
            let waiting = [TaskState::Retrying, TaskState::Ready, TaskState::Scheduled];
            self.search(&queues, &waiting, &mut search, &mut found)
                .await?;
        }
        found.looked = search.looked;
        found.total = found.total.max(search.looked);
        found.is_complete = search.is_complete;
        Ok(found)
    }

    async fn search(
        &self,
        queues: &[QueueStatus],
        states: &[TaskState],
        search: &mut Search<'_>,
        found: &mut Found,
    ) -> Result<(), Failure> {
        for state in states {
            found.total += queues
                .iter()
                .map(|queue| stored(queue, *state))
                .sum::<u64>();
            for queue in queues {
                let mut visit = |queue: &QueueName, task: StoredTask| {
                    if id_of(&task.frame) != Some(self.id) {
                        return ControlFlow::Continue(());
                    }
                    found.stored = Some((queue.clone(), task));
                    ControlFlow::Break(())
                };
                if search
                    .through((&queue.queue, *state), &mut visit)
                    .await?
                    .is_break()
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Looks at the dead tasks that the store does not have yet.
    async fn outbox(&self, queue: Option<&str>, found: &mut Found) -> Result<(), Failure> {
        let dead = Session::insist(|| self.broker.take_dead(MAX_BATCH)).await?;
        let is_it = |task: &&celeriac_actors::lease::DeadTask| {
            task.burial.task == self.id && queue.is_none_or(|name| task.queue.as_str() == name)
        };
        let letters = dead
            .iter()
            .filter(is_it)
            .map(|task| letter_from(task, &self.limits));
        found.letters.extend(letters);
        Ok(())
    }

    /// Looks at the dead letters of the store; without one there is less to tell.
    async fn store(&self, queue: Option<&str>, session: &Session, found: &mut Found) {
        let filter = DeadFilter {
            id: Some(self.id),
            queue: queue.and_then(|name| QueueName::new(name).ok()),
            ..DeadFilter::default()
        };
        let letters = match session.store() {
            Ok(store) => store.list(&filter, None, MAX_LETTERS).await,
            Err(failure) => {
                return output::complain(&format!("celeriac: the store was not asked: {failure}"));
            }
        };
        match letters {
            Ok(page) => {
                let is_new = |letter: &DeadLetter| found.letters.iter().all(|l| l.id != letter.id);
                let new: Vec<DeadLetter> = page.letters.into_iter().filter(is_new).collect();
                found.letters.extend(new);
            }
            Err(error) => output::complain(&format!("celeriac: the store was not asked: {error}")),
        }
    }
}

/// Returns whether the task still lies where this letter says.
fn is_its_end(letter: &DeadLetter) -> bool {
    use celeriac_actors::ports::DeadStatus;
    matches!(letter.status, DeadStatus::New | DeadStatus::Discarded)
}
