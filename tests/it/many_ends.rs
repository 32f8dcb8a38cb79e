//! Waiting for many tasks at once, and what tasks say of their progress: on real brokers, with a real worker.

use std::time::Duration;

use celeriac::app::App;
use celeriac::attempt::Attempt;
use celeriac::client::WaitError;
use celeriac::policy::{Policy, seconds};
use celeriac::producer::{EnqueueOptions, TaskHandle};
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::task::TaskError;
use celeriac_actors::ids::QueueName;
use serde::{Deserialize, Serialize};

use crate::cli_support::Place;
use crate::daemon::PATIENCE;

/// Returns its number; fails where that is a multiple of 100, never ends where it is `u64::MAX`.
#[derive(Clone, Serialize, Deserialize)]
struct Double(u64);
celeriac::task!(Double as "test.double" -> u64, Policy::default().max_attempts(1));

/// Reports its progress and waits until its file is there.
#[derive(Clone, Serialize, Deserialize)]
struct Import {
    until: std::path::PathBuf,
}
celeriac::task!(Import as "test.import" -> u64);

async fn double(attempt: Attempt<Double>) -> Result<u64, TaskError> {
    match attempt.args.0 {
        u64::MAX => std::future::pending().await,
        number if number % 100 == 0 => Err("a hundred".into()),
        number => Ok(2 * number),
    }
}

async fn import(attempt: Attempt<Import>) -> Result<u64, TaskError> {
    let mut looks = 0;
    while !attempt.args.until.exists() {
        looks += 1;
        attempt.progress(40, 100, "importing rows");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    attempt.progress(100, 100, "done");
    Ok(looks)
}

fn start(options: RuntimeOptions) -> Runtime {
    Runtime::start(App::new().task(double).task(import), options).unwrap()
}

/// Goal: the ends of more tasks than fit into one call come as they come, those of several queues too, and what does not
/// end is said to be late. Method: 1,200 tasks on two queues and one that never ends.
async fn all_ends_come(runtime: &Runtime) {
    let client = runtime.client();
    let wanted = || EnqueueOptions {
        want_outcome: true,
        ..EnqueueOptions::default()
    };
    let prepare = |number| client.producer().prepare(&Double(number), wanted());
    let mut handles = Vec::new();
    for first in [1, 401, 801] {
        let tasks: Result<Vec<_>, _> = (first..first + 400).map(prepare).collect();
        let tasks = tasks.unwrap();
        handles.extend(tasks.iter().map(|task| task.handle.clone()));
        client.producer().add(tasks).await.unwrap();
    }
    let elsewhere = EnqueueOptions {
        queue: Some(QueueName::new("billing").unwrap()),
        ..EnqueueOptions::default()
    };
    handles.push(
        client
            .enqueue_with(&Double(5_001), elsewhere)
            .await
            .unwrap(),
    );
    handles.push(handles[0].clone());
    let outputs = client.wait_all::<Double>(&handles, PATIENCE).await.unwrap();
    assert_eq!(outputs.len(), handles.len());
    for (at, output) in outputs.iter().enumerate() {
        match (at, output) {
            (1_200, output) => assert_eq!(*output.as_ref().unwrap(), 10_002),
            (1_201, output) => assert_eq!(*output.as_ref().unwrap(), 2),
            (at, Ok(output)) => assert_eq!(*output, 2 * (at as u64 + 1)),
            (at, Err(WaitError::Dead { failure, .. })) => {
                assert_eq!((at + 1) % 100, 0);
                assert_eq!(failure.as_ref().unwrap().message, "a hundred");
            }
            (at, Err(error)) => panic!("{at}: {error}"),
        }
    }

    let hangs = client.enqueue(&Double(u64::MAX)).await.unwrap();
    let next = client.enqueue(&Double(7)).await.unwrap();
    let both = [hangs.clone(), next];
    let any = client.wait_any::<Double>(&both, PATIENCE).await.unwrap();
    let (at, output) = any.unwrap();
    assert_eq!((at, output.unwrap()), (1, 14));
    let limit = Duration::from_millis(300);
    let late = client.wait_all::<Double>(&both, limit).await.unwrap();
    assert!(matches!(late[0], Err(WaitError::Timeout(id)) if id == hangs.id));
    assert!(matches!(late[1], Ok(14)));
    let late = client.wait_any::<Double>(&both[..1], limit).await;
    assert!(matches!(late, Err(WaitError::Timeout(_))), "{late:?}");
    let nothing: [TaskHandle; 0] = [];
    assert!(
        client
            .wait_any::<Double>(&nothing, limit)
            .await
            .unwrap()
            .is_none()
    );
    assert!(client.ends(&nothing, limit).next().await.is_none());
}

#[tokio::test]
async fn all_ends_come_from_the_embedded_broker() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = start(RuntimeOptions::embedded(directory.path()).unwrap());
    all_ends_come(&runtime).await;
    runtime.stop(Duration::ZERO).await;
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn all_ends_come_from_redis() {
    use celeriac::redis::{RedisBroker, RedisOptions};

    let server = crate::redis_server::RedisServer::start(Default::default());
    let id = celeriac::runtime::fresh_worker_id();
    let options = RedisOptions::new(&server.url()).unwrap().worker(id.clone());
    let broker = RedisBroker::open(options.allow_volatile(true)).unwrap();
    let runtime = start(RuntimeOptions::new(std::sync::Arc::new(broker), id));
    all_ends_come(&runtime).await;
    runtime.stop(Duration::ZERO).await;
}

/// Goal: how far a task has come is shown while it runs and kept when it has ended.
/// Method: a task that reports and waits for a file, and the commands of another process.
#[test]
fn progress_is_shown_while_a_task_runs_and_kept_when_it_ended() {
    let place = Place::new();
    place.lines(&["migrate"]);
    let runtime = start(RuntimeOptions::embedded(place.data()).unwrap());
    let client = runtime.client().sync().unwrap();
    let until = place.path().join("go");
    let task = Import {
        until: until.clone(),
    };
    let handle = client.enqueue(&task, EnqueueOptions::default()).unwrap();
    let id = handle.id.to_string();
    place.until("the progress is shown", || {
        let output = place.run(&["task", "show", &id, "--json"]);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown["progress"]["percent"] == 40 && shown["progress"]["note"] == "importing rows"
    });
    let shown = place.lines(&["task", "show", &id]).join("\n");
    assert!(
        shown.contains("40 of 100 (40 %): importing rows"),
        "{shown}"
    );
    std::fs::write(&until, "").unwrap();
    client.wait::<Import>(&handle, seconds(30)).unwrap();
    let kept = place.json(&["task", "show", &id, "--json"]);
    assert_eq!(kept["state"], "succeeded");
    assert_eq!(
        (&kept["progress"]["done"], &kept["progress"]["note"]),
        (&100.into(), &"done".into())
    );
}
