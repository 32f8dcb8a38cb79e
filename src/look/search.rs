//! Searching what the broker stores, page by page under a budget: a look from outside must cost the work little.

use std::ops::ControlFlow;
use std::time::Duration;

use celeriac_actors::context::Job;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::header::Header;
use celeriac_actors::ids::QueueName;
use celeriac_actors::lease::MAX_BATCH;
use celeriac_actors::ports::{Broker, BrokerError, QueueStatus, ScanRequest, StoredTask};
use celeriac_actors::state::TaskState;
use tokio::time::Instant;

use super::Patience;

/// How long a search may take.
const TIME: Duration = Duration::from_millis(200);
/// How many tasks a search may look at.
const ENTRIES: u64 = 100_000;

/// One search over any number of queues and states.
pub(crate) struct Search<'a> {
    broker: &'a dyn Broker,
    patience: Patience,
    /// How long it has taken; what is done between its parts does not count.
    spent: Duration,
    /// How many tasks it has looked at.
    pub(crate) looked: u64,
    /// Whether it saw everything it was asked to.
    pub(crate) is_complete: bool,
}

impl<'a> Search<'a> {
    pub(crate) fn new(broker: &'a dyn Broker, patience: Patience) -> Self {
        Self {
            broker,
            patience,
            spent: Duration::ZERO,
            looked: 0,
            is_complete: true,
        }
    }

    /// Looks at the tasks of a queue in a state until `visit` has enough or the budget is spent; active ones are few
    /// and are all looked at, whatever the budget says.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker is away for longer than its patience.
    pub(crate) async fn through(
        &mut self,
        (queue, state): (&QueueName, TaskState),
        visit: &mut (dyn FnMut(&QueueName, StoredTask) -> ControlFlow<()> + Send),
    ) -> Result<ControlFlow<()>, BrokerError> {
        let mut after = None;
        loop {
            if self.is_spent() && state != TaskState::Active {
                self.is_complete = false;
                return Ok(ControlFlow::Continue(()));
            }
            let request = ScanRequest {
                queue: queue.clone(),
                state,
                after: after.take(),
                limit: MAX_BATCH,
            };
            let began = Instant::now();
            let page = self.patience.insist(|| self.broker.scan(&request)).await?;
            let mut tasks = page.tasks.into_iter();
            for task in tasks.by_ref() {
                self.looked += 1;
                if visit(queue, task).is_break() {
                    self.is_complete = page.next.is_none() && tasks.next().is_none();
                    return Ok(ControlFlow::Break(()));
                }
            }
            self.spent += began.elapsed();
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(ControlFlow::Continue(())),
            }
        }
    }

    fn is_spent(&self) -> bool {
        self.looked >= ENTRIES || self.spent >= TIME
    }
}

/// Returns how many tasks of a queue are in a state.
pub(crate) fn stored(queue: &QueueStatus, state: TaskState) -> u64 {
    match state {
        TaskState::Ready => queue.ready,
        TaskState::Active => queue.active,
        TaskState::Scheduled => queue.scheduled,
        TaskState::Retrying => queue.retrying,
        _ => 0,
    }
}

/// Opens the bytes of a stored task.
///
/// # Errors
/// Why they are no task, for people.
pub(crate) fn open(frame: Vec<u8>, limits: &FrameLimits) -> Result<Job, String> {
    let header = Header::read(&frame).map_err(|error| error.to_string())?;
    Job::open(header, frame, limits).map_err(|(_, error)| error.to_string())
}
