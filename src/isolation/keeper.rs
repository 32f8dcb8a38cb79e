//! The keeper: the thread that spawns children and reads what they write.
//!
//! It lives as long as its nursery: the kernel ends children with the thread that spawned them.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use slog::{Logger, warn};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::hatch::hatch;
use super::nestling::Nestling;
use super::nursery::{Child, Shared};

/// How often children are looked at: how much memory those at work have, and whether the others are there.
const LOOK: Duration = Duration::from_millis(250);

/// What the keeper needs for a child.
pub(super) struct Making {
    /// Which program a child runs.
    pub(super) program: PathBuf,
    /// What a child is told first.
    pub(super) hello: Vec<u8>,
    pub(super) log: Logger,
}

/// What the keeper is reached by.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Asks for a child.
    pub(super) asks: mpsc::Sender<Weak<Shared>>,
    /// Where its threads are that wait for the ends of children.
    pub(super) runtime: Handle,
}

/// Starts the keeper of at most `children` children. It ends when nobody can ask it for anything any more.
pub(super) fn start(making: Making, children: usize) -> io::Result<Keeper> {
    // One for each child that may be asked for.
    let (asks, asked) = mpsc::channel(children);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("celeriac-nursery".to_owned())
        .spawn(move || LocalSet::new().block_on(&runtime, keep(asked, making)))?;
    Ok(Keeper {
        asks,
        runtime: handle,
    })
}

async fn keep(mut asked: mpsc::Receiver<Weak<Shared>>, making: Making) {
    while let Some(nursery) = asked.recv().await {
        let Some(nursery) = nursery.upgrade() else {
            continue;
        };
        let child = hatch(&making.program, &making.hello);
        if let Err(error) = &child {
            warn!(making.log, "no child process could be started"; "error" => %error);
        }
        nursery.hatched(child.map(|hatched| {
            let nestling = Arc::new(Nestling::new(hatched.process, hatched.output));
            for index in 0..2 {
                tokio::task::spawn_local(listen(Arc::clone(&nestling), index));
            }
            let shared = Arc::downgrade(&nursery);
            tokio::task::spawn_local(watch(Arc::clone(&nestling), shared));
            Child::new(nestling, hatched.socket)
        }));
    }
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

/// Notes how much memory a child at work has, and has one waited for that died while it had nothing to do.
async fn watch(nestling: Arc<Nestling>, nursery: Weak<Shared>) {
    while !nestling.is_reaped() {
        tokio::time::sleep(LOOK).await;
        if nestling.is_busy() {
            nestling.look_at_memory();
        } else if let Some(nursery) = nursery.upgrade() {
            nursery.look_after(&nestling);
        }
    }
}
