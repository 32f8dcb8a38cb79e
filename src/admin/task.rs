//! One task, wherever it is: running, waiting, ended or dead.

use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{BurialId, QueueName, TaskId};
use celeriac_actors::lease::{DeadTask, FinalRecord, MAX_BATCH};
use celeriac_actors::letters::letter_from;
use celeriac_actors::ports::{
    Broker, DeadFilter, DeadLetter, DeadLetters as _, QueueStatus, StoredTask, id_of,
};
use celeriac_actors::progress::Progress;
use celeriac_actors::state::TaskState;
use futures_util::future::join_all;

use super::fault::Fault;
use super::keeper::Keeper;
use super::patience::Patience;
use super::search::{Search, stored};
use super::text::brief;
use crate::store::Store;

/// The most dead letters of one task that are shown.
const MAX_LETTERS: u32 = 100;

/// Reads the id of a task; that of a dead letter is another one's argument.
pub(crate) fn read_id(text: &str) -> Result<TaskId, String> {
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
pub(crate) struct Found {
    pub(crate) stored: Option<(QueueName, StoredTask)>,
    pub(crate) end: Option<(QueueName, FinalRecord)>,
    /// Why its end could not be read, if it has one.
    pub(crate) unread: Option<String>,
    pub(crate) letters: Vec<DeadLetter>,
    /// What the attempt that runs said of its progress last.
    pub(crate) progress: Option<Progress>,
    /// Why the store could not be asked.
    pub(crate) unasked: Option<String>,
    pub(crate) looked: u64,
    pub(crate) total: u64,
    pub(crate) is_complete: bool,
}

impl Found {
    pub(crate) fn is_nothing(&self) -> bool {
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
pub(crate) struct Hunt<'a> {
    pub(crate) id: TaskId,
    pub(crate) broker: &'a dyn Broker,
    /// The store, or why there is none to ask.
    pub(crate) store: Result<&'a Store, String>,
    pub(crate) keeper: Keeper,
    pub(crate) limits: FrameLimits,
    pub(crate) patience: Patience,
}

impl Hunt<'_> {
    /// Looks where it can be found directly, then, when it is not there, through what waits.
    pub(crate) async fn find(&self, queue: Option<&str>) -> Result<Found, Fault> {
        let mut queues = self.patience.insist(|| self.broker.queues()).await?;
        queues.retain(|status| queue.is_none_or(|name| status.queue.as_str() == name));
        let mut found = Found::default();
        let mut search = Search::new(self.broker, self.patience);
        self.direct(&queues, &mut search, &mut found).await?;
        if !found.is_settled() {
            let waiting = [TaskState::Retrying, TaskState::Ready, TaskState::Scheduled];
            self.search(&queues, &waiting, &mut search, &mut found)
                .await?;
        }
        if found.is_nothing() {
            // It may have been started, or have ended, while it was looked for among those that wait.
            self.direct(&queues, &mut search, &mut found).await?;
        }
        if found.stored.is_some() {
            let workers = self
                .patience
                .insist(|| super::workers::read(self.broker))
                .await?;
            found.progress = super::workers::progress_of(&workers, self.id);
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
        search: &mut Search<'_>,
        found: &mut Found,
    ) -> Result<(), Fault> {
        self.search(queues, &[TaskState::Active], search, found)
            .await?;
        if found.unread.is_none() {
            self.ends(queues, found).await?;
        }
        self.outbox(queues, found).await?;
        self.store(queues, found).await;
        Ok(())
    }

    /// Looks for its end. Where only the server that keeps results is away, there is still much to tell.
    async fn ends(&self, queues: &[QueueStatus], found: &mut Found) -> Result<(), Fault> {
        let keeper = &self.keeper;
        let ask = async |status: &QueueStatus| {
            let end = self
                .patience
                .insist(|| self.broker.result(&status.queue, self.id))
                .await;
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
    ) -> Result<(), Fault> {
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
    async fn outbox(&self, queues: &[QueueStatus], found: &mut Found) -> Result<(), Fault> {
        let dead = self
            .patience
            .insist(|| self.broker.take_dead(MAX_BATCH))
            .await?;
        let is_it = |task: &&DeadTask| {
            task.burial.task == self.id && queues.iter().any(|queue| queue.queue == task.queue)
        };
        for task in dead.iter().filter(is_it) {
            found.add(letter_from(task, &self.limits));
        }
        Ok(())
    }

    /// Looks at the dead letters of the store; without one there is less to tell.
    async fn store(&self, queues: &[QueueStatus], found: &mut Found) {
        let filter = DeadFilter {
            id: Some(self.id),
            ..DeadFilter::default()
        };
        let letters = match &self.store {
            Ok(store) => {
                let page = store.list(&filter, None, MAX_LETTERS).await;
                page.map_err(|error| error.to_string())
            }
            Err(why) => Err(why.clone()),
        };
        match letters {
            Ok(page) => {
                let is_asked = |letter: &DeadLetter| queues.iter().any(|q| q.queue == letter.queue);
                let letters = page.letters.into_iter().filter(is_asked);
                letters.for_each(|letter| found.add(letter));
            }
            Err(why) => found.unasked = Some(why),
        }
    }
}

/// Returns whether the task still lies where this letter says.
fn is_its_end(letter: &DeadLetter) -> bool {
    use celeriac_actors::ports::DeadStatus;
    matches!(letter.status, DeadStatus::New | DeadStatus::Discarded)
}
