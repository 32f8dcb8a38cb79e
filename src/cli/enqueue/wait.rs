//! Waits for the ends of any number of tasks and prints each as it comes.
//!
//! One watcher per queue asks the broker for chunks of at most 500 tasks: the chunk that last had an end in it, and the
//! others in turn, so that a hundred thousand tasks cost a steady trickle of calls and not one call each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::failure::Failure as TaskFailure;
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::ids::{QueueName, TaskId, TaskName};
use celeriac_actors::lease::{FinalRecord, MAX_BATCH};
use celeriac_actors::ports::{Broker, BrokerError};
use celeriac_actors::producer::TaskHandle;
use celeriac_actors::state::TaskState;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::super::exit::Failure;
use super::super::{output, values};

/// How long one call waits when there is nothing else to ask.
const LONG: Duration = Duration::from_secs(2);
/// How long one call waits when other chunks wait for their turn.
const SHORT: Duration = Duration::from_millis(10);
/// How long the broker may be away.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The most tasks of one call.
const CHUNK: usize = MAX_BATCH as usize;

/// How many ends were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ends {
    /// All of them.
    pub(super) seen: u64,
    /// Those that did not succeed.
    pub(super) failed: u64,
}

/// A task whose end is waited for.
#[derive(Clone, Debug)]
struct Expected {
    id: TaskId,
    task: TaskName,
    since: Instant,
}

/// The watchers of all queues.
pub(super) struct Waiting {
    broker: Arc<dyn Broker>,
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
        limits: FrameLimits,
        patience: Option<Duration>,
    ) -> Self {
        Self {
            broker,
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

    /// Waits until all have ended, or the time is over.
    ///
    /// # Errors
    /// When the broker was away for too long.
    pub(super) async fn finish(self, limit: Option<Duration>) -> Result<Ends, Failure> {
        let watchers = self.watchers.into_inner();
        let Watchers {
            queues,
            mut running,
        } = watchers.unwrap_or_else(PoisonError::into_inner);
        drop(queues);
        let all = async {
            while let Some(ended) = running.join_next().await {
                ended.map_err(Failure::unavailable)??;
            }
            Ok::<(), Failure>(())
        };
        match limit {
            // Being late is told by the counts.
            Some(limit) => timeout(limit, all).await.unwrap_or(Ok(()))?,
            None => all.await?,
        }
        Ok(*self.ends.lock().unwrap_or_else(PoisonError::into_inner))
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

/// Tasks in chunks of at most 500; the one in front had the last end in it.
#[derive(Debug, Default)]
struct Chunks(Vec<Vec<Expected>>);

impl Chunks {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, tasks: Vec<Expected>) {
        for task in tasks {
            match self.0.last_mut().filter(|chunk| chunk.len() < CHUNK) {
                Some(chunk) => chunk.push(task),
                None => self.0.push(vec![task]),
            }
        }
    }

    /// Removes a task; several of them where an id was given to several.
    fn take(&mut self, at: usize, id: TaskId) -> Vec<Expected> {
        self.0[at].extract_if(.., |task| task.id == id).collect()
    }

    /// Moves the chunk to the front, fills it up from the one behind it, and forgets it when it is empty.
    fn settle(&mut self, at: usize) {
        self.0[..=at].rotate_right(1);
        if self.0.len() > 1 && self.0[0].len() + self.0[1].len() <= CHUNK {
            let mut next = self.0.remove(1);
            self.0[0].append(&mut next);
        }
        if self.0[0].is_empty() {
            self.0.remove(0);
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

/// Returns why a task did not succeed.
pub(in super::super) fn error_of(record: &FinalRecord, limits: &FrameLimits) -> Value {
    if let Ok(failure) = decode_value::<TaskFailure>(&record.body, limits) {
        let mut error = json!({ "kind": failure.kind, "message": failure.message });
        if !failure.causes.is_empty() {
            error["causes"] = failure.causes.into();
        }
        if let Some(location) = failure.location {
            error["location"] = location.into();
        }
        return error;
    }
    let message = match record.state {
        TaskState::Cancelled => "it was revoked",
        TaskState::Expired => "it was not started before it expired",
        _ => "its failure was not kept",
    };
    json!({ "kind": record.state, "message": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(number: u128) -> Expected {
        Expected {
            id: TaskId::from(uuid::Uuid::from_u128(number)),
            task: TaskName::new("t").unwrap(),
            since: Instant::now(),
        }
    }

    fn sizes(chunks: &Chunks) -> Vec<usize> {
        chunks.0.iter().map(Vec::len).collect()
    }

    #[test]
    fn chunks_stay_bounded_and_full() {
        let mut chunks = Chunks::default();
        chunks.add((0..1_200).map(expected).collect());
        assert_eq!(sizes(&chunks), [500, 500, 200]);

        // The chunk that had an end comes to the front and is filled up where the next one fits.
        for number in 500..900 {
            assert_eq!(chunks.take(1, expected(number).id).len(), 1);
        }
        chunks.settle(1);
        assert_eq!(sizes(&chunks), [100, 500, 200]);
        for number in 0..400 {
            chunks.take(1, expected(number).id);
        }
        chunks.settle(1);
        assert_eq!(sizes(&chunks), [200, 200]);
    }

    #[test]
    fn an_id_given_twice_ends_twice() {
        let mut chunks = Chunks::default();
        chunks.add(vec![expected(1), expected(1)]);
        assert_eq!(chunks.take(0, expected(1).id).len(), 2);
        chunks.settle(0);
        assert!(chunks.is_empty());
    }

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
