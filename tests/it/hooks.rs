//! Hooks and the chain around attempts, on a whole runtime.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use celeriac::hooks::{About, Enqueueing, Hooks};
use celeriac::ids::WorkerId;
use celeriac::policy::{Policy, seconds};
use celeriac::producer::{EnqueueError, EnqueueOptions};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::state::DeadReason;
use celeriac::{App, Attempt, Task, TaskError};
use serde::{Deserialize, Serialize};

use crate::daemon::PATIENCE;

#[derive(Serialize, Deserialize)]
struct Flaky;

impl Task for Flaky {
    const NAME: &'static str = "test.flaky";
    type Output = u16;

    fn policy() -> Policy {
        let (base, ceiling) = (Duration::from_millis(1), Duration::from_millis(2));
        Policy::default().max_attempts(3).backoff(base, ceiling)
    }
}

async fn flaky(attempt: Attempt<Flaky>) -> Result<u16, TaskError> {
    match attempt.number() {
        1 => Err("not yet".into()),
        number => Ok(number),
    }
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Writes down what it is told.
struct Scribe(Seen);

impl Scribe {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

#[async_trait]
impl Hooks for Scribe {
    async fn before_enqueue(&self, task: &Enqueueing) -> Result<(), String> {
        match task.headers.get("tenant") {
            Some(tenant) if tenant == "banned" => Err("the tenant is banned".to_owned()),
            _ => Ok(()),
        }
    }
    async fn received(&self, task: &About) {
        self.note(format!("received {}", task.attempt));
    }
    async fn started(&self, task: &About) {
        self.note(format!("started {}", task.attempt));
    }
    async fn succeeded(&self, task: &About, _: Duration) {
        self.note(format!("succeeded {}", task.attempt));
    }
    async fn failed(&self, task: &About, error: &str, _: Duration) {
        self.note(format!("failed {}: {error}", task.attempt));
    }
    async fn retried(&self, task: &About, _: Duration) {
        self.note(format!("retried {}", task.attempt));
    }
    async fn buried(&self, _: &About, reason: DeadReason, _: &str) {
        self.note(format!("buried: {reason}"));
    }
    async fn worker_ready(&self, _: &WorkerId) {
        self.note("ready".to_owned());
    }
    async fn worker_stopping(&self, _: &WorkerId) {
        self.note("stopping".to_owned());
    }
}

/// Panics whatever it is told.
struct Broken;

#[async_trait]
impl Hooks for Broken {
    async fn before_enqueue(&self, _: &Enqueueing) -> Result<(), String> {
        panic!("broken")
    }
    async fn started(&self, _: &About) {
        panic!("broken")
    }
    async fn worker_stopping(&self, _: &WorkerId) {
        panic!("broken")
    }
}

fn start(app: App) -> (Runtime, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = RuntimeOptions::embedded(directory.path()).unwrap();
    (Runtime::start(app, options).unwrap(), directory)
}

/// Goal: hooks hear everything in its order, and one that is broken keeps neither the tasks nor the others from anything.
#[tokio::test]
async fn hooks_hear_everything_in_order() {
    let seen = Seen::default();
    let app = App::new()
        .hooks(Broken)
        .hooks(Scribe(Arc::clone(&seen)))
        .task(flaky);
    let (runtime, _directory) = start(app);
    let client = runtime.client();
    let handle = client.enqueue(&Flaky).await.unwrap();
    assert_eq!(client.wait::<Flaky>(&handle, PATIENCE).await.unwrap(), 2);
    runtime.stop(seconds(10)).await;
    let expected = [
        "ready",
        "received 1",
        "started 1",
        "failed 1: not yet",
        "retried 1",
        "received 2",
        "started 2",
        "succeeded 2",
        "stopping",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_hook_vetoes_an_enqueue() {
    let app = App::new()
        .hooks(Broken)
        .hooks(Scribe(Seen::default()))
        .task(flaky);
    let (runtime, _directory) = start(app);
    let client = runtime.client();
    let banned = EnqueueOptions::default().header("tenant", "banned");
    let error = client.enqueue_with(&Flaky, banned).await.unwrap_err();
    assert!(matches!(error, EnqueueError::Vetoed { .. }), "{error}");
    assert!(
        error.to_string().contains("the tenant is banned"),
        "{error}"
    );
    let handle = client.enqueue(&Flaky).await.unwrap();
    assert_eq!(client.wait::<Flaky>(&handle, PATIENCE).await.unwrap(), 2);
    let queues = client.broker().queues().await.unwrap();
    let enqueued: u64 = queues.iter().map(|queue| queue.counters.enqueued).sum();
    assert_eq!(enqueued, 1);
    runtime.stop(seconds(10)).await;
}

/// Goal: the links run around each attempt, the first outermost, and one may end it instead of running the rest.
#[tokio::test]
async fn links_run_around_each_attempt() {
    let seen = Seen::default();
    let (outer, inner) = (Arc::clone(&seen), Arc::clone(&seen));
    let app = App::new()
        .wrap(move |attempt, next| {
            let seen = Arc::clone(&outer);
            async move {
                seen.lock()
                    .unwrap()
                    .push(format!("outer {}", attempt.number()));
                let done = next.run().await;
                seen.lock()
                    .unwrap()
                    .push(format!("outer ends {}", done.is_ok()));
                done
            }
        })
        .wrap(move |attempt, next| {
            let seen = Arc::clone(&inner);
            async move {
                if attempt.number() == 1 {
                    return Err("refused by the inner link".into());
                }
                seen.lock().unwrap().push("inner".to_owned());
                next.run().await
            }
        })
        .task(flaky);
    let (runtime, _directory) = start(app);
    let client = runtime.client();
    let handle = client.enqueue(&Flaky).await.unwrap();
    assert_eq!(client.wait::<Flaky>(&handle, PATIENCE).await.unwrap(), 2);
    let expected = [
        "outer 1",
        "outer ends false",
        "outer 2",
        "inner",
        "outer ends true",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    runtime.stop(seconds(10)).await;
}
