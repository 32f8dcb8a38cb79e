//! Spawning one child, and waiting for its end.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::{fmt, io};

use super::entry::CHILD_OF;
use super::nursery::lock;
use super::output::Output;
use crate::exits;

/// What is left of spawning a child.
pub(super) struct Hatched {
    pub(super) process: Child,
    pub(super) socket: UnixStream,
    pub(super) output: Output,
}

/// Spawns a child that runs `program` and is told `hello`. Its kernel ends it with the thread that calls this.
pub(super) fn hatch(program: &Path, hello: &[u8]) -> io::Result<Hatched> {
    let (socket, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command
        .arg0("celeriac-child")
        .env(CHILD_OF, std::process::id().to_string())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What a terminal sends to the worker is not for its children.
        .process_group(0);
    let mut process = command.spawn()?;
    match equip(&mut process, &socket, hello) {
        Ok(output) => Ok(Hatched {
            process,
            socket,
            output,
        }),
        Err(error) => {
            // It has nothing yet that could keep it from ending at once.
            let _gone = process.kill();
            let _reaped = process.wait();
            Err(error)
        }
    }
}

fn equip(process: &mut Child, mut socket: &UnixStream, hello: &[u8]) -> io::Result<Output> {
    use io::Write as _;

    let pipes = match (process.stdout.take(), process.stderr.take()) {
        (Some(out), Some(err)) => [OwnedFd::from(out), OwnedFd::from(err)],
        _ => return Err(io::Error::other("the child has no output")),
    };
    for pipe in &pipes {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    socket.set_nonblocking(true)?;
    // Its socket is empty and holds far more.
    socket.write_all(hello)?;
    Ok(Output::new(pipes))
}

/// Returns the running program, which on Linux is there even when its file was replaced or removed.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() {
        Ok(own)
    } else {
        std::env::current_exe()
    }
}

/// How a child ended.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) status: Option<ExitStatus>,
    /// The most memory it ever had, in bytes.
    pub(super) peak_memory: Option<u64>,
}

/// Waits for the end of a child, and says so in `reaped` before anybody else can have its process id.
pub(super) fn wait_for(mut process: Child, reaped: &Mutex<bool>) -> Ending {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    use wait4::Wait4 as _;

    let id = WaitId::Pid(Pid::from_child(&process));
    let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while let Err(rustix::io::Errno::INTR) = waitid(id.clone(), only_look) {}
    let mut reaped = lock(reaped);
    let waited = process.wait4();
    *reaped = true;
    drop(reaped);
    match waited {
        Ok(used) => Ending {
            status: Some(used.status),
            peak_memory: Some(used.rusage.maxrss),
        },
        Err(_) => Ending {
            status: None,
            peak_memory: None,
        },
    }
}

/// The exit code of a child that could not begin its life. A task's code may end with it too, but not before its child has
/// said that it begins.
pub(super) const STILLBORN: u8 = 195;

impl Ending {
    /// Says how it ended when it was ended on purpose.
    pub(super) fn plain(&self) -> String {
        self.status.map_or_else(|| self.to_string(), exits::plain)
    }

    /// Returns whether it ended before it could do anything.
    pub(super) fn never_began(&self) -> bool {
        let code = self.status.and_then(|status| status.code());
        code == Some(STILLBORN.into())
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            None => f.write_str("nobody knows how"),
            Some(status) if status.code().is_some() => {
                write!(f, "{} before the attempt ended", exits::describe(status))
            }
            Some(status) => f.write_str(&exits::describe(status)),
        }
    }
}
