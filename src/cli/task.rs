//! `celeriac task`: everything that is known of one task, wherever it is; and revoking it.

mod census;
mod revoke;
mod view;

use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{BurialId, QueueName, TaskId};
use celeriac_actors::lease::{DeadTask, FinalRecord, MAX_BATCH};
use celeriac_actors::letters::letter_from;
use celeriac_actors::ports::{
    Broker, DeadFilter, DeadLetter, DeadLetters, QueueStatus, StoredTask, id_of,
};
use celeriac_actors::progress::Progress;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Clock;
use clap::{Args, Subcommand};
use futures_util::future::join_all;

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
        let text = format!("task {id} was not found; searched {looked} of {total} tasks{may_be}");
        return Err(match found.unread {
            Some(why) => Failure::unavailable(anyhow::anyhow!(
                "{text}; whether it has ended cannot be told: {why}"
            )),
            None => Failure::usage(text),
        });
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

/// Reads the id of a task; that of a dead letter is another one's argument.
fn read_id(text: &str) -> Result<TaskId, String> {
    text.parse().map_err(|error| {
        let typed = brief(text, 60);
        match text.trim().parse::<BurialId>() {
            Ok(letter) => format!(
                "`{typed}` is the id of a dead letter: `dead show {letter}` shows it, `task show {}` its task",
                letter.task
            ),
            Err(_) => format!("`{typed}` is no id of a task: {error}"),
        }
    })
}

/// What was found of a task.
#[derive(Default)]
struct Found {
    stored: Option<(QueueName, StoredTask)>,
    end: Option<(QueueName, FinalRecord)>,
    /// Why its end could not be read, if it has one.
    unread: Option<String>,
    letters: Vec<DeadLetter>,
    /// What the attempt that runs said of its progress last.
    progress: Option<Progress>,
    /// For how many milliseconds its attempt has waited for a child process, where it does.
    waits_ms: Option<u64>,
    looked: u64,
    total: u64,
    is_complete: bool,
}

impl Found {
    fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.end.is_none() && self.letters.is_empty()
    }

    /// Returns whether it is known where the task is. A letter that was revived tells nothing of that.
    fn is_settled(&self) -> bool {
        self.stored.is_some() || self.end.is_some() || self.letters.iter().any(is_its_end)
    }

    /// Adds a letter that is not known yet.
    fn add(&mut self, letter: DeadLetter) {
        if self.letters.iter().all(|known| known.id != letter.id) {
            self.letters.push(letter);
        }
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
        self.direct(&queues, session, &mut search, &mut found)
            .await?;
        if !found.is_settled() {
            let waiting = [TaskState::Retrying, TaskState::Ready, TaskState::Scheduled];
            self.search(&queues, &waiting, &mut search, &mut found)
                .await?;
        }
        if found.is_nothing() {
            // It may have been started, or have ended, while it was looked for among those that wait.
            self.direct(&queues, session, &mut search, &mut found)
                .await?;
        }
        if found.stored.is_some() {
            let workers = Session::insist(|| super::workers::read(self.broker)).await?;
            found.progress = super::workers::progress_of(&workers, self.id);
            found.waits_ms = super::workers::wait_of(&workers, self.id);
        }
        found.looked = search.looked;
        found.total = found.total.max(search.looked);
        found.is_complete = search.is_complete;
        Ok(found)
    }

    /// Looks where a task is found without going through others.
    async fn direct(
        &self,
        queues: &[QueueStatus],
        session: &Session,
        search: &mut Search<'_>,
        found: &mut Found,
    ) -> Result<(), Failure> {
        self.search(queues, &[TaskState::Active], search, found)
            .await?;
        if found.unread.is_none() {
            self.ends(queues, session, found).await?;
        }
        self.outbox(queues, found).await?;
        self.store(queues, session, found).await;
        Ok(())
    }

    /// Looks for its end. Where only the server that keeps results is away, there is still much to tell.
    async fn ends(
        &self,
        queues: &[QueueStatus],
        session: &Session,
        found: &mut Found,
    ) -> Result<(), Failure> {
        let keeper = session.keeper();
        let ask = async |status: &QueueStatus| {
            let end = Session::insist(|| self.broker.result(&status.queue, self.id)).await;
            (status.queue.clone(), end)
        };
        // At once: a server that is away costs its patience once, and not for each queue.
        for (queue, end) in join_all(queues.iter().map(ask)).await {
            match end {
                Ok(end) => {
                    let end = end.map(|end| (queue, end));
                    found.end = end.or(found.end.take());
                }
                Err(error) if keeper.server().is_some() && error.is_outage() => {
                    if found.unread.is_none() {
                        let why = keeper.blame(self.broker, error).await;
                        found.unread = Some(why.to_string());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        if found.end.is_some() {
            found.unread = None;
        }
        Ok(())
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
            // Those in flight are few, and move while one counts.
            let may_be =
                |queue: &&QueueStatus| *state == TaskState::Active || stored(queue, *state) > 0;
            for queue in queues.iter().filter(may_be) {
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
    async fn outbox(&self, queues: &[QueueStatus], found: &mut Found) -> Result<(), Failure> {
        let dead = Session::insist(|| self.broker.take_dead(MAX_BATCH)).await?;
        let is_it = |task: &&DeadTask| {
            task.burial.task == self.id && queues.iter().any(|queue| queue.queue == task.queue)
        };
        for task in dead.iter().filter(is_it) {
            found.add(letter_from(task, &self.limits));
        }
        Ok(())
    }

    /// Looks at the dead letters of the store; without one there is less to tell.
    async fn store(&self, queues: &[QueueStatus], session: &Session, found: &mut Found) {
        let filter = DeadFilter {
            id: Some(self.id),
            ..DeadFilter::default()
        };
        let letters = match session.store() {
            Ok(store) => store
                .list(&filter, None, MAX_LETTERS)
                .await
                .map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        match letters {
            Ok(page) => {
                let is_asked = |letter: &DeadLetter| queues.iter().any(|q| q.queue == letter.queue);
                let letters = page.letters.into_iter().filter(is_asked);
                letters.for_each(|letter| found.add(letter));
            }
            Err(failure) => {
                output::complain(&format!("celeriac: the store was not asked: {failure}"));
            }
        }
    }
}

/// Returns whether the task still lies where this letter says.
fn is_its_end(letter: &DeadLetter) -> bool {
    use celeriac_actors::ports::DeadStatus;
    matches!(letter.status, DeadStatus::New | DeadStatus::Discarded)
}
