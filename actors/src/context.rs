//! What an attempt knows of itself and of its worker, and the signals that reach it.
//!
//! One allocation per attempt, shared by the task's code, the consumer that polls it and the watchdog that may end it.
//! The flags only ever go one way, so they may be read at any time from any thread.

use std::any::type_name;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use slog::{Logger, o};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::blocking::BlockingError;
use crate::consumer::GatePass;
use crate::envelope::Envelope;
use crate::frame::{FrameLimits, Opened};
use crate::header::Header;
use crate::ids::{QueueName, TaskId, TaskName, WorkerId};
use crate::panics::SharedPanic;
use crate::policy::Limits;
use crate::producer::{EnqueueError, EnqueueOptions, Producer, TaskHandle};
use crate::revocation::Revoked;
use crate::task::Task;
use crate::time::Timestamp;

mod clock;
mod keys;
mod process;
mod worker;

use clock::AttemptClock;
pub use process::AttemptProcess;
use process::Reins;
pub use worker::{AppState, MissingState, WorkerContext};

/// A delivery whose frame was opened: everything needed to run it, retry it or bury it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The stored bytes.
    pub frame: Vec<u8>,
    /// Their header.
    pub header: Header,
    /// What the task says about itself.
    pub envelope: Envelope,
    /// When it was handed out, by the broker's clock; 1970 where nobody said.
    pub delivered_at: Timestamp,
    body: Option<Vec<u8>>,
    args_at: usize,
}

impl Job {
    /// Opens a frame whose header was read.
    ///
    /// # Errors
    /// [`FrameError`](crate::frame::FrameError), with the bytes given back, when the frame exceeds `limits` or is damaged.
    pub fn open(
        header: Header,
        frame: Vec<u8>,
        limits: &FrameLimits,
    ) -> Result<Self, (Vec<u8>, crate::frame::FrameError)> {
        match crate::frame::open(&header, &frame, limits).map(Opened::into_parts) {
            Ok((envelope, body, args_at)) => Ok(Self {
                frame,
                header,
                envelope,
                delivered_at: Timestamp::EPOCH,
                body,
                args_at,
            }),
            Err(error) => Err((frame, error)),
        }
    }

    /// Returns the arguments as MessagePack.
    #[must_use]
    pub fn args(&self) -> &[u8] {
        &self.body.as_ref().unwrap_or(&self.frame)[self.args_at..]
    }
}

/// How far an attempt has come on its way into the task's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not handed to a task actor.
    Unstarted = 0,
    /// In the mailbox of a task actor.
    Sent = 1,
    /// The task's code has it.
    Started = 2,
    /// The actor panicked while it had this attempt in its hands.
    Culprit = 3,
}

/// Why the runtime ended an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Abort {
    /// Its hard limit was reached.
    HardLimit = 1,
    /// Its consumer ends, or the delivery is no longer ours: undone, not counted.
    Released = 2,
    /// Its task was revoked, and is not to run on.
    Revoked = 3,
}

/// One attempt, as its task sees it. Cloning shares it.
#[derive(Clone, Debug)]
pub struct AttemptContext {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: u64,
    job: Job,
    queue: QueueName,
    limits: Limits,
    clock: AttemptClock,
    worker: Arc<WorkerContext>,
    phase: AtomicU8,
    cancelled: AtomicBool,
    revoked: AtomicBool,
    aborted: AtomicU8,
    blocking: AtomicU32,
    isolated: AtomicBool,
    reins: Reins,
    waker: AtomicWaker,
    notify: Notify,
    panic: Mutex<Option<SharedPanic>>,
    gate: Mutex<Option<GatePass>>,
    slots: crate::breaker::Slots,
    report: crate::progress::Report,
}

impl AttemptContext {
    /// Creates the context of an attempt that starts at `started`. `key` is unique within the process.
    #[must_use]
    pub fn new(
        key: u64,
        job: Job,
        queue: QueueName,
        limits: Limits,
        (worker, started): (Arc<WorkerContext>, Instant),
    ) -> Self {
        let inner = Inner {
            key,
            job,
            queue,
            limits,
            clock: AttemptClock::new(started),
            worker,
            phase: AtomicU8::new(Phase::Unstarted as u8),
            cancelled: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            aborted: AtomicU8::new(0),
            blocking: AtomicU32::new(0),
            isolated: AtomicBool::new(false),
            reins: Reins::default(),
            waker: AtomicWaker::new(),
            notify: Notify::const_new(),
            panic: Mutex::new(None),
            gate: Mutex::new(None),
            slots: crate::breaker::Slots::default(),
            report: crate::progress::Report::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the task's id, the same in all its attempts.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.inner.job.header.id
    }

    /// Returns the name of the kind of task.
    #[must_use]
    pub fn task(&self) -> &TaskName {
        &self.inner.job.envelope.task
    }

    /// Returns the queue it came from.
    #[must_use]
    pub fn queue(&self) -> &QueueName {
        &self.inner.queue
    }

    /// Returns which attempt this is: 1 for the first. A crash of the worker does not count as one.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.inner.job.header.attempts.saturating_add(1)
    }

    /// Returns how many attempts the task has in all.
    #[must_use]
    pub fn max_attempts(&self) -> u16 {
        self.inner.limits.max_attempts
    }

    /// Returns how often the task was taken back from a worker that died.
    #[must_use]
    pub fn deliveries(&self) -> u8 {
        self.inner.job.header.deliveries
    }

    /// Returns when the task was enqueued, by its producer's clock.
    #[must_use]
    pub fn enqueued_at(&self) -> Timestamp {
        self.inner.job.header.enqueued_at
    }

    /// Returns the text that the enqueuer attached.
    #[must_use]
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.inner.job.envelope.headers
    }

    /// Returns the process that runs it.
    #[must_use]
    pub fn worker(&self) -> &WorkerId {
        &self.inner.worker.worker
    }

    /// Returns how long it has been running; zero while it waits for a thread or a process to run in.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.inner.clock.elapsed()
    }

    /// Returns how long it may still run before its hard limit ends it; zero when that is past.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.inner.limits.hard.saturating_sub(self.elapsed())
    }

    /// Returns the instant of its hard limit.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.inner.clock.after(self.inner.limits.hard)
    }

    /// Returns whether its soft limit has passed: time to stop, best with [`TaskError::soft_limit`](crate::task::TaskError::soft_limit).
    #[must_use]
    pub fn is_past_soft_limit(&self) -> bool {
        self.elapsed() >= self.inner.limits.soft
    }

    /// Returns how long it is until its soft limit; zero when that is past.
    #[must_use]
    pub fn soft_limit_in(&self) -> Duration {
        self.inner.limits.soft.saturating_sub(self.elapsed())
    }

    /// Waits for its soft limit.
    ///
    /// # Cancel safety
    /// Cancel-safe; may be awaited often.
    pub async fn soft_limit(&self) {
        tokio::time::sleep_until(self.inner.clock.after(self.inner.limits.soft)).await;
    }

    /// Returns whether somebody asked it to stop: a revocation, or the end of its worker's life.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.cancelled.load(Ordering::Acquire)
    }

    /// Returns whether the task was revoked while it runs. When it succeeds all the same, it succeeded; when it fails, it is
    /// cancelled, and not tried again.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.inner.revoked.load(Ordering::Acquire)
    }

    /// Waits until somebody asks it to stop.
    ///
    /// # Cancel safety
    /// Cancel-safe; may be awaited often.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.inner.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }

    /// Returns the program's value of type `S`.
    ///
    /// # Errors
    /// [`MissingState`] when none was registered.
    pub fn state<S: Send + Sync + 'static>(&self) -> Result<&S, MissingState> {
        self.inner
            .worker
            .state
            .get()
            .ok_or(MissingState(type_name::<S>()))
    }

    /// Returns a logger that carries the task's identity. Made at each call: keep it when logging often.
    pub fn log(&self) -> Logger {
        self.inner.worker.log.new(o!(
            "attempt" => self.number(),
            "id" => self.id().to_string(),
            "task" => self.task().to_string(),
            "queue" => self.queue().to_string(),
        ))
    }

    /// Enqueues a follow-up task. It is not undone when this attempt fails later, and comes again with its retry.
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn enqueue<T: Task>(&self, task: &T) -> Result<TaskHandle, EnqueueError> {
        self.producer()
            .enqueue(task, EnqueueOptions::default())
            .await
    }

    /// Returns what enqueues follow-up tasks.
    #[must_use]
    pub fn producer(&self) -> &Producer {
        &self.inner.worker.producer
    }

    /// Runs work that blocks its thread on the bounded pool, and returns what it returned.
    ///
    /// # Errors
    /// [`BlockingError`] when the work panicked or no thread could be had.
    ///
    /// # Cancel safety
    /// Work that has begun goes on when the future is dropped. When the runtime dropped it before its hard limit, the task
    /// is not given back until the work has ended, unless the process ends; [`is_cancelled`](Self::is_cancelled) says so.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let held = BlockingMark::new(self.clone());
        let timed = self.clone();
        let overdue = Box::new(move || timed.overdue());
        let done = self.inner.worker.blocking.run_timed(overdue, move || {
            let _held = held;
            work()
        });
        done.await
    }
}

/// Counts blocking work in for as long as it lives, on whatever thread.
pub(crate) struct BlockingMark(AttemptContext);

impl BlockingMark {
    pub(crate) fn new(context: AttemptContext) -> Self {
        context.inner.blocking.fetch_add(1, Ordering::AcqRel);
        Self(context)
    }
}

impl Drop for BlockingMark {
    fn drop(&mut self) {
        if self.0.inner.blocking.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.inner.waker.wake();
        }
    }
}

/// Says that an attempt has a process of its own.
pub(crate) struct Apart(AttemptContext);

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.inner.isolated.store(false, Ordering::Release);
    }
}

/// What the runtime does with an attempt, out of the task's reach.
impl AttemptContext {
    /// Returns the attempt's number within the process.
    pub(crate) fn key(&self) -> u64 {
        self.inner.key
    }

    pub(crate) fn job(&self) -> &Job {
        &self.inner.job
    }

    /// Returns when it was started.
    pub(crate) fn started(&self) -> Instant {
        self.inner.clock.after(Duration::ZERO)
    }

    /// Returns what it carries of breakers.
    pub(crate) fn slots(&self) -> &crate::breaker::Slots {
        &self.inner.slots
    }

    /// Returns where it carries its progress.
    pub(crate) fn report(&self) -> &crate::progress::Report {
        &self.inner.report
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn worker_context(&self) -> &Arc<WorkerContext> {
        &self.inner.worker
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.inner.phase.load(Ordering::Acquire) {
            0 => Phase::Unstarted,
            1 => Phase::Sent,
            2 => Phase::Started,
            _ => Phase::Culprit,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.inner.phase.store(phase as u8, Ordering::Release);
    }

    /// Returns whether it waits in the mailbox of a task actor, or is in its handler.
    pub(crate) fn is_in_mailbox(&self) -> bool {
        self.phase() == Phase::Sent
    }

    /// Tells the task that it was revoked; ends it, where the revocation says so.
    pub(crate) fn revoke(&self, revoked: Revoked) {
        self.inner.revoked.store(true, Ordering::Release);
        match revoked {
            Revoked::Asked => self.cancel(),
            Revoked::Terminated => self.abort(Abort::Revoked),
        }
    }

    /// Stops its clock: it waits for a thread or a process to run in, and that time is not its own.
    pub(crate) fn hold(&self) {
        self.inner.clock.hold();
    }

    /// Returns whether it was started and waits for a child process.
    pub(crate) fn waits_for_a_child(&self) -> bool {
        self.is_isolated() && self.inner.clock.is_held()
    }

    /// Returns how long ago it was started, whether or not its time runs.
    pub(crate) fn age(&self) -> Duration {
        self.inner.clock.age()
    }

    /// Begins an attempt that was held; returns whether it may begin. From here on its limits run.
    pub(crate) fn claim(&self) -> bool {
        self.inner.clock.claim()
    }

    /// Takes an attempt that was held and has not begun from whoever would begin it.
    pub(crate) fn withdraw(&self) {
        // Too late where it has begun: what runs is seen by its mark.
        let _in_time = self.inner.clock.withdraw();
    }

    /// Notes that a process of its own runs it, for as long as what is returned lives: who polls it tells it of its end
    /// instead of dropping it.
    pub(crate) fn isolated(&self) -> Apart {
        self.inner.isolated.store(true, Ordering::Release);
        Apart(self.clone())
    }

    /// Returns whether a process of its own runs it.
    pub(crate) fn is_isolated(&self) -> bool {
        self.inner.isolated.load(Ordering::Acquire)
    }

    /// Notes which process runs it.
    pub(crate) fn runs_in(&self, process: Arc<dyn AttemptProcess>) {
        self.inner.reins.take_up(process);
    }

    /// Forgets which process runs it; returns whether that was killed meanwhile.
    pub(crate) fn leaves_process(&self) -> bool {
        self.inner.reins.let_go()
    }

    /// Returns whether a process that is known runs it.
    pub(crate) fn has_process(&self) -> bool {
        self.inner.reins.is_held()
    }

    /// Asks its process to end, if it has one and was not asked before.
    pub(crate) fn ask_process(&self) {
        self.inner.reins.ask();
    }

    /// Ends its process, if it has one, or when it gets one.
    pub(crate) fn kill_process(&self) {
        self.inner.reins.kill();
    }

    /// Returns by how much it has overstayed its hard limit.
    pub(crate) fn overdue(&self) -> Duration {
        self.elapsed().saturating_sub(self.inner.limits.hard)
    }

    /// Completes when the runtime has aborted the attempt, with why.
    pub(crate) async fn until_aborted(&self) -> Abort {
        loop {
            let notified = self.inner.notify.notified();
            if let Some(why) = self.aborted() {
                return why;
            }
            notified.await;
        }
    }

    /// Asks the task to stop.
    pub(crate) fn cancel(&self) {
        self.inner.cancelled.store(true, Ordering::Release);
        self.inner.notify.notify_waiters();
    }

    /// Has the consumer drop the task's future at its next poll, which this wakes. The first reason stays. Its process is
    /// ended at once, whatever becomes of the thread that polls it, but at a hard limit: there it has a moment.
    pub(crate) fn abort(&self, why: Abort) {
        let reason = why as u8;
        // Failing means that somebody else aborted it before: that one's reason holds.
        let _ = self
            .inner
            .aborted
            .compare_exchange(0, reason, Ordering::AcqRel, Ordering::Acquire);
        // After the reason is there: whoever this wakes looks for it.
        self.cancel();
        if why != Abort::HardLimit {
            self.kill_process();
        }
        self.inner.waker.wake();
    }

    /// Returns why the attempt was aborted, if it was.
    pub(crate) fn aborted(&self) -> Option<Abort> {
        match self.inner.aborted.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Abort::HardLimit),
            3 => Some(Abort::Revoked),
            _ => Some(Abort::Released),
        }
    }

    /// Returns ready once the attempt was aborted, and wakes the task when that happens.
    pub(crate) fn poll_aborted(&self, cx: &Context<'_>) -> Poll<Abort> {
        self.inner.waker.register(cx.waker());
        self.aborted().map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns whether blocking work of it runs or waits, even if its future was dropped.
    pub(crate) fn is_blocking(&self) -> bool {
        self.inner.blocking.load(Ordering::Acquire) > 0
    }

    /// Completes when no blocking work of it runs or waits. For who polls the attempt, once its future was dropped.
    pub(crate) async fn unblocked(&self) {
        poll_fn(|cx| {
            // Registered before it looks, so that work which ends in between is not missed.
            self.inner.waker.register(cx.waker());
            if self.is_blocking() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Keeps the right to be the one suspect that runs, until the attempt has ended or was taken from its thread.
    pub(crate) fn enter_gate(&self, pass: GatePass) {
        *self
            .inner
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(pass);
    }

    /// Lets the next suspect in, if this one was in the gate.
    pub(crate) fn leave_gate(&self) {
        let pass = self
            .inner
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(pass);
    }

    /// Remembers the panic that killed the actor which had this attempt in its hands.
    pub(crate) fn accuse(&self, panic: Option<SharedPanic>) {
        self.set_phase(Phase::Culprit);
        *self
            .inner
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = panic;
    }

    pub(crate) fn accusation(&self) -> Option<SharedPanic> {
        self.inner
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
