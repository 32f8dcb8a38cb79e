//! Results at a server of their own, as an operator sees them: while it is there, and while only it is away.

use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};
use crate::redis_server::{RedisServer, ServerOptions};

/// A broker, a server for its results, and a place that names both.
struct Pair {
    place: Place,
    _broker: RedisServer,
    results: RedisServer,
}

impl Pair {
    fn start() -> Self {
        let broker = RedisServer::start(ServerOptions::default());
        let results = RedisServer::start(ServerOptions::default());
        let place = Place::new();
        let config = format!(
            "broker = \"{}\"\n[results]\nurl = \"{}\"\n",
            broker.url(),
            results.url()
        );
        std::fs::write(place.path().join("celeriac.toml"), config).unwrap();
        Self {
            place,
            _broker: broker,
            results,
        }
    }

    /// Returns what the doctor says of the results, and how it ends.
    fn doctor(&self) -> (i32, Vec<Value>) {
        let output = self.place.run(&["doctor", "--json"]);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let about = lines.filter(|line: &Value| line["check"] == "results");
        (code(&output), about.collect())
    }
}

#[test]
fn the_doctor_looks_at_the_server_of_the_results() {
    let mut pair = Pair::start();
    let (code, findings) = pair.doctor();
    assert_eq!(code, 0, "{findings:?}");
    assert_eq!(findings.len(), 1, "{findings:?}");
    let text = findings[0]["text"].as_str().unwrap();
    assert!(text.contains(&pair.results.port.to_string()), "{text}");
    assert!(text.contains("survive its restart"), "{text}");

    pair.results.kill();
    let (code, findings) = pair.doctor();
    assert_eq!(code, 69, "{findings:?}");
    assert_eq!(findings[0]["verdict"], "failure");
    let text = findings[0]["text"].as_str().unwrap();
    for part in ["keeps the results is away", &pair.results.port.to_string()] {
        assert!(text.contains(part), "{text}");
    }
    let task = pair.place.lines_of(&["doctor", "--task"], 69).join("\n");
    assert!(task.contains("no task was sent"), "{task}");
}

#[test]
fn waiting_for_a_result_names_the_server_that_is_away() {
    let mut pair = Pair::start();
    pair.results.kill();
    let enqueue = ["enqueue", "demo.echo", "--args", r#"{"value":7}"#, "--wait"];
    let mut command = pair.place.command(&enqueue);
    let late = command.args(["--timeout", "1s"]).output().unwrap();
    assert_eq!(code(&late), 1, "{}", said(&late));
    for part in ["which keeps the results", &pair.results.port.to_string()] {
        assert!(said(&late).contains(part), "{part}: {}", said(&late));
    }
    // For as long as nobody says, it waits for no longer than a command waits for its broker.
    let given_up = pair.place.run(&enqueue);
    assert_eq!(code(&given_up), 69, "{}", said(&given_up));
    assert!(
        said(&given_up).contains("which keeps the results"),
        "{}",
        said(&given_up)
    );
}

/// Goal: a result that waits at the broker to be taken to its server is seen, although that server is away.
#[test]
fn a_result_on_its_way_is_seen_while_its_server_is_away() {
    let mut pair = Pair::start();
    let _daemon = pair.place.daemon(&[]);
    pair.results.kill();
    let enqueue = ["enqueue", "demo.echo", "--args", r#"{"value":7}"#, "--wait"];
    let end = pair.place.json(&enqueue);
    assert_eq!(
        (&end["state"], &end["result"]),
        (&json!("succeeded"), &json!(7))
    );
    let id = end["id"].as_str().unwrap();
    let shown = pair.place.json(&["task", "show", id, "--json"]);
    assert_eq!(shown["result"], 7, "{shown}");
}

#[test]
fn a_task_is_shown_although_its_result_cannot_be_read() {
    let mut pair = Pair::start();
    let id = pair
        .place
        .lines(&["enqueue", "demo.echo", "--args", r#"{"value":7}"#]);
    pair.results.kill();
    let shown = pair.place.json(&["task", "show", &id[0], "--json"]);
    assert_eq!(shown["state"], "ready", "{shown}");
    assert_eq!(shown["args"], json!({ "value": 7 }), "{shown}");
    let why = shown["result_unread"].as_str().unwrap();
    assert!(why.contains(&pair.results.port.to_string()), "{why}");
    let text = pair.place.lines(&["task", "show", &id[0]]).join("\n");
    assert!(text.contains("result_unread"), "{text}");

    let nobody = "01890000-0000-7000-8000-000000000000";
    let unknown = pair.place.run(&["task", "show", nobody]);
    assert_eq!(code(&unknown), 69, "{}", said(&unknown));
    for part in ["was not found", "which keeps the results"] {
        assert!(said(&unknown).contains(part), "{part}: {}", said(&unknown));
    }
}

/// Goal: a server that keeps tasks in memory only is warned of once.
#[test]
fn a_volatile_server_is_warned_of_once() {
    use crate::redis_server::Persistence;

    let server = RedisServer::start(ServerOptions {
        persistence: Persistence::None,
        ..ServerOptions::default()
    });
    let place = Place::new();
    let config = format!(
        "broker = \"{}\"\n[redis]\nallow_volatile = true\n",
        server.url()
    );
    std::fs::write(place.path().join("celeriac.toml"), config).unwrap();
    let output = place.run(&["doctor", "--task"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    let all = String::from_utf8(output.stdout.clone()).unwrap() + &said(&output);
    assert_eq!(all.matches("in memory only").count(), 1, "{all}");
    assert_eq!(all.matches("lost with").count(), 0, "{all}");
    let queues = place.json(&["queues", "--json"]);
    assert!(!queues.to_string().contains("celeriac.doctor"), "{queues}");
}
