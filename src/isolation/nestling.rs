//! What a worker knows of one of its children, from its start until it was waited for.

use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use celeriac_actors::context::AttemptProcess;
use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::ports::ChildStatus;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::Instant;

use super::hatch::Ending;
use super::nursery::lock;
use super::output::Output;

/// What is known of a child.
#[derive(Debug)]
pub(super) struct Nestling {
    pub(super) pid: u32,
    pub(super) output: Output,
    /// It was waited for. Locked while a signal is sent: until then nobody else has its process id.
    reaped: Mutex<bool>,
    /// Whether somebody has seen to its end.
    ending: AtomicBool,
    /// Whether it has said that it has its tasks, and runs one.
    begun: AtomicBool,
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
            reaped: Mutex::default(),
            ending: AtomicBool::new(false),
            begun: AtomicBool::new(false),
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

    /// Returns where it is noted that it was waited for.
    pub(super) const fn reaped(&self) -> &Mutex<bool> {
        &self.reaped
    }

    /// Returns whether somebody has seen to its end.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Notes that somebody sees to its end; returns its process the first time.
    pub(super) fn begin_ending(&self) -> Option<process::Child> {
        self.ending.store(true, Ordering::Release);
        lock(&self.process).take()
    }

    pub(super) fn set_begun(&self) {
        self.begun.store(true, Ordering::Release);
    }

    /// Returns whether it ever got as far as a task's code.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns whether it was ever given an attempt.
    pub(super) fn has_served(&self) -> bool {
        self.is_busy() || !self.is_new()
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

    /// Sends it a signal, unless it may be gone. What kills it kills what it started, too: it leads a group of its own.
    pub(super) fn signal(&self, signal: Signal) {
        let reaped = lock(&self.reaped);
        if !*reaped && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // One that has just ended needs no signal.
            let _gone = match signal {
                Signal::KILL => kill_process_group(pid, signal),
                signal => kill_process(pid, signal),
            };
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

    pub(super) fn status(&self) -> ChildStatus {
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

impl AttemptProcess for Nestling {
    fn ask(&self) {
        self.signal(Signal::TERM);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }
}

/// Reads a line of what the kernel tells of a process, in bytes.
pub(crate) fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let found = status.lines().find_map(|text| text.strip_prefix(line))?;
    let kibibytes: u64 = found.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
