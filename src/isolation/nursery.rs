//! The nursery: the children of a worker, at most so many, kept for the next attempt.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::context::AttemptProcess;
use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::ports::ChildStatus;
use rustix::process::{Pid, Signal, kill_process};
use slog::Logger;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::IsolationOptions;
use super::hatch::Ending;
use super::keeper::{self, Errand};
use super::output::Output;
use super::wire::{Hello, Tag, frame_of};

/// How long the end of all children may take.
const CLOSING: Duration = Duration::from_secs(2);

/// The children of a worker. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Nursery {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: IsolationOptions,
    pub(super) host: String,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Child>>,
    all: Mutex<BTreeMap<u32, Arc<Nestling>>>,
    errands: mpsc::Sender<Errand>,
    closed: AtomicBool,
    gone: Notify,
    /// Whether children are started before they are needed.
    ahead: bool,
}

/// A child, for whoever may talk to it. Dropping it without giving it back leaves it to its nursery to end.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) nestling: Arc<Nestling>,
    pub(super) socket: UnixStream,
}

impl Child {
    pub(super) fn new(nestling: Arc<Nestling>, socket: UnixStream) -> Self {
        Self { nestling, socket }
    }

    /// Returns whether it is there, as far as can be told without asking it.
    fn is_alive(&self) -> bool {
        use rustix::net::{RecvFlags, recv};

        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0_u8; 1][..], flags) {
            Ok((_, 0)) => false,
            Ok(_) => true,
            Err(error) => error == rustix::io::Errno::AGAIN,
        }
    }
}

/// What is known of a child.
#[derive(Debug)]
pub(super) struct Nestling {
    pub(super) pid: u32,
    pub(super) output: Output,
    /// It was waited for. Locked while a signal is sent: until then nobody else has its process id.
    pub(super) reaped: Arc<Mutex<bool>>,
    process: Mutex<Option<process::Child>>,
    task: Mutex<Option<(TaskName, TaskId, Instant)>>,
    attempts: AtomicU64,
    /// The most memory it was seen with, in bytes; 0 when nobody has looked.
    seen: AtomicU64,
    /// The most memory that its parent had when it began: the kernel counts that in.
    inherited: u64,
}

impl Nestling {
    pub(super) fn new(process: process::Child, output: Output) -> Self {
        Self {
            pid: process.id(),
            output,
            reaped: Arc::default(),
            process: Mutex::new(Some(process)),
            task: Mutex::new(None),
            attempts: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            inherited: memory(process::id(), "VmHWM:").unwrap_or(0),
        }
    }

    pub(super) fn is_reaped(&self) -> bool {
        *lock(&self.reaped)
    }

    pub(super) fn is_busy(&self) -> bool {
        lock(&self.task).is_some()
    }

    pub(super) fn begin(&self, task: &TaskName, id: TaskId) {
        *lock(&self.task) = Some((task.clone(), id, Instant::now()));
    }

    /// Notes the end of its attempt; returns how many it has ended.
    pub(super) fn end(&self) -> u64 {
        *lock(&self.task) = None;
        self.attempts.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns whether it has not ended an attempt yet.
    pub(super) fn is_new(&self) -> bool {
        self.attempts.load(Ordering::Acquire) == 0
    }

    pub(super) fn take_process(&self) -> Option<process::Child> {
        lock(&self.process).take()
    }

    /// Sends it a signal, unless it may be gone.
    pub(super) fn signal(&self, signal: Signal) {
        let reaped = lock(&self.reaped);
        if !*reaped && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // One that has just ended needs no signal.
            let _gone = kill_process(pid, signal);
        }
    }

    pub(super) fn memory(&self) -> Option<u64> {
        memory(self.pid, "VmRSS:")
    }

    pub(super) fn look_at_memory(&self) {
        if let Some(peak) = memory(self.pid, "VmHWM:") {
            self.seen.fetch_max(peak, Ordering::AcqRel);
        }
    }

    /// Takes what its parent had out of its peak memory, as far as that can be told.
    pub(super) fn correct(&self, ending: Ending) -> Ending {
        let seen = Some(self.seen.load(Ordering::Acquire)).filter(|seen| *seen > 0);
        let peak_memory = match ending.peak_memory {
            Some(peak) if peak > self.inherited => Some(peak),
            peak => seen.or(peak),
        };
        Ending {
            peak_memory,
            ..ending
        }
    }

    fn status(&self) -> ChildStatus {
        let task = lock(&self.task).clone();
        let running = task.as_ref().map(|(_, _, since)| since.elapsed());
        ChildStatus {
            pid: self.pid,
            id: task.as_ref().map(|(_, id, _)| *id),
            task: task.map(|(task, ..)| task),
            running_ms: running.map(celeriac_actors::time::millis),
            attempts: self.attempts.load(Ordering::Acquire),
            memory: self.memory(),
        }
    }
}

/// Reads a line of what the kernel tells of a process, in bytes.
pub(crate) fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let found = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kibibytes: u64 = found.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A child on loan, with the place it takes up. Dropping it ends the child.
#[derive(Debug)]
pub(super) struct Loan {
    pub(super) socket: Option<UnixStream>,
    nestling: Arc<Nestling>,
    /// Whether its nursery has it back, or knows of its end.
    settled: bool,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

impl Nursery {
    /// Opens a nursery; starts its children when they are needed, or as many as there may be when `ahead`.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn open(
        options: IsolationOptions,
        hello: Hello,
        (host, log): (String, Logger),
        ahead: bool,
    ) -> io::Result<Self> {
        let hello = frame_of(Tag::Hello, &hello);
        let shared = Arc::new(Shared {
            places: Arc::new(Semaphore::new(options.children.max(1))),
            errands: keeper::start(hello, log)?,
            options,
            host,
            idle: Mutex::default(),
            all: Mutex::default(),
            closed: AtomicBool::new(false),
            gone: Notify::new(),
            ahead,
        });
        if ahead {
            shared.hatch_ahead();
        }
        Ok(Self { shared })
    }

    pub(super) fn statuses(&self) -> Vec<ChildStatus> {
        let all: Vec<_> = lock(&self.shared.all).values().cloned().collect();
        all.iter().map(|nestling| nestling.status()).collect()
    }

    pub(super) async fn close_all(&self) {
        let shared = &self.shared;
        shared.closed.store(true, Ordering::Release);
        shared.places.close();
        let idle = std::mem::take(&mut *lock(&shared.idle));
        drop(idle);
        for nestling in lock(&shared.all).values() {
            shared.end(nestling);
        }
        let all_gone = async {
            loop {
                let gone = shared.gone.notified();
                if lock(&shared.all).is_empty() {
                    return;
                }
                gone.await;
            }
        };
        // The kernel ends what is left with the process.
        let _in_time = tokio::time::timeout(CLOSING, all_gone).await;
    }
}

impl Shared {
    /// Lends a child, once there is a place for it; a new one if that is asked for.
    pub(super) async fn lend(self: &Arc<Self>, new: bool) -> Result<Loan, String> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| "the worker ends".to_owned())?;
        let loan = |Child { nestling, socket }| Loan {
            socket: Some(socket),
            nestling,
            settled: false,
            shared: Arc::clone(self),
            _place: place,
        };
        loop {
            let Some(child) = lock(&self.idle).pop() else {
                break;
            };
            if child.is_alive() && (child.nestling.is_new() || !new) {
                return Ok(loan(child));
            }
            self.end(&child.nestling);
        }
        let (reply, hatched) = oneshot::channel();
        let asked = self.errands.send(Errand::Hatch(reply)).await;
        asked.map_err(|_| "the nursery has ended".to_owned())?;
        match hatched.await {
            Ok(Ok(child)) => {
                lock(&self.all).insert(child.nestling.pid, Arc::clone(&child.nestling));
                Ok(loan(child))
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the nursery has ended".to_owned()),
        }
    }

    /// Takes in a child that was started for later.
    pub(super) fn take_in(&self, child: Child) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        lock(&self.all).insert(child.nestling.pid, Arc::clone(&child.nestling));
        lock(&self.idle).push(child);
    }

    /// Has children started for later, as many as there may be.
    fn hatch_ahead(self: &Arc<Self>) {
        let missing = self.options.children.saturating_sub(lock(&self.all).len());
        for _ in 0..missing {
            // One that is not started now is started when it is needed.
            let _asked = self.errands.try_send(Errand::Ahead(Arc::downgrade(self)));
        }
    }

    /// Kills a child and has it waited for.
    pub(super) fn end(self: &Arc<Self>, nestling: &Arc<Nestling>) -> oneshot::Receiver<Ending> {
        nestling.signal(Signal::KILL);
        let (reply, ending) = oneshot::channel();
        let errand = Errand::Reap(Arc::clone(nestling), Arc::downgrade(self), reply);
        if self.errands.try_send(errand).is_err() {
            self.forget(nestling);
        }
        ending
    }

    /// Forgets a child that is gone; starts another in its place where children are started ahead.
    pub(super) fn forget(self: &Arc<Self>, nestling: &Nestling) {
        lock(&self.all).remove(&nestling.pid);
        self.gone.notify_waiters();
        if self.ahead && !self.closed.load(Ordering::Acquire) {
            self.hatch_ahead();
        }
    }
}

impl Loan {
    pub(super) fn nestling(&self) -> Arc<Nestling> {
        Arc::clone(&self.nestling)
    }

    /// Gives the child back after an attempt, unless it has had enough.
    pub(super) fn give_back(self, socket: io::Result<UnixStream>) {
        let attempts = self.nestling.end();
        let options = &self.shared.options;
        let old = options
            .max_tasks_per_child
            .is_some_and(|max| attempts >= max);
        let large = || {
            let max = options.max_memory_per_child?;
            Some(self.nestling.memory()? > max)
        };
        if !old && !large().unwrap_or(false) {
            self.return_unused(socket);
        }
    }

    /// Gives the child back as it was.
    pub(super) fn return_unused(mut self, socket: io::Result<UnixStream>) {
        if let Ok(socket) = socket
            && !self.shared.closed.load(Ordering::Acquire)
        {
            self.settled = true;
            let nestling = Arc::clone(&self.nestling);
            lock(&self.shared.idle).push(Child { nestling, socket });
        }
    }

    /// Kills the child; returns how it ended.
    pub(super) async fn end(mut self) -> Ending {
        self.settled = true;
        let ending = self.shared.end(&self.nestling);
        ending.await.unwrap_or(Ending {
            status: None,
            peak_memory: None,
        })
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.settled {
            drop(self.shared.end(&self.nestling));
        }
    }
}

impl AttemptProcess for Nestling {
    fn ask(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Guarded values are replaced whole, so a poisoned one is still right.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
