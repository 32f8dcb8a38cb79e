//! What is sensitive is shown nowhere, by no program; and what a program does not know or take, it does not enqueue.

use std::sync::Arc;
use std::time::Duration;

use celeriac::client::Client;
use celeriac::producer::{EnqueueError, EnqueueOptions, ProducerOptions};
use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac::{App, Attempt, Task, TaskError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli_support::Place;

const SECRET: &str = "4111-1111-1111-1111";

#[derive(Serialize, Deserialize)]
struct Charge {
    order: u64,
    card: Card,
}

#[derive(Serialize, Deserialize)]
struct Card {
    number: String,
}

impl Task for Charge {
    const NAME: &'static str = "shop.charge";
    const SENSITIVE: &'static [&'static str] = &["card.number"];
    type Output = ();
}

fn charge() -> Charge {
    Charge {
        order: 7,
        card: Card {
            number: SECRET.to_owned(),
        },
    }
}

fn app() -> App {
    App::new().task(|_: Attempt<Charge>| async { Err::<(), _>(TaskError::permanent("declined")) })
}

/// Goal: neither where it waits nor where it lies dead is a sensitive argument shown, by a program that does not know the
/// task; the others are.
#[tokio::test]
async fn what_is_sensitive_is_not_shown() {
    let place = Place::new();
    let client = Client::embedded(place.data()).unwrap();
    let later = EnqueueOptions::default().countdown(Duration::from_secs(3_600));
    let waiting = client.enqueue_with(&charge(), later).await.unwrap();
    let dead = client.enqueue(&charge()).await.unwrap();
    std::fs::write(
        place.path().join("celeriac.toml"),
        "unknown_task_grace = \"1s\"\n",
    )
    .unwrap();
    // It does not know the task, and buries it.
    let _daemon = place.daemon(&[]);
    place.until("it is buried", || {
        let list = place.run(&["dead", "list", "--json"]);
        String::from_utf8_lossy(&list.stdout).contains("shop.charge")
    });
    let (waiting, dead) = (waiting.id.to_string(), dead.id.to_string());
    for arguments in [
        &["task", "show", &waiting][..],
        &["task", "show", &waiting, "--json"],
        &["task", "show", &dead],
        &["task", "show", &dead, "--json"],
        &["dead", "show", &dead],
        &["dead", "show", &dead, "--json"],
        &["dead", "list", "--json"],
    ] {
        let shown = place.lines(arguments).join("\n");
        assert!(!shown.contains(SECRET), "{arguments:?}: {shown}");
        assert!(shown.contains("[redacted]"), "{arguments:?}: {shown}");
        assert!(shown.contains('7'), "{arguments:?}: {shown}");
    }
    for arguments in [&["tasks"][..], &["dead", "list"], &["tasks", "--json"]] {
        let shown = place.lines(arguments).join("\n");
        assert!(!shown.contains(SECRET), "{arguments:?}: {shown}");
    }
}

/// Goal: a program that knows its tasks refuses others, and arguments that they do not take, with the place.
#[tokio::test]
async fn what_a_program_does_not_take_it_does_not_enqueue() {
    let place = Place::new();
    let broker = Arc::new(SqliteBroker::open(SqliteOptions::new(place.data())).unwrap());
    let options = ProducerOptions {
        known: Some(Arc::new(app().registry().clone())),
        ..ProducerOptions::default()
    };
    let client = Client::new(broker, Arc::new(celeriac::clock::SystemClock), options);
    let enqueue = async |task: &str, args: serde_json::Value| {
        let enqueued = client.enqueue_named(task, &args, EnqueueOptions::default());
        enqueued.await
    };
    let error = enqueue("shop.chrage", json!({})).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, EnqueueError::Unknown { .. }), "{said}");
    assert!(said.contains("did you mean `shop.charge`?"), "{said}");
    let wrong = json!({ "order": 7, "card": { "number": [SECRET] } });
    let error = enqueue("shop.charge", wrong).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, EnqueueError::Misfit { .. }), "{said}");
    assert!(
        said.contains("at `card.number`") && !said.contains(SECRET),
        "{said}"
    );
    let queues = client.broker().queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.ready).sum::<u64>(), 0);
    let right = json!({ "order": 7, "card": { "number": SECRET } });
    let handle = enqueue("shop.charge", right).await.unwrap();
    let shown = place
        .lines(&["task", "show", &handle.id.to_string()])
        .join("\n");
    assert!(
        !shown.contains(SECRET) && shown.contains("[redacted]"),
        "{shown}"
    );
}
