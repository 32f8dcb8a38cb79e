//! Doorbells between the processes that share a data directory: one datagram socket each.
//!
//! After a commit that concerns others, its process sends every other one what it would tell its own waiters. A bell
//! that cannot be rung (full, gone) is no failure: the keeper of each process looks at the database once a second. The
//! socket of a process that died is removed by whoever finds that nobody listens.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::Wake;
use rustix::fs::{Mode, OFlags};

use super::board::Board;

/// The longest message; one that would be longer says `*`: look everywhere.
const MAX_MESSAGE: usize = 4_096;

/// This process's own bell.
#[derive(Debug)]
pub(super) struct Bell {
    socket: UnixDatagram,
    path: PathBuf,
    stopped: Arc<AtomicBool>,
}

/// Ends the listening of one's own bell.
#[derive(Debug)]
pub(super) struct Stop {
    socket: UnixDatagram,
    stopped: Arc<AtomicBool>,
}

impl Stop {
    /// Ends it.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // A socket that cannot be shut down is shut down already.
        drop(self.socket.shutdown(Shutdown::Both));
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// What the sender's commit caused.
    Wakes {
        /// Whom it wakes.
        wakes: Vec<Wake>,
        /// Whether results were kept.
        finished: bool,
    },
    /// Too much to say: look everywhere.
    Everything,
}

/// The directory of bells under a path short enough for a socket's address, whatever the real one is.
#[derive(Debug)]
struct Short {
    /// Keeps the path alive: it goes through this handle.
    _handle: std::os::fd::OwnedFd,
    path: PathBuf,
}

impl Short {
    fn of(directory: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let handle = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        Ok(Self {
            _handle: handle,
            path,
        })
    }
}

impl Bell {
    /// Hangs up a bell in `directory`.
    pub(super) fn hang(directory: &Path) -> io::Result<Self> {
        let short = Short::of(directory)?;
        let name = format!("{}.sock", uuid::Uuid::new_v4().simple());
        let socket = UnixDatagram::bind(short.path.join(&name))?;
        let path = directory.join(name);
        let stopped = Arc::default();
        Ok(Self {
            socket,
            path,
            stopped,
        })
    }

    /// Returns what ends its listening.
    pub(super) fn stop(&self) -> io::Result<Stop> {
        let stopped = Arc::clone(&self.stopped);
        let socket = self.socket.try_clone()?;
        Ok(Stop { socket, stopped })
    }

    /// Waits for the next message.
    pub(super) fn listen(&self) -> io::Result<Heard> {
        let mut buffer = [0; MAX_MESSAGE];
        let len = self.socket.recv(&mut buffer)?;
        Ok(decode(buffer.get(..len).unwrap_or_default()))
    }

    /// Returns the file name of the socket.
    pub(super) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Passes everything heard on to `board` until told to stop.
    pub(super) fn serve(&self, board: &Board, everything: impl Fn()) {
        while !self.stopped.load(Ordering::Relaxed) {
            match self.listen() {
                Ok(Heard::Everything) => everything(),
                Ok(Heard::Wakes { wakes, finished }) => {
                    board.ring(wakes);
                    if finished {
                        board.finished_somewhere();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// The bells of the other processes.
#[derive(Debug)]
pub(super) struct Ringer {
    directory: PathBuf,
    short: Short,
    own: String,
    socket: UnixDatagram,
    others: Vec<String>,
    seen: Option<(i64, i64)>,
}

impl Ringer {
    /// Prepares to ring the bells in `directory` except `own`.
    pub(super) fn new(directory: &Path, own: String) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            directory: directory.to_owned(),
            short: Short::of(directory)?,
            own,
            socket,
            others: Vec::new(),
            seen: None,
        })
    }

    /// Returns whether other processes share the directory.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Looks who is there, if the directory changed. `again` looks even if it seems unchanged.
    pub(super) fn refresh(&mut self, again: bool) {
        let Ok(metadata) = std::fs::metadata(&self.directory) else {
            return;
        };
        let changed = Some((metadata.mtime(), metadata.mtime_nsec()));
        if changed == self.seen && !again {
            return;
        }
        self.seen = changed;
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        self.others = names.filter(|name| *name != self.own).collect();
    }

    /// Tells the other processes.
    pub(super) fn ring(&mut self, wakes: &[Wake], finished: bool) {
        if wakes.is_empty() && !finished {
            return;
        }
        self.refresh(false);
        if self.others.is_empty() {
            return;
        }
        let message = encode(wakes, finished);
        for name in std::mem::take(&mut self.others) {
            let path = self.short.path.join(&name);
            match self.socket.send_to(&message, &path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    drop(std::fs::remove_file(self.directory.join(&name)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => self.others.push(name),
            }
        }
    }
}

fn encode(wakes: &[Wake], finished: bool) -> Vec<u8> {
    let mut message = String::new();
    for wake in wakes {
        let (kind, queue) = match wake {
            Wake::Ready(queue) => ('r', queue.as_str()),
            Wake::Due(queue) => ('d', queue.as_str()),
            Wake::Revoked(queue) => ('v', queue.as_str()),
            Wake::Dead => ('x', ""),
        };
        message.push(kind);
        message.push_str(queue);
        message.push('\n');
    }
    if finished {
        message.push_str("f\n");
    }
    if message.len() > MAX_MESSAGE {
        return b"*".to_vec();
    }
    message.into_bytes()
}

fn decode(message: &[u8]) -> Heard {
    let (mut wakes, mut finished) = (Vec::new(), false);
    for line in message.split(|byte| *byte == b'\n') {
        let Some((kind, rest)) = line.split_first() else {
            continue;
        };
        let queue = std::str::from_utf8(rest).ok();
        let queue = queue.and_then(|name| QueueName::new(name).ok());
        match (kind, queue) {
            (b'r', Some(queue)) => wakes.push(Wake::Ready(queue)),
            (b'd', Some(queue)) => wakes.push(Wake::Due(queue)),
            (b'v', Some(queue)) => wakes.push(Wake::Revoked(queue)),
            (b'x', _) => wakes.push(Wake::Dead),
            (b'f', _) => finished = true,
            // Another version may say more than we understand.
            _ => return Heard::Everything,
        }
    }
    Heard::Wakes { wakes, finished }
}

/// Lets `serve` run on a thread of its own.
pub(super) fn spawn(
    bell: Bell,
    board: Arc<Board>,
    everything: impl Fn() + Send + 'static,
) -> io::Result<std::thread::JoinHandle<()>> {
    let name = "celeriac-bell".to_owned();
    let thread = std::thread::Builder::new().name(name);
    thread.spawn(move || bell.serve(&board, everything))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_strange_ones_mean_everything() {
        let queue: QueueName = "emails".parse().unwrap();
        let wakes = vec![Wake::Ready(queue.clone()), Wake::Due(queue), Wake::Dead];
        let heard = decode(&encode(&wakes, true));
        assert_eq!(
            heard,
            Heard::Wakes {
                wakes,
                finished: true
            }
        );
        assert_eq!(decode(b"*"), Heard::Everything);
        assert_eq!(decode(b"zwhat\n"), Heard::Everything);
    }

    #[test]
    fn a_bell_is_heard_and_a_dead_one_is_taken_down() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let bell = Bell::hang(&deep).unwrap();
        drop(UnixDatagram::bind(Short::of(&deep).unwrap().path.join("dead.sock")).unwrap());
        let mut ringer = Ringer::new(&deep, "own".to_owned()).unwrap();
        ringer.ring(&[Wake::Dead], false);
        let wakes = vec![Wake::Dead];
        let finished = false;
        assert_eq!(bell.listen().unwrap(), Heard::Wakes { wakes, finished });
        assert!(ringer.has_others() && !deep.join("dead.sock").exists());
    }
}
