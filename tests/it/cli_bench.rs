//! `bench`: what it says, and that it leaves nothing behind.

use serde_json::Value;

use crate::cli_support::{Place, code, said};

/// Figures that every broker has.
const FIGURES: [&str; 8] = [
    "enqueue_per_s",
    "lifecycle_per_s",
    "latency_p50_us",
    "latency_p99_us",
    "latency_max_us",
    "stored_bytes_per_task",
    "scheduled_bytes_per_task",
    "daemon_cpu_us_per_task",
];

fn number(found: &Value, key: &str) -> f64 {
    found[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key} is no number: {found}"))
}

#[test]
fn figures_are_told_and_nothing_is_left() {
    let place = Place::new();
    let found = place.json(&[
        "bench", "--tasks", "2000", "--raw", "--rounds", "2", "--json",
    ]);
    for key in FIGURES {
        assert!(number(&found, key) > 0.0, "{key}: {found}");
    }
    let (p50, p99) = (
        number(&found, "latency_p50_us"),
        number(&found, "latency_p99_us"),
    );
    assert!(p50 <= p99 && p99 <= number(&found, "latency_max_us"));
    // A task is stored with its arguments of 200 bytes.
    assert!(number(&found, "stored_bytes_per_task") >= 200.0, "{found}");
    let ratio = number(&found, "lifecycle_per_s") / number(&found, "raw_lifecycle_per_s");
    assert!(
        (number(&found, "ratio_to_raw") - ratio).abs() < 1e-6,
        "{found}"
    );
    assert!(found["server_cpu_us_per_task"].is_null());
    assert_eq!(found["broker"]["kind"], "embedded");
    assert_eq!(found["broker"]["durability"], "power-safe");
    assert!(found["machine"]["cores"].as_u64().unwrap() > 0);
    for round in ["lifecycle_rounds", "raw_lifecycle_rounds"] {
        assert_eq!(found[round].as_array().unwrap().len(), 2);
    }
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn backlogs_are_measured_when_asked_for() {
    let place = Place::new();
    let few = ["bench", "--tasks", "1000", "--rounds", "1", "--rate", "200"];
    let more = ["--behind", "3000", "--scheduled", "500", "--json"];
    let found = place.json(&[&few[..], &more[..]].concat());
    assert!(number(&found["behind"], "cost_ratio") > 0.0, "{found}");
    assert!(number(&found["scheduled"], "ready_per_s") > 0.0, "{found}");
    assert!(found["raw_lifecycle_per_s"].is_null());
}

#[test]
fn tasks_of_others_stay() {
    let place = Place::new();
    place.lines(&["enqueue", "demo.echo", "--args", r#"{"value":1}"#]);
    place.lines(&["bench", "--tasks", "500", "--rounds", "1", "--rate", "100"]);
    let queues = place.json(&["queues", "--json"]);
    let all = queues["queues"].as_array().unwrap();
    let ready = all.iter().map(|queue| queue["ready"].as_u64().unwrap());
    assert_eq!(ready.sum::<u64>(), 1, "{queues}");
    assert!(
        all.iter().all(|queue| queue["queue"] != "bench"),
        "{queues}"
    );
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let place = Place::new();
    for arguments in [
        &["bench", "--tasks", "0"][..],
        &["bench", "--batch", "501"],
        &["bench", "--broker", "memory:"],
        &["bench", "--payload", "2000000", "--tasks", "1"],
    ] {
        let output = place.run(arguments);
        assert_ne!(code(&output), 0, "{arguments:?}");
        assert!(!said(&output).is_empty(), "{arguments:?}");
    }
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use crate::redis_resp::Reply;
    use crate::redis_server::{Persistence, RedisServer, ServerOptions};

    #[test]
    fn a_server_is_measured_and_keeps_nothing() {
        let server = RedisServer::start(ServerOptions::default());
        server.ask(&["SET", "of-somebody-else", "1"]);
        let (place, url) = (Place::new(), server.url());
        let load = [
            "bench", "--broker", &url, "--tasks", "2000", "--rounds", "1",
        ];
        let more = ["--raw", "--rate", "500", "--scheduled", "500", "--json"];
        let found = place.json(&[&load[..], &more[..]].concat());
        for key in FIGURES.into_iter().chain(["server_cpu_us_per_task"]) {
            // What the server frees meanwhile may be more than what so few tasks take.
            let is_memory = key.ends_with("_bytes_per_task");
            let figure = number(&found, key);
            assert!(figure > 0.0 || is_memory && figure == 0.0, "{key}: {found}");
        }
        assert!(number(&found, "ratio_to_raw") > 0.0, "{found}");
        assert_eq!(found["broker"]["kind"], "redis");
        let Reply::Array(keys) = server.ask(&["KEYS", "*"]) else {
            panic!("no keys");
        };
        let kept = keys.iter().map(Reply::text);
        // What is remembered of calls ends by itself.
        let kept = kept.filter(|key| server.ask(&["TTL", key]).text() == "-1");
        assert_eq!(kept.collect::<Vec<_>>(), ["of-somebody-else"]);
    }

    #[test]
    fn a_server_without_persistence_must_be_asked_for() {
        let server = RedisServer::start(ServerOptions {
            persistence: Persistence::None,
            ..ServerOptions::default()
        });
        let (place, url) = (Place::new(), server.url());
        let load = ["bench", "--broker", &url, "--tasks", "500", "--rounds", "1"];
        let few = [&load[..], &["--rate", "100", "--json"]].concat();
        let output = place.run(&few);
        assert_eq!(code(&output), 64, "{}", said(&output));
        let found = place.json(&[&few[..], &["--allow-volatile"]].concat());
        assert_eq!(found["broker"]["durability"], "volatile");
    }
}
