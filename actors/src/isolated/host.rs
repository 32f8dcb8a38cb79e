//! The child's side: runs the attempts it is ordered to, one after the other, in the tasks of its own program.
//!
//! A child has everything a worker has but a broker of its own. Its task actors are built when the first task for one
//! comes, and supervised as in a worker.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use tokio::time::Instant;

use super::{OrderHead, Report, split};
use crate::breaker::park_of;
use crate::child::{Environment, Strategy, SupervisorSpec};
use crate::context::{AttemptContext, Job, WorkerContext};
use crate::header::Header;
use crate::ids::TaskName;
use crate::intensity::Limit;
use crate::lane::{Board, LaneSeat};
use crate::panics::catch;
use crate::policy::Policy;
use crate::progress::{Listener, Progress};
use crate::registry::{Kind, Kinds, Registry};
use crate::runner::AttemptEnd;
use crate::supervisor::Root;
use crate::task::{TaskError, Verdict};
use crate::workshop::Runners;

/// Runs attempts in a child process. Lives on the thread of its lane; see [`Host::lane`].
pub struct Host {
    registry: Registry,
    worker: Arc<WorkerContext>,
    seat: LaneSeat,
    kinds: Kinds,
    runners: Runners,
    actors: Vec<Root>,
    next_key: AtomicU64,
}

/// An attempt that was opened and not run yet.
pub struct Hosted {
    context: AttemptContext,
    kind: Arc<Kind>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Hosted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hosted").field(&self.context.id()).finish()
    }
}

impl Hosted {
    /// Asks its task to stop.
    pub fn cancel(&self) {
        self.context.cancel();
    }

    /// Has somebody told how far it has come, a few times a second at most.
    pub fn listen(&self, listener: Listener) {
        self.context.report().listen(listener);
    }

    /// Returns how far it has come, if it has said so.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.context.report().get()
    }

    /// Returns the attempt, to be told of while it runs.
    #[must_use]
    pub fn context(&self) -> &AttemptContext {
        &self.context
    }
}

/// Returns what the type of an error says of its task: the type stays in this process. Attempts that a rule for the type
/// says are enough end as if none was worth while.
fn typed_verdict(policy: &Policy, error: &(dyn Error + 'static), attempt: u16) -> Verdict {
    if let Some(delay) = park_of(error) {
        return Verdict::Parked(delay);
    }
    let is_last = policy.attempts_for(error).is_some_and(|all| attempt >= all);
    if is_last || policy.is_permanent(error) {
        return Verdict::Permanent;
    }
    match policy.typed_delay(error, attempt, &mut rand::rng()) {
        Some(delay) => Verdict::RetryAfter(delay),
        None => Verdict::Retry,
    }
}

impl Host {
    /// Starts the thread that attempts and their actors share. Call it inside an actix system.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn lane() -> std::io::Result<(LaneSeat, ArbiterHandle)> {
        let seat = LaneSeat::new(0, Board::default());
        let arbiter = seat.fresh()?;
        Ok((seat, arbiter))
    }

    /// Creates a host for the tasks of `registry`. Call it on the thread of `seat`.
    #[must_use]
    pub fn new(registry: Registry, worker: Arc<WorkerContext>, seat: LaneSeat) -> Self {
        crate::panics::install();
        Self {
            kinds: registry.kinds(&Runners::new()),
            runners: Runners::new(),
            registry,
            worker,
            seat,
            actors: Vec::new(),
            next_key: AtomicU64::new(1),
        }
    }

    /// Opens an order.
    ///
    /// # Errors
    /// The report of an order that cannot be carried out.
    pub fn open(&mut self, order: &[u8]) -> Result<Hosted, Report> {
        let (head, frame) = split::<OrderHead>(order)
            .ok_or_else(|| Report::undecodable("the order cannot be read"))?;
        let header = Header::read(frame).map_err(|error| Report::undecodable(error.to_string()))?;
        let mut job = Job::open(header, frame.to_vec(), &self.worker.limits)
            .map_err(|(_, error)| Report::undecodable(error.to_string()))?;
        job.delivered_at = head.delivered_at;
        let kind = self.kind(&job.envelope.task).ok_or_else(|| {
            let task = &job.envelope.task;
            Report::refused(format!("the child process knows no task `{task}`"))
        })?;
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let now = (Arc::clone(&self.worker), Instant::now());
        let limits = head.limits();
        let context = AttemptContext::new(key, job, head.queue, limits, now);
        Ok(Hosted { context, kind })
    }

    /// Runs an attempt to its end.
    pub async fn run(&self, hosted: &Hosted) -> Report {
        let Hosted { context, kind } = hosted;
        // Whoever keeps breakers in step is in the worker: here it is done before and after each attempt.
        self.keep_breakers().await;
        let body = kind.runner.start(context.clone());
        let mut end = match catch(body).await {
            Ok(end) => end,
            Err(panic) => AttemptEnd::Panicked(panic),
        };
        self.keep_breakers().await;
        if let AttemptEnd::Returned(Err(error)) = &mut end
            && error.verdict == Verdict::Retry
        {
            error.verdict = typed_verdict(&kind.policy, error.error(), context.number());
        }
        let max = self.worker.results.max_size;
        match end {
            // Too large to be kept: the worker would say so, and need not be sent it.
            AttemptEnd::Returned(Ok(output)) if max > 0 && output.len() > max => {
                let note = format!(
                    "its result has {} bytes, allowed are {max} (`results.max_size`); return less, or keep none",
                    output.len()
                );
                Report::of(AttemptEnd::Returned(Err(TaskError::permanent(note))))
            }
            AttemptEnd::Returned(Ok(_)) if max == 0 => {
                Report::of(AttemptEnd::Returned(Ok(Vec::new())))
            }
            end => Report::of(end),
        }
    }

    /// Tells the other workers what was seen of breakers, and hears what they saw. Asks nobody where none is in use.
    async fn keep_breakers(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let breakers = &self.worker.breakers;
        if !breakers.all().is_empty() {
            // A broker that is away is told the next time.
            let _in_time = tokio::time::timeout(PATIENCE, breakers.sync()).await;
        }
    }

    /// Finds a kind of task; builds its actor when it is the first of its tasks.
    fn kind(&mut self, task: &TaskName) -> Option<Arc<Kind>> {
        if !self.kinds.contains_key(task) {
            let actors = self.registry.actors.iter();
            let actor = actors.clone().find(|actor| actor.handles(task))?;
            let equipment = actor.equip(&self.worker, &self.seat);
            self.runners.extend(equipment.runners);
            let mut spec = SupervisorSpec::new(Strategy::OneForOne, Limit::default());
            spec.children.extend(equipment.specs);
            let environment = Environment {
                log: self.worker.log.clone(),
                clock: Arc::clone(&self.worker.clock),
                seed: u64::from(std::process::id()),
                observer: None,
            };
            self.actors.push(Root::start("isolated", spec, environment));
            self.kinds = self.registry.kinds(&self.runners);
        }
        self.kinds.get(task).cloned()
    }
}
