//! Waits for the ends of any number of tasks and prints each as it comes.
//!
//! One watcher per queue asks the broker for chunks of at most 500 tasks: the chunk that last had an end in it, and the
//! others in turn, so that a hundred thousand tasks cost a steady trickle of calls and not one call each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::{QueueName, TaskId, TaskName};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{Broker, BrokerError, QueueStatus};
use celeriac_actors::producer::TaskHandle;
use celeriac_actors::state::TaskState;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::exit::Failure;
use super::super::{output, values};
use super::chunks::{Chunks, Expected};
use crate::admin::keeper::Keeper;
use crate::admin::task_view::error_of;

/// How long one call waits when there is nothing else to ask.
const LONG: Duration = Duration::from_secs(2);
/// How long one call waits when other chunks wait for their turn.
const SHORT: Duration = Duration::from_millis(10);
/// How long the broker may be away.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How many ends were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// All of them.
    pub(super) seen: u64,
    /// Those that did not succeed.
    pub(super) failed: u64,
}

/// The watchers of all queues.
pub(super) struct Waiting {
    broker: Arc<dyn Broker>,
    keeper: Keeper,
    limits: FrameLimits,
    patience: Option<Duration>,
    ends: Arc<Mutex<Ends>>,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    queues: HashMap<QueueName, mpsc::Sender<Vec<Expected>>>,
    running: JoinSet<Result<(), BrokerError>>,
}

impl Waiting {
    /// Watches at `broker`, which may be away for so long; `None` is for ever.
    pub(super) fn start(
        broker: Arc<dyn Broker>,
        keeper: Keeper,
        limits: FrameLimits,
        patience: Option<Duration>,
    ) -> Self {
        Self {
            broker,
            keeper,
            limits,
            patience,
            ends: Arc::default(),
            watchers: Mutex::default(),
        }
    }

    /// Waits for tasks from now on; they were sent at `since`.
    pub(super) async fn expect(&self, handles: Vec<(TaskHandle, TaskName)>, since: Instant) {
        let mut by_queue: HashMap<QueueName, Vec<Expected>> = HashMap::new();
        for (TaskHandle { queue, id }, task) in handles {
            by_queue
                .entry(queue)
                .or_default()
                .push(Expected { id, task, since });
        }
        for (queue, tasks) in by_queue {
            // A watcher that has ended says why at the end.
            let _ended = self.watcher(&queue).send(tasks).await;
        }
    }

    fn watcher(&self, queue: &QueueName) -> mpsc::Sender<Vec<Expected>> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watchers.queues.get(queue) {
            return sender.clone();
        }
        let (sender, coming) = mpsc::channel(16);
        let watcher = Watcher {
            broker: Arc::clone(&self.broker),
            queue: queue.clone(),
            limits: self.limits,
            patience: self.patience,
            ends: Arc::clone(&self.ends),
            chunks: Chunks::default(),
        };
        watchers.running.spawn(watcher.run(coming));
        watchers.queues.insert(queue.clone(), sender.clone());
        sender
    }

    /// Waits until all have ended, or the time is over; says what kept it from looking then.
    ///
    /// # Errors
    /// When the broker, or whoever keeps the results, was away for too long.
    pub(super) async fn finish(self, limit: Option<Duration>) -> Result<Ends, Failure> {
        let (broker, keeper) = (Arc::clone(&self.broker), self.keeper.clone());
        let watchers = self.watchers.into_inner();
        let Watchers {
            queues,
            mut running,
        } = watchers.unwrap_or_else(PoisonError::into_inner);
        drop(queues);
        let all = async {
            while let Some(ended) = running.join_next().await {
                if let Err(error) = ended.map_err(Failure::unavailable)? {
                    return Err(Failure::from(keeper.blame(&*broker, error).await));
                }
            }
            Ok::<(), Failure>(())
        };
        let in_time = match limit {
            Some(limit) => timeout(limit, all)
                .await
                .map_or(Ok(false), |e| e.map(|()| true))?,
            None => all.await.map(|()| true)?,
        };
        // Being late is told by the counts; being blind is not.
        if !in_time && let Err(error) = look(&*broker).await {
            let why = keeper.blame(&*broker, error).await;
            output::complain(&format!("celeriac: {why}"));
        }
        Ok(*self.ends.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Looks once for a result that nobody has, to see whether results can be read.
async fn look(broker: &dyn Broker) -> Result<(), BrokerError> {
    let queues = broker.queues().await?;
    match queues.first() {
        Some(QueueStatus { queue, .. }) => broker.result(queue, TaskId::fresh()).await.map(drop),
        None => Ok(()),
    }
}

/// Waits for the tasks of one queue.
struct Watcher {
    broker: Arc<dyn Broker>,
    queue: QueueName,
    limits: FrameLimits,
    patience: Option<Duration>,
    ends: Arc<Mutex<Ends>>,
    chunks: Chunks,
}

impl Watcher {
    async fn run(mut self, mut coming: mpsc::Receiver<Vec<Expected>>) -> Result<(), BrokerError> {
        let mut away: Option<Instant> = None;
        let mut turn = 0;
        loop {
            while let Ok(tasks) = coming.try_recv() {
                self.chunks.add(tasks);
            }
            if self.chunks.is_empty() {
                match coming.recv().await {
                    Some(tasks) => self.chunks.add(tasks),
                    None => return Ok(()),
                }
            }
            // Every second look goes to the chunk in front; the others take turns.
            let many = self.chunks.0.len() > 1;
            let at = if turn % 2 == 0 {
                0
            } else {
                turn / 2 % self.chunks.0.len()
            };
            turn += 1;
            let ids: Vec<TaskId> = self.chunks.0[at].iter().map(|task| task.id).collect();
            let patience = if many { SHORT } else { LONG };
            let asked = tokio::select! {
                records = self.broker.wait_results(&self.queue, &ids, patience) => records,
                Some(tasks) = coming.recv() => {
                    self.chunks.add(tasks);
                    continue;
                }
            };
            match asked {
                Ok(records) => {
                    away = None;
                    self.report(at, &records);
                }
                Err(error) if error.is_outage() => {
                    let since = *away.get_or_insert_with(Instant::now);
                    if self.patience.is_some_and(|most| since.elapsed() >= most) {
                        return Err(error);
                    }
                    sleep(Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn report(&mut self, at: usize, records: &[FinalRecord]) {
        for record in records {
            for task in self.chunks.take(at, record.id) {
                let end = End::of(&task, record, &self.limits);
                output::json(&end);
                let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
                ends.seen += 1;
                ends.failed += u64::from(record.state != TaskState::Succeeded);
            }
        }
        if !records.is_empty() {
            self.chunks.settle(at);
        }
    }
}

/// How a task ended, as it is printed.
#[derive(Debug, Serialize)]
struct End<'a> {
    id: TaskId,
    task: &'a TaskName,
    state: TaskState,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    attempts: u16,
    elapsed_ms: u64,
}

impl<'a> End<'a> {
    fn of(task: &'a Expected, record: &FinalRecord, limits: &FrameLimits) -> Self {
        let succeeded = record.state == TaskState::Succeeded;
        Self {
            id: task.id,
            task: &task.task,
            state: record.state,
            result: succeeded.then(|| values::show(&record.body, limits)),
            error: (!succeeded).then(|| error_of(record, limits)),
            attempts: record.attempts,
            elapsed_ms: celeriac_actors::time::millis(task.since.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::enqueue::chunks::tests::expected;

    #[test]
    fn ends_are_told_as_scripts_read_them() {
        let limits = FrameLimits::default();
        let mut record = FinalRecord {
            progress: None,
            id: expected(1).id,
            state: TaskState::Succeeded,
            body: Vec::new(),
            attempts: 1,
            ttl: Duration::ZERO,
        };
        let print = |record: &FinalRecord| {
            let task = expected(1);
            let mut end = End::of(&task, record, &limits);
            end.elapsed_ms = 7;
            serde_json::to_string(&end).unwrap()
        };
        assert_eq!(
            print(&record),
            r#"{"id":"00000000-0000-0000-0000-000000000001","task":"t","state":"succeeded","result":null,"attempts":1,"elapsed_ms":7}"#
        );
        record.state = TaskState::Cancelled;
        assert!(
            print(&record).contains(r#""error":{"kind":"cancelled","message":"it was revoked"}"#)
        );
    }
}
