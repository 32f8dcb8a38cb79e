//! Gathering the facts of an explanation. What they mean is decided in [`celeriac_actors::explain`].

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::breaker::{Board, BoardError, BreakerRecord, BreakerState};
use celeriac_actors::explain::{EndFacts, Facts, LetterFacts, StoredFacts, TaskFacts, WorkerFacts};
use celeriac_actors::failure::Failure;
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::ids::{QueueName, TaskName};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{
    Broker, BrokerError, DeadLetter, QueueStatus, ScanRequest, StoredTask,
};
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;

use super::Patience;
use super::hunt::{Found, Hunt};
use super::search::open;
use super::workers::{self, Worker};

/// How it is read, and what the reader knows of himself.
pub(crate) struct Ask<'a> {
    pub(crate) broker: &'a Arc<dyn Broker>,
    pub(crate) now: Timestamp,
    /// How long it waits for a broker that is away.
    pub(crate) patience: Patience,
    /// How long a consumer may stay silent by this configuration.
    pub(crate) lease: Duration,
    /// How many attempts a kind of task has by default, where that is known here.
    pub(crate) max_attempts: &'a (dyn Fn(&TaskName) -> Option<u16> + Sync),
}

impl Ask<'_> {
    /// Gathers what is known of a task; only `queue` is searched where one is named.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker is away for longer than its patience.
    pub(crate) async fn task(
        &self,
        hunt: &Hunt<'_>,
        queue: Option<&str>,
    ) -> Result<Facts, BrokerError> {
        let found = hunt.find(queue).await?;
        let place = found.stored.as_ref().map(|(queue, _)| queue);
        let place = place.or(found.end.as_ref().map(|(queue, _)| queue));
        let place = place.or(found.letters.first().map(|letter| &letter.queue));
        let mut facts = self.surroundings(place).await?;
        let stored = match &found.stored {
            Some((queue, task)) => Some(self.stored(queue, task, &found, &hunt.limits).await?),
            None => None,
        };
        let last = found.letters.iter().max_by_key(|letter| letter.buried_at);
        facts.task = Some(TaskFacts {
            id: hunt.id,
            stored,
            end: found.end.as_ref().map(|(_, end)| end_of(end, &hunt.limits)),
            letter: last.map(letter_of),
        });
        // What was not seen is not there only when everything was looked at.
        let total = match found.is_complete {
            true => found.looked,
            false => found.total.max(found.looked + 1),
        };
        facts.looked = (found.looked, total);
        let results = found
            .unread
            .map(|why| format!("its end, if it has one: {why}"));
        let store = found.store_unread;
        let store = store.map(|why| format!("the dead letters of the store: {why}"));
        facts.unread = results.into_iter().chain(store).collect();
        Ok(facts)
    }

    /// Gathers what is known of a queue.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker is away for longer than its patience.
    pub(crate) async fn queue(&self, queue: &QueueName) -> Result<Facts, BrokerError> {
        let mut facts = self.surroundings(Some(queue)).await?;
        for state in [TaskState::Scheduled, TaskState::Retrying] {
            let request = ScanRequest {
                queue: queue.clone(),
                state,
                after: None,
                limit: 1,
            };
            let page = self.patience.insist(|| self.broker.scan(&request)).await?;
            let due = page.tasks.first().and_then(|task| task.due);
            facts.next_due = [facts.next_due, due].into_iter().flatten().min();
        }
        Ok(facts)
    }

    /// Gathers what is known besides the task: its queue, the workers, the breakers.
    async fn surroundings(&self, queue: Option<&QueueName>) -> Result<Facts, BrokerError> {
        let queues = self.patience.insist(|| self.broker.queues()).await?;
        let workers = self
            .patience
            .insist(|| workers::read(&**self.broker))
            .await?;
        let board = Board::of(Arc::clone(self.broker)).read().await;
        let board = match board {
            Err(BoardError::Broker(error)) => return Err(error),
            board => board.unwrap_or_default(),
        };
        let shut = board.into_values();
        let shut = shut.filter(|record| record.state != BreakerState::Closed);
        let is_it = |status: &QueueStatus| Some(&status.queue) == queue;
        Ok(Facts {
            now: self.now,
            task: None,
            queue: queues.into_iter().find(is_it),
            next_due: None,
            breakers: shut.map(|record| with_kinds(record, &workers)).collect(),
            workers: workers.into_iter().map(worker_of).collect(),
            lease: self.lease,
            looked: (0, 0),
            unread: Vec::new(),
        })
    }

    async fn stored(
        &self,
        queue: &QueueName,
        task: &StoredTask,
        found: &Found,
        limits: &FrameLimits,
    ) -> Result<StoredFacts, BrokerError> {
        let job = open(task.frame.clone(), limits).ok();
        let (_, revocations) = self
            .patience
            .insist(|| self.broker.revocations(queue))
            .await?;
        let revoked = |revocation: &Revocation| match (&revocation.of, &job) {
            (rule, Some(job)) => rule.is_of(&job.header, &job.envelope),
            (Selector::Id(id), None) => celeriac_actors::ports::id_of(&task.frame) == Some(*id),
            _ => false,
        };
        let kind = job.as_ref().map(|job| job.envelope.task.clone());
        let own = job
            .as_ref()
            .and_then(|job| job.envelope.overrides.max_attempts);
        let max_attempts = own.or_else(|| (self.max_attempts)(kind.as_ref()?));
        Ok(StoredFacts {
            state: task.state,
            due: task.due,
            holder: task.holder.as_ref().map(|(worker, _)| worker.clone()),
            attempts: job.as_ref().map_or(0, |job| job.header.attempts),
            max_attempts,
            expires_at: job.as_ref().and_then(|job| job.header.expires_at),
            revoked: revocations.iter().any(revoked),
            before: found.before,
            kind,
        })
    }
}

/// Returns a breaker with the kinds of tasks that workers saw depend on it.
fn with_kinds(record: BreakerRecord, workers: &[Worker]) -> (BreakerRecord, Vec<TaskName>) {
    let details = workers.iter().filter_map(|worker| worker.detail.as_ref());
    let views = details.flat_map(|detail| &detail.breakers);
    let its = views.filter(|view| view.record.name == record.name);
    let mut kinds: Vec<TaskName> = its.flat_map(|view| view.tasks.iter().cloned()).collect();
    kinds.sort();
    kinds.dedup();
    (record, kinds)
}

fn worker_of(worker: Worker) -> WorkerFacts {
    let Worker { record, detail } = worker;
    let mut facts = WorkerFacts {
        worker: record.worker,
        alive: record.alive,
        seen_at: record.seen_at,
        quiet: record.quiet,
        queues: record.queues,
        concurrency: usize::try_from(record.concurrency).unwrap_or(usize::MAX),
        caps: Vec::new(),
        lanes: Vec::new(),
        children: Vec::new(),
        budgets: Vec::new(),
        knows: None,
        broker_away: None,
    };
    if let Some(detail) = detail {
        facts.caps = detail.queue_caps;
        facts.lanes = detail.lanes;
        facts.children = detail.children;
        facts.budgets = detail.retry_budgets;
        facts.knows = detail.tasks;
        facts.broker_away = detail.broker_away.map(|(_, why)| why);
    }
    facts
}

fn end_of(end: &FinalRecord, limits: &FrameLimits) -> EndFacts {
    let failure = match end.state {
        TaskState::Succeeded => None,
        _ => decode_value::<Failure>(&end.body, limits).ok(),
    };
    EndFacts {
        state: end.state,
        attempts: end.attempts,
        at: failure
            .as_ref()
            .map(|failure| failure.at)
            .filter(|at| *at > Timestamp::EPOCH),
        error: failure.map(|failure| failure.message),
    }
}

fn letter_of(letter: &DeadLetter) -> LetterFacts {
    LetterFacts {
        id: letter.id,
        reason: letter.reason,
        note: letter.note.clone(),
        at: letter.buried_at,
        status: letter.status,
    }
}
