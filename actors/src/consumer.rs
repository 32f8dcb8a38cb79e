//! The consumer: the actor that drains one queue on one lane.
//!
//! It owns a [`Pump`] and tells it what others ask for; it decides nothing itself. It shares its thread with the task
//! actors it feeds, so that no task crosses a thread on its way. When it ends, in whatever way, what it held is in its
//! attempt table, where the watchdog finds it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::fut::ActorFutureExt;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use slog::{Logger, debug, error, warn};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::budget::SharedBudget;
use crate::child::ExitNote;
use crate::context::WorkerContext;
use crate::context::{AttemptContext, Job};
use crate::events::{Observer, TaskEvent};
use crate::execution::Conclusion;
use crate::execution::Refused;
use crate::header::Header;
use crate::hooks::About;
use crate::ids::{QueueName, TaskId, TaskName};
use crate::lane::{Board, LaneGauge};
use crate::lease::Outcome;
use crate::line::{Line, Link};
use crate::measure::{Fate, Meter};
use crate::messages::{Drain, GiveBack, Look, LookAt};
use crate::permits::Permits;
use crate::pump::{Pump, PumpExit};
use crate::registry::{Kind, Kinds};

/// Everything a consumer needs, made anew for each incarnation of the actor.
pub(crate) struct ConsumerSetup {
    pub(crate) queue: QueueName,
    pub(crate) lane: u16,
    pub(crate) lease: Duration,
    pub(crate) unknown_grace: Duration,
    pub(crate) link: Link,
    pub(crate) worker: Arc<WorkerContext>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) permits: Permits,
    pub(crate) budget: Option<SharedBudget>,
    pub(crate) gate: SuspectGate,
    pub(crate) gauge: Arc<LaneGauge>,
    /// Where attempts on blocked threads are found, which hear of nothing by themselves.
    pub(crate) board: Board,
    pub(crate) meter: Meter,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) watch: Arc<Notify>,
    /// Nothing is to be fetched any more.
    pub(crate) quiet: Arc<AtomicBool>,
    pub(crate) log: Logger,
}

/// Attempts whose hard limit is nearer than this have the watchdog look at once.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

impl ConsumerSetup {
    pub(crate) fn new_line(&self) -> Line {
        Line::new(&self.queue, &self.worker.worker, self.lane, self.lease)
    }

    /// Returns whether a consumer made from this is to finish what it has and fetch nothing more.
    pub(crate) fn is_leaving(&self) -> bool {
        self.gauge.is_retired() || self.quiet.load(Ordering::Acquire)
    }

    pub(crate) fn started(&self, context: &AttemptContext, kind: &Kind) {
        let is_first = context.number() == 1 && context.deliveries() == 0;
        let waited = is_first.then(|| self.worker.clock.now().since(context.enqueued_at()));
        self.meter.started(kind.number, waited);
        if context.limits().hard < SHORT_LIMIT {
            self.watch.notify_one();
        }
        if let Some(observer) = &self.observer {
            observer.task(&TaskEvent::Started { context });
        }
    }

    pub(crate) fn ended(
        &self,
        context: &AttemptContext,
        kind: &Kind,
        end: &Conclusion,
        elapsed: Duration,
    ) {
        let fate = Fate::of(&end.outcome, true);
        self.meter.ended(kind.number, fate, elapsed);
        if let Some(observer) = &self.observer {
            observer.task(&TaskEvent::Ended {
                context,
                outcome: &end.outcome,
                error: end.error.as_deref(),
                elapsed,
            });
        }
    }

    pub(crate) fn received(&self, job: &Job) {
        if let Some(observer) = self.observer.as_ref().filter(|it| it.is_listening()) {
            let about = self.about(&job.header, Some(job.envelope.task.clone()));
            observer.task(&TaskEvent::Received { about: &about });
        }
    }

    /// Tells of a task that ends before its start.
    pub(crate) fn refused(&self, id: TaskId, task: Option<TaskName>, attempt: u16, end: &Outcome) {
        self.count_refused(task.as_ref(), end);
        if let Some(observer) = &self.observer {
            let queue = self.queue.clone();
            let about = About {
                id,
                task,
                queue,
                attempt,
            };
            let (about, outcome) = (&about, end);
            observer.task(&TaskEvent::Refused { about, outcome });
        }
    }

    fn count_refused(&self, task: Option<&TaskName>, end: &Outcome) {
        let kind = task.and_then(|task| self.meter.number(task));
        self.meter.refused(kind, Fate::of(end, false));
    }

    fn about(&self, header: &Header, task: Option<TaskName>) -> About {
        About {
            id: header.id,
            task,
            queue: self.queue.clone(),
            attempt: header.attempts.saturating_add(1),
        }
    }

    pub(crate) fn settled_unstarted(&self, refused: &Refused) {
        if let Some(id) = refused.id {
            let (task, attempt) = (refused.task.clone(), refused.attempt);
            self.refused(id, task, attempt, &refused.outcome);
        } else {
            self.count_refused(None, &refused.outcome);
        }
        let id = refused.id.map(|id| id.to_string());
        let (task, attempt) = (refused.task.as_ref().map(TaskName::as_str), refused.attempt);
        if let Outcome::Bury { reason, note, .. } = &refused.outcome {
            error!(self.log, "task died unstarted"; "reason" => %reason, "note" => note,
                "attempt" => attempt, "id" => id, "task" => task);
        } else if refused.newly_unknown {
            warn!(self.log, "no task of this name is registered here; giving it back";
                "buried_after_ms" => crate::time::millis(self.unknown_grace),
                "attempt" => attempt, "id" => id, "task" => task);
        }
    }

    pub(crate) fn stale(&self, count: usize) {
        debug!(self.log, "settlements came too late and were refused"; "count" => count);
    }
}

/// Lets one suspect of poisoning run at a time in the whole process. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) struct SuspectGate {
    permit: Arc<Semaphore>,
    left: Arc<Notify>,
}

/// The right to be the one suspect that runs. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct GatePass {
    permit: Option<OwnedSemaphorePermit>,
    left: Arc<Notify>,
}

impl Drop for GatePass {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.left.notify_waiters();
    }
}

impl SuspectGate {
    pub(crate) fn new() -> Self {
        Self {
            permit: Arc::new(Semaphore::new(1)),
            left: Arc::new(Notify::new()),
        }
    }

    pub(crate) fn try_enter(&self) -> Option<GatePass> {
        let permit = Arc::clone(&self.permit).try_acquire_owned().ok()?;
        Some(GatePass {
            permit: Some(permit),
            left: Arc::clone(&self.left),
        })
    }

    /// Completes when the gate is free; somebody else may be faster. Whoever waits owns nothing, so one that waits on a
    /// blocked thread is in nobody's way.
    pub(crate) async fn changed(&self) {
        let mut left = std::pin::pin!(self.left.notified());
        left.as_mut().enable();
        if self.permit.available_permits() == 0 {
            left.await;
        }
    }
}

/// What a consumer is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Fetch and run.
    Running,
    /// Fetch nothing more; finish what runs.
    Draining,
    /// Drop what runs and give it back.
    GivingBack,
}

/// What others ask of a pump, and who waits for its end.
pub(crate) struct Control {
    mode: Cell<Mode>,
    look: Cell<bool>,
    revocations: Cell<bool>,
    /// The pump has ended.
    ended: Cell<bool>,
    /// The supervisor wants the actor to end, not only what it holds to be given back.
    stopping: Cell<bool>,
    notify: Notify,
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
}

impl Control {
    fn new() -> Self {
        Self {
            mode: Cell::new(Mode::Running),
            look: Cell::new(false),
            revocations: Cell::new(false),
            ended: Cell::new(false),
            stopping: Cell::new(false),
            notify: Notify::new(),
            waiting: RefCell::default(),
        }
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode.get()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.set(mode);
        self.notify.notify_one();
    }

    pub(crate) fn take_look(&self) -> bool {
        self.look.take()
    }

    pub(crate) fn take_revocations(&self) -> bool {
        self.revocations.take()
    }

    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    fn wait_for_end(&self) -> ResponseFuture<()> {
        let (ended, wait) = oneshot::channel();
        if !self.ended.get() {
            self.waiting.borrow_mut().push(ended);
        }
        Box::pin(async move {
            // Dropped unanswered when the consumer ends otherwise: it holds nothing then either.
            let _gone_anyway = wait.await;
        })
    }
}

/// Drains one queue on one lane. See the file's header.
pub(crate) struct Consumer {
    setup: Arc<ConsumerSetup>,
    control: Rc<Control>,
    exit: ExitNote,
}

impl Consumer {
    pub(crate) fn new(setup: ConsumerSetup, exit: ExitNote) -> Self {
        Self {
            setup: Arc::new(setup),
            control: Rc::new(Control::new()),
            exit,
        }
    }

    /// Is asked to stop by its supervisor: gives back what it holds and ends.
    pub(crate) fn stop(&mut self, ctx: &mut Context<Self>) {
        self.control.set_mode(Mode::GivingBack);
        self.control.stopping.set(true);
        if self.control.ended.get() {
            ctx.stop();
        }
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let pump = Pump::new(Arc::clone(&self.setup), Rc::clone(&self.control));
        let ended = pump.run().into_actor(self).map(|exit, consumer, ctx| {
            if let PumpExit::Failed(error) = exit {
                consumer.exit.error(error);
                ctx.stop();
                return;
            }
            consumer.control.ended.set(true);
            for waiting in consumer.control.waiting.take() {
                // Whoever asked may have given up waiting.
                let _unheard = waiting.send(());
            }
            if consumer.control.stopping.get() {
                ctx.stop();
            }
        });
        ctx.spawn(ended);
    }
}

impl Handler<Look> for Consumer {
    type Result = ();

    fn handle(&mut self, look: Look, _: &mut Context<Self>) {
        match look.at {
            LookAt::Ready => self.control.look.set(true),
            LookAt::Revocations => self.control.revocations.set(true),
        }
        self.control.notify.notify_one();
    }
}

impl Handler<Drain> for Consumer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Context<Self>) -> Self::Result {
        if self.control.mode() == Mode::Running {
            self.control.set_mode(Mode::Draining);
        }
        self.control.wait_for_end()
    }
}

impl Handler<GiveBack> for Consumer {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: GiveBack, _: &mut Context<Self>) -> Self::Result {
        self.control.set_mode(Mode::GivingBack);
        self.control.wait_for_end()
    }
}
