//! The broker as a child has it: what tasks ask of it goes to the worker, which asks its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{BurialId, IncarnationId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::{
    DeadTask, ExchangeCall, Exchanged, FinalRecord, Incarnation, Outcome, Place, Promoted, Swept,
};
use celeriac_actors::ports::{
    Broker, BrokerError, Capabilities, Durability, EnqueueCall, QueueStatus, ScanPage, ScanRequest,
    SharedValue, Wake, WorkerRecord,
};
use celeriac_actors::producer::{Added, Elsewhere, EnqueueError, Prepared, Step};
use celeriac_actors::revocation::Revocation;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;

use super::link::Mouth;
use crate::isolation::adding::Adding;
use crate::isolation::wire::{Answer, Batch, Question};

/// How often a result that is waited for is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Forwards what is added, shared values and results.
#[derive(Debug)]
pub(super) struct Forwarding {
    mouth: Arc<Mouth>,
}

impl Forwarding {
    pub(super) const fn new(mouth: Arc<Mouth>) -> Self {
        Self { mouth }
    }

    async fn ask(&self, question: Question) -> Result<Answer, BrokerError> {
        match self.mouth.ask(question).await {
            Some(Answer::Failed(fault)) => Err(fault.into()),
            Some(answer) => Ok(answer),
            None => Err(BrokerError::Unavailable(
                "the attempt has ended, and nobody answers its process".to_owned(),
            )),
        }
    }
}

/// The program's hooks are asked in the worker, and its spool is there.
#[async_trait]
impl Elsewhere for Forwarding {
    async fn take(&self, tasks: Vec<Prepared>, step: Step) -> Result<Added, EnqueueError> {
        let unknown = if step == Step::Vet { 0 } else { tasks.len() };
        let open = |reason: String| EnqueueError::Unavailable {
            accepted: 0,
            unknown,
            reason,
            call: None,
        };
        match self.ask(Question::Add(Adding::new(tasks, step))).await {
            Ok(Answer::Added(accepted, spooled)) => Ok(Added { accepted, spooled }),
            Ok(Answer::NotAdded(refusal)) => Err(refusal.into()),
            Ok(_) => Err(open("the worker answered something else".to_owned())),
            Err(error) => Err(open(error.to_string())),
        }
    }
}

fn odd<T>() -> Result<T, BrokerError> {
    Err(BrokerError::Invalid(
        "the worker answered something else".to_owned(),
    ))
}

fn not_here<T>() -> Result<T, BrokerError> {
    Err(BrokerError::Invalid(
        "only the worker itself may do that, not the process of an isolated attempt".to_owned(),
    ))
}

#[async_trait]
impl Broker for Forwarding {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            signal: true,
            shared: true,
        }
    }

    fn durability(&self) -> Durability {
        // The least that the worker's may be.
        Durability::Volatile
    }

    async fn enqueue(&self, call: Arc<EnqueueCall>) -> Result<Timestamp, BrokerError> {
        let batch = Box::new(Batch::from(&*call));
        match self.ask(Question::Enqueue(batch)).await? {
            Answer::At(at) => Ok(at),
            _ => odd(),
        }
    }

    async fn result(
        &self,
        queue: &QueueName,
        task: TaskId,
    ) -> Result<Option<FinalRecord>, BrokerError> {
        match self.ask(Question::Result(queue.clone(), task)).await? {
            Answer::Result(record) => Ok(record),
            _ => odd(),
        }
    }

    async fn wait_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
        timeout: Duration,
    ) -> Result<Vec<FinalRecord>, BrokerError> {
        let look = async {
            loop {
                let mut found = Vec::new();
                for task in tasks {
                    found.extend(self.result(queue, *task).await?);
                }
                if !found.is_empty() {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let in_time = tokio::time::timeout(timeout, look).await;
        in_time.unwrap_or_else(|_| Ok(Vec::new()))
    }

    async fn shared(&self, key: &str) -> Result<Option<SharedValue>, BrokerError> {
        match self.ask(Question::Shared(key.to_owned())).await? {
            Answer::Shared(value) => {
                Ok(value.map(|(version, value)| SharedValue { version, value }))
            }
            _ => odd(),
        }
    }

    async fn share(
        &self,
        key: &str,
        expected: u64,
        value: &[u8],
        ttl: Duration,
    ) -> Result<Option<u64>, BrokerError> {
        let question = Question::Share {
            key: key.to_owned(),
            expected,
            value: value.to_vec(),
            ttl_ms: celeriac_actors::time::millis(ttl),
        };
        match self.ask(question).await? {
            Answer::Version(version) => Ok(version),
            _ => odd(),
        }
    }

    async fn open(&self, _: &Incarnation) -> Result<(), BrokerError> {
        not_here()
    }

    async fn exchange(&self, _: Arc<ExchangeCall>) -> Result<Exchanged, BrokerError> {
        not_here()
    }

    async fn renew(
        &self,
        _: &QueueName,
        _: &[IncarnationId],
    ) -> Result<Vec<IncarnationId>, BrokerError> {
        not_here()
    }

    async fn mark_started(&self, _: &Place) -> Result<bool, BrokerError> {
        not_here()
    }

    async fn take(&self, _: &Place, _: Outcome) -> Result<bool, BrokerError> {
        not_here()
    }

    async fn release(
        &self,
        _: &QueueName,
        _: IncarnationId,
        _: &[u64],
    ) -> Result<u32, BrokerError> {
        not_here()
    }

    async fn close(&self, _: &QueueName, _: IncarnationId) -> Result<u32, BrokerError> {
        not_here()
    }

    async fn sweep(&self, _: &QueueName, _: u32) -> Result<Swept, BrokerError> {
        not_here()
    }

    async fn promote_due(&self, _: &QueueName, _: u32) -> Result<Promoted, BrokerError> {
        not_here()
    }

    async fn wait(&self, _: &[QueueName], _: Duration) -> Result<Vec<Wake>, BrokerError> {
        not_here()
    }

    async fn take_dead(&self, _: u32) -> Result<Vec<DeadTask>, BrokerError> {
        not_here()
    }

    async fn drop_dead(&self, _: &[BurialId]) -> Result<u32, BrokerError> {
        not_here()
    }

    async fn revoke(
        &self,
        _: &QueueName,
        _: &[Revocation],
        _: Timestamp,
    ) -> Result<u64, BrokerError> {
        not_here()
    }

    async fn revocations(&self, _: &QueueName) -> Result<(u64, Vec<Revocation>), BrokerError> {
        not_here()
    }

    async fn pause(&self, _: &QueueName, _: bool) -> Result<(), BrokerError> {
        not_here()
    }

    async fn purge(&self, _: &QueueName, _: TaskState, _: u32) -> Result<u32, BrokerError> {
        not_here()
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, BrokerError> {
        not_here()
    }

    async fn scan(&self, _: &ScanRequest) -> Result<ScanPage, BrokerError> {
        not_here()
    }

    async fn beat(&self, _: &WorkerRecord) -> Result<(), BrokerError> {
        not_here()
    }

    async fn farewell(&self, _: &WorkerId) -> Result<(), BrokerError> {
        not_here()
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>, BrokerError> {
        not_here()
    }

    async fn housekeep(&self, _: u32) -> Result<u32, BrokerError> {
        not_here()
    }
}
