//! The keeper: the thread that spawns children, reads what they write and waits for their ends.
//!
//! It lives as long as its nursery: the kernel ends children with the thread that spawned them.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use slog::{Logger, warn};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::hatch::{Ending, hatch, wait_for};
use super::nursery::{Child, Nestling, Shared};

/// How often the memory of children at work is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What the keeper is asked for.
pub(super) enum Errand {
    /// A child.
    Hatch(oneshot::Sender<io::Result<Child>>),
    /// A child for later.
    Ahead(Weak<Shared>),
    /// The end of a child that was killed or has died: to be waited for.
    Reap(Arc<Nestling>, Weak<Shared>, oneshot::Sender<Ending>),
}

/// Starts the keeper. It ends when nobody can ask it for anything any more.
pub(super) fn start(hello: Vec<u8>, log: Logger) -> io::Result<mpsc::Sender<Errand>> {
    let (errands, asked) = mpsc::channel(256);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("celeriac-nursery".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, keep(asked, hello.into(), log)))?;
    Ok(errands)
}

async fn keep(mut asked: mpsc::Receiver<Errand>, hello: Rc<[u8]>, log: Logger) {
    while let Some(errand) = asked.recv().await {
        match errand {
            Errand::Hatch(reply) => {
                let child = bring_up(&hello);
                if let Err(error) = &child {
                    warn!(log, "no child process could be started"; "error" => %error);
                }
                // Whoever wanted it may be gone: then it is dropped, and ends.
                drop(reply.send(child));
            }
            Errand::Ahead(nursery) => {
                if let (Ok(child), Some(nursery)) = (bring_up(&hello), nursery.upgrade()) {
                    nursery.take_in(child);
                }
            }
            Errand::Reap(nestling, nursery, reply) => {
                tokio::task::spawn_local(async move {
                    let ending = reap(&nestling).await;
                    if let Some(nursery) = nursery.upgrade() {
                        nursery.forget(&nestling);
                    }
                    drop(reply.send(ending));
                });
            }
        }
    }
}

fn bring_up(hello: &[u8]) -> io::Result<Child> {
    use std::io::Write as _;

    let mut hatched = hatch()?;
    // Its socket is empty and holds far more.
    hatched.socket.write_all(hello)?;
    let nestling = Arc::new(Nestling::new(hatched.process, hatched.output));
    for index in 0..2 {
        tokio::task::spawn_local(listen(Arc::clone(&nestling), index));
    }
    tokio::task::spawn_local(watch_memory(Arc::clone(&nestling)));
    Ok(Child::new(nestling, hatched.socket))
}

/// Reads what a child writes, for as long as it can write.
async fn listen(nestling: Arc<Nestling>, index: usize) {
    let Ok(pipe) = nestling.output.pipe(index).try_clone() else {
        return;
    };
    let Ok(pipe) = Receiver::from_owned_fd(pipe) else {
        return;
    };
    while pipe.readable().await.is_ok() {
        if !nestling.output.read(index, |buffer| pipe.try_read(buffer)) {
            return;
        }
        if nestling.is_reaped() {
            // What it left behind may hold the pipe open for ever.
            return;
        }
    }
}

/// Notes how much memory a child at work has.
async fn watch_memory(nestling: Arc<Nestling>) {
    while !nestling.is_reaped() {
        tokio::time::sleep(LOOK).await;
        if nestling.is_busy() {
            nestling.look_at_memory();
        }
    }
}

async fn reap(nestling: &Nestling) -> Ending {
    let Some(process) = nestling.take_process() else {
        return Ending {
            status: None,
            peak_memory: None,
        };
    };
    let reaped = Arc::clone(&nestling.reaped);
    let waited = tokio::task::spawn_blocking(move || wait_for(process, &reaped)).await;
    let unknown = |_| Ending {
        status: None,
        peak_memory: None,
    };
    nestling.correct(waited.unwrap_or_else(unknown))
}
