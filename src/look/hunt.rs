//! Finding one task, wherever it is: directly where that is possible, then among those that wait.

use std::ops::ControlFlow;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::lease::{DeadTask, FinalRecord, MAX_BATCH};
use celeriac_actors::letters::letter_from;
use celeriac_actors::ports::{
    Broker, BrokerError, DeadFilter, DeadLetter, DeadLetters, DeadStatus, QueueStatus, StoredTask,
    id_of,
};
use celeriac_actors::progress::Progress;
use celeriac_actors::state::TaskState;
use futures_util::future::join_all;

use super::revoked::{Revoked, fate};
use super::search::{Search, open, stored};
use super::{Patience, workers};
use crate::config::SecretUrl;

/// The most dead letters of one task that are read.
const MAX_LETTERS: u32 = 100;

/// What was found of a task.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) stored: Option<(QueueName, StoredTask)>,
    pub(crate) end: Option<(QueueName, FinalRecord)>,
    /// Why its end could not be read, if it has one.
    pub(crate) unread: Option<String>,
    /// Its dead letters, that which was buried last first.
    pub(crate) letters: Vec<DeadLetter>,
    /// Why the store was not asked.
    pub(crate) store_unread: Option<String>,
    /// How many tasks of its queue would be fetched before it, where it is ready.
    pub(crate) before: u64,
    /// What a revocation means for it, where it is stored.
    pub(crate) fate: Option<&'static str>,
    /// What the attempt that runs said of its progress last.
    pub(crate) progress: Option<Progress>,
    /// For how many milliseconds its attempt has waited for a child process, where it does.
    pub(crate) waits_ms: Option<u64>,
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
    /// The store, or why there is none to be asked.
    pub(crate) store: Result<&'a dyn DeadLetters, String>,
    /// The server that keeps the results, where the broker does not.
    pub(crate) kept_at: Option<&'a SecretUrl>,
    pub(crate) limits: FrameLimits,
    /// How long it waits for a broker or store that is away.
    pub(crate) patience: Patience,
}

impl Hunt<'_> {
    /// Looks where it can be found directly, then, when it is not there, through what waits.
    pub(crate) async fn find(&self, queue: Option<&str>) -> Result<Found, BrokerError> {
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
            let workers = self.patience.insist(|| workers::read(self.broker)).await?;
            found.progress = workers::progress_of(&workers, self.id);
            found.waits_ms = workers::wait_of(&workers, self.id);
            found.fate = self.fate(&found).await?;
        }
        found.looked = search.looked;
        found.total = found.total.max(search.looked);
        found.is_complete = search.is_complete;
        Ok(found)
    }

    /// Finds out whether it was revoked where it is stored.
    async fn fate(&self, found: &Found) -> Result<Option<&'static str>, BrokerError> {
        let Some((queue, task)) = &found.stored else {
            return Ok(None);
        };
        let Ok(job) = open(task.frame.clone(), &self.limits) else {
            return Ok(None);
        };
        let revoked = Revoked::read(self.broker, [queue.clone()].into(), self.patience).await?;
        let terminate = revoked.of(queue, &job.header, &job.envelope);
        Ok(terminate.map(|terminate| fate(task.state, terminate)))
    }

    /// Looks where a task is found without going through others.
    async fn direct(
        &self,
        queues: &[QueueStatus],
        search: &mut Search<'_>,
        found: &mut Found,
    ) -> Result<(), BrokerError> {
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
    async fn ends(&self, queues: &[QueueStatus], found: &mut Found) -> Result<(), BrokerError> {
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
                Err(error) if error.is_outage() => {
                    let Some(server) = self.kept_at else {
                        return Err(error);
                    };
                    if found.unread.is_none() {
                        let why = results_away(server, self.broker, &error).await;
                        found.unread = Some(why.unwrap_or_else(|| error.to_string()));
                    }
                }
                Err(error) => return Err(error),
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
    ) -> Result<(), BrokerError> {
        for state in states {
            found.total += queues
                .iter()
                .map(|queue| stored(queue, *state))
                .sum::<u64>();
            // Those in flight are few, and move while one counts.
            let may_be =
                |queue: &&QueueStatus| *state == TaskState::Active || stored(queue, *state) > 0;
            for queue in queues.iter().filter(may_be) {
                let mut before = 0;
                let mut visit = |queue: &QueueName, task: StoredTask| {
                    if id_of(&task.frame) != Some(self.id) {
                        before += 1;
                        return ControlFlow::Continue(());
                    }
                    found.stored = Some((queue.clone(), task));
                    found.before = before;
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
    async fn outbox(&self, queues: &[QueueStatus], found: &mut Found) -> Result<(), BrokerError> {
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
        let page = match &self.store {
            Ok(store) => {
                self.patience
                    .insist(|| store.list(&filter, None, MAX_LETTERS))
                    .await
            }
            Err(why) => {
                found.store_unread = Some(why.clone());
                return;
            }
        };
        match page {
            Ok(page) => {
                let is_asked = |letter: &DeadLetter| queues.iter().any(|q| q.queue == letter.queue);
                let letters = page.letters.into_iter().filter(is_asked);
                letters.for_each(|letter| found.add(letter));
                found.store_unread = None;
            }
            Err(error) => found.store_unread = Some(error.to_string()),
        }
    }
}

/// Returns whether the task still lies where this letter says.
pub(crate) fn is_its_end(letter: &DeadLetter) -> bool {
    matches!(letter.status, DeadStatus::New | DeadStatus::Discarded)
}

/// Returns why results cannot be read, when it is the server that keeps them and not the broker that is away.
pub(crate) async fn results_away(
    server: &SecretUrl,
    broker: &dyn Broker,
    error: &BrokerError,
) -> Option<String> {
    if !error.is_outage() || broker.queues().await.is_err() {
        return None;
    }
    let said = match error {
        BrokerError::Unavailable(text) | BrokerError::Away(text) | BrokerError::Refused(text) => {
            text.clone()
        }
        other => other.to_string(),
    };
    Some(format!(
        "{server}, which keeps the results (`results.url`), cannot be read: {said}; tasks run all the same, and their \
         results wait at the broker until it is back"
    ))
}
