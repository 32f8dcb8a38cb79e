//! A program that was started, until it has ended: with its exit status and the most memory it had.
//!
//! A thread waits for each, without taking the end away: whoever asks for it does that. As long as nobody has, its process
//! group is its own and can be signalled. One that nobody asks about any more is waited for all the same.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::context::AttemptProcess;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::oneshot;
use wait4::Wait4 as _;

use super::group::Leash;
use crate::isolation::memory;

/// How often its memory is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// How much stack the thread that waits has: it does nothing else.
const STACK: usize = 64 << 10;

/// A program that was started, the leader of a process group of its own. Dropping it kills that group.
pub(super) struct Process {
    pid: u32,
    end: oneshot::Receiver<Child>,
    /// By which others reach it too.
    leash: Arc<Leash>,
    /// The most memory that this process had when it began: the kernel counts that in.
    inherited: u64,
    /// The most memory it was seen with; 0 when nobody has looked.
    seen: u64,
}

/// Its three pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// How it ended.
pub(super) struct End {
    pub(super) status: ExitStatus,
    /// In bytes; `None` when nobody knows.
    pub(super) peak_memory: Option<u64>,
}

impl Process {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> io::Result<(Self, Pipes)> {
        let inherited = memory(std::process::id(), "VmHWM:").unwrap_or(0);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pid = child.id();
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (told, end) = oneshot::channel();
        let waiter = std::thread::Builder::new()
            .name("celeriac-program".to_owned())
            .stack_size(STACK);
        let leash = Arc::new(Leash::new(pid));
        let process = Self {
            pid,
            end,
            leash: Arc::clone(&leash),
            inherited,
            seen: 0,
        };
        // Without a thread it is killed as `process` is dropped, and is left behind as a zombie.
        waiter.spawn(move || {
            wait_for(pid);
            if let Err(mut child) = told.send(child) {
                // Killed, and nobody wants to know.
                let _status = leash.let_go(|| child.wait());
            }
        })?;
        let pipes = Pipes {
            stdin: stdin.map(ChildStdin::from_std).transpose()?,
            stdout: stdout.map(ChildStdout::from_std).transpose()?,
            stderr: stderr.map(ChildStderr::from_std).transpose()?,
        };
        Ok((process, pipes))
    }

    /// Returns by what it can be ended from anywhere, for as long as its number is its own.
    pub(super) fn leash(&self) -> Arc<dyn AttemptProcess> {
        Arc::clone(&self.leash) as _
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. Cancel-safe; not to be called again when it has returned.
    pub(super) async fn wait(&mut self) -> io::Result<End> {
        let gone = |_| io::Error::other("nobody waited for it");
        let mut child = (&mut self.end).await.map_err(gone)?;
        // It has ended: this does not block.
        let used = self.leash.let_go(|| child.wait4())?;
        let counted = Some(used.rusage.maxrss).filter(|peak| *peak > self.inherited);
        let seen = Some(self.seen).filter(|seen| *seen > 0);
        Ok(End {
            status: used.status,
            peak_memory: counted.or(seen),
        })
    }

    /// Notes how much memory it has.
    pub(super) fn look(&mut self) {
        let peak = memory(self.pid, "VmHWM:").unwrap_or(0);
        self.seen = self.seen.max(peak);
    }
}

impl Drop for Process {
    /// Takes everything it started along.
    fn drop(&mut self) {
        self.leash.signal(Signal::KILL);
        // One that had ended before anybody asked is waited for here: this does not block.
        self.end.close();
        if let Ok(mut child) = self.end.try_recv() {
            let _status = self.leash.let_go(|| child.wait());
        }
    }
}

/// Signals a program with everything it started.
pub(super) fn signal(group: u32, signal: Signal) {
    if let Some(group) = Pid::from_raw(group.cast_signed()) {
        // One that is gone needs none.
        let _gone = kill_process_group(group, signal);
    }
}

/// Returns when a child has ended; its status stays to be asked for.
fn wait_for(pid: u32) {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else {
        return;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(pid), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}
