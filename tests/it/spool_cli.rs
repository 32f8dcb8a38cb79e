//! The spool from the command line: `enqueue`, `run`, `status` and `doctor` while the broker is away, locked or back.

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};
use crate::redis_server::{Persistence, RedisServer, ServerOptions};

/// A place whose configuration names a spool, and this broker.
fn place(broker: Option<&str>) -> Place {
    let place = Place::new();
    let mut config = "spool = \"spool/tasks.db\"\nspool_max = \"1MiB\"\n".to_owned();
    if let Some(broker) = broker {
        config.push_str(&format!("broker = \"{broker}\"\n"));
    }
    std::fs::write(place.path().join("celeriac.toml"), config).unwrap();
    place
}

/// Returns what a status says of the queue `default`.
fn default_of(status: &Value) -> &Value {
    let queues = status["queues"].as_array().unwrap();
    let found = queues.iter().find(|queue| queue["queue"] == "default");
    found.unwrap_or(&Value::Null)
}

fn echo(place: &Place, value: u32) -> std::process::Output {
    let args = json!({ "value": value }).to_string();
    place.run(&["enqueue", "demo.echo", "--args", &args])
}

#[test]
fn enqueueing_goes_on_while_the_server_is_away() {
    let mut server = RedisServer::start(ServerOptions {
        persistence: Persistence::AofAlways,
        ..ServerOptions::default()
    });
    let place = place(Some(&server.url()));
    server.kill();

    for (value, waits) in [(1, "spooled 1 task:"), (2, "spooled 2 tasks:")] {
        let output = echo(&place, value);
        assert_eq!(code(&output), 0, "{}", said(&output));
        assert!(said(&output).contains(waits), "{}", said(&output));
        assert!(!output.stdout.is_empty(), "its id is told");
    }
    let status = place.run(&["status", "--json"]);
    assert_eq!(code(&status), 69);
    let document: Value = serde_json::from_slice(&status.stderr).unwrap();
    assert_eq!(document["spool"]["tasks"], 2, "{document}");
    let doctor = String::from_utf8(place.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("2 tasks wait"), "{doctor}");

    server.restart();
    let output = echo(&place, 3);
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert!(!said(&output).contains("spooled"), "{}", said(&output));
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["spool"]["tasks"], 0, "{status}");
    assert_eq!(default_of(&status)["ready"], 3, "{status}");
    let page = place.lines(&["status"]).join("\n");
    assert!(page.contains("spool/tasks.db: empty"), "{page}");
}

/// Goal: who waits for the end of a spooled task gets it, once the broker is back.
#[test]
fn a_spooled_task_can_be_waited_for() {
    let mut server = RedisServer::start(ServerOptions {
        persistence: Persistence::AofAlways,
        ..ServerOptions::default()
    });
    let place = place(Some(&server.url()));
    server.kill();
    let mut command =
        place.command(&["enqueue", "demo.echo", "--args", r#"{"value":7}"#, "--wait"]);
    command.args(["--timeout", "60s"]);
    command.stdout(std::process::Stdio::piped());
    let waiting = command.spawn().unwrap();
    place.until("it is spooled", || {
        let status = place.run(&["status", "--json"]);
        let document: Value = serde_json::from_slice(&status.stderr).unwrap_or_default();
        document["spool"]["tasks"] == 1
    });
    server.restart();
    let _daemon = place.daemon(&[]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    let end: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&end["state"], &end["result"]),
        (&json!("succeeded"), &json!(7))
    );
}

/// Goal: an embedded broker that somebody keeps locked is away as well; the daemon relays what was spooled, and runs it.
#[test]
fn a_locked_embedded_broker_fills_the_spool_and_a_daemon_empties_it() {
    let place = place(None);
    place.lines(&["enqueue", "demo.echo", "--args", r#"{"value":0}"#]);
    let database = place.data().join("broker.db");
    let mut other = SqliteConnection::establish(database.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    for value in 1..3 {
        let output = echo(&place, value);
        assert_eq!(code(&output), 0, "{}", said(&output));
        assert!(said(&output).contains("spooled"), "{}", said(&output));
    }
    other.batch_execute("ROLLBACK").unwrap();
    let _daemon = place.daemon(&[]);
    place.until("all have run", || {
        let status = place.json(&["status", "--json"]);
        default_of(&status)["counters"]["succeeded"] == 3 && status["spool"]["tasks"] == 0
    });
    let status = place.json(&["status", "--json"]);
    assert_eq!(default_of(&status)["counters"]["enqueued"], 3, "{status}");
}

#[test]
fn errors_say_what_is_certain() {
    let mut server = RedisServer::start(ServerOptions::default());
    server.kill();
    // A spool of 1 MiB takes a thousand tasks.
    let spooling = place(Some(&server.url()));
    let many = [
        "enqueue",
        "demo.echo",
        "--args",
        r#"{"value":0}"#,
        "--count",
        "1001",
    ];
    let full = spooling.run(&many);
    assert_eq!(code(&full), 69, "{}", said(&full));
    let text = said(&full);
    for part in [
        "1000 accepted for certain, 0 unknown",
        "the spool is full",
        "spool_max",
        "certainly not there",
    ] {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    let json = spooling.run(&["--json", "enqueue", "demo.echo", "--args", r#"{"value":0}"#]);
    assert_eq!(code(&json), 69);
    let text = String::from_utf8(json.stderr).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["may_have_been_accepted"], false, "{text}");
}

/// Goal: a burst does not end before what the spool holds has been relayed, and run.
#[test]
fn a_burst_runs_what_the_spool_holds() {
    let mut server = RedisServer::start(ServerOptions::default());
    let place = place(Some(&server.url()));
    server.kill();
    let many = [
        "enqueue",
        "demo.echo",
        "--args",
        "{\"value\":1}",
        "--count",
        "900",
    ];
    assert_eq!(code(&place.run(&many)), 0);
    server.restart();
    let burst = place.run(&["run", "--demo", "--burst"]);
    assert_eq!(code(&burst), 0, "{}", said(&burst));
    let status = place.json(&["status", "--json"]);
    assert_eq!(status["spool"]["tasks"], 0, "{status}");
    assert_eq!(
        default_of(&status)["counters"]["succeeded"],
        900,
        "{status}"
    );
}
