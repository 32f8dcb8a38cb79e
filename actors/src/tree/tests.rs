//! The whole tree on the broker in memory. Each test says what it wants to see and how it provokes it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::attempt::Attempt;
use crate::ids::QueueName;
use crate::policy::Policy;
use crate::ports::QueueStatus;
use crate::task;
use crate::testkit::{PATIENCE, Rig, RigBuilder};

mod admission;
mod blocked;
mod canary;
mod ending;
mod hello;
mod isolated;
mod leaving;
mod limits;
mod lingering;
mod modes;
mod outages;
mod panics;
mod patience;
mod retries;
mod revival;
mod revocations;
mod sharing;
mod standby;

/// Runs `test` in an actix system, for at most three minutes.
fn run<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(async {
        let in_time = tokio::time::timeout(Duration::from_secs(180), test).await;
        in_time.expect("the test hangs")
    })
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A policy for impatient tests.
fn quick(attempts: u16) -> Policy {
    Policy::default()
        .max_attempts(attempts)
        .backoff(ms(1), ms(5))
}

/// A task that does nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Noop;
task!(Noop as "test.noop");

/// A task that waits, without blocking its thread, until the test opens the gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Hang;
task!(Hang as "test.hang");

/// What `Hang` waits for.
#[derive(Clone)]
struct Gate(watch::Sender<bool>);

impl Gate {
    fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }

    async fn opened(&self) {
        let mut open = self.0.subscribe();
        open.wait_for(|open| *open).await.unwrap();
    }
}

/// Counts who runs at the same time.
#[derive(Clone, Default)]
struct Crowd(Arc<(AtomicUsize, AtomicUsize)>);

impl Crowd {
    fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone())
    }

    fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

struct Inside(Crowd);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A door that blocks the threads of those who want to pass until it is open.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(shut, |open| !*open).unwrap());
    }
}

/// Opens the door when a test ends, however it ends: a thread that is blocked for good outlives it.
impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

struct OpenAtEnd(Door);

/// Says that something was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A rig with the tasks above.
fn rig(gate: &Gate) -> RigBuilder {
    Rig::builder()
        .state(gate.clone())
        .task(|_: Attempt<Noop>| async { Ok(()) })
        .task(|a: Attempt<Hang>| async move {
            a.state::<Gate>()?.opened().await;
            Ok(())
        })
}

async fn status(rig: &Rig, name: &str) -> QueueStatus {
    let found = rig
        .queues()
        .await
        .into_iter()
        .find(|q| q.queue == queue(name));
    found.unwrap()
}

/// Waits until the default queue looks as `looks` wants it.
async fn until(rig: &Rig, looks: impl Fn(&QueueStatus) -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !looks(&status(rig, "default").await) {
        let in_time = tokio::time::Instant::now() < deadline;
        assert!(in_time, "{}\n{}", rig.snapshot().await, rig.probe);
        tokio::time::sleep(ms(2)).await;
    }
}
