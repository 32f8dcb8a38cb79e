//! `celeriac spool`: what the broker rejected for good is seen, put back and dropped.

use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};
use crate::redis_server::{RedisServer, ServerOptions};

/// A place whose spool holds two rejected tasks, for they are larger than its broker takes.
struct Rejecting {
    place: Place,
    server: RedisServer,
    large: String,
}

impl Rejecting {
    fn start() -> Self {
        // Digits that do not compress below a few KiB.
        let mut seed = 1_u64;
        let mut digits = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_string()
        };
        let mut all = Self {
            place: Place::new(),
            server: RedisServer::start(ServerOptions::default()),
            large: (0..1_000).map(|_| digits()).collect(),
        };
        all.configure("1MiB");
        assert!(all.list().is_empty(), "where no spool is yet");
        all.server.kill();
        all.echo(&json!(all.large), "2");
        all.echo(&json!("small"), "1");
        all.server.restart();
        all.configure("2KiB");
        all.place
            .until("what fits is relayed, and the rest put aside", || {
                all.echo(&json!("next"), "1");
                let spool = all.place.json(&["spool", "status", "--json"]);
                spool["rejected"] == 2 && spool["tasks"] == 0
            });
        all
    }

    fn configure(&self, max_frame: &str) {
        let config = format!(
            "spool = \"spool.db\"\nbroker = \"{}\"\nmax_frame = \"{max_frame}\"\n",
            self.server.url()
        );
        std::fs::write(self.place.path().join("celeriac.toml"), config).unwrap();
    }

    fn echo(&self, value: &Value, count: &str) {
        let args = json!({ "value": value }).to_string();
        let enqueue = ["enqueue", "demo.echo", "--args", &args, "--count", count];
        let output = self.place.run(&enqueue);
        assert_eq!(code(&output), 0, "{}", said(&output));
    }

    fn list(&self) -> Vec<Value> {
        let lines = self.place.lines(&["spool", "rejected", "list", "--json"]);
        let read = |line: &String| serde_json::from_str(line).unwrap();
        lines.iter().map(read).collect()
    }

    fn numbers(&self) -> Vec<String> {
        let number = |task: &Value| task["number"].to_string();
        self.list().iter().map(number).collect()
    }
}

#[test]
fn what_was_rejected_is_seen_with_its_reason() {
    let all = Rejecting::start();
    let doctor = String::from_utf8(all.place.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("celeriac spool rejected list"), "{doctor}");
    let rejected = all.list();
    assert_eq!(rejected.len(), 2, "{rejected:?}");
    assert_eq!(rejected[0]["task"], "demo.echo");
    let reason = rejected[0]["reason"].as_str().unwrap();
    assert!(reason.contains("allowed are 2048"), "{reason}");
    let table = all
        .place
        .lines(&["spool", "rejected", "list", "--limit", "1"]);
    assert!(
        table.len() == 2 && table[1].contains("demo.echo"),
        "{table:?}"
    );
    let number = &all.numbers()[0];
    let shown = all
        .place
        .json(&["spool", "rejected", "show", number, "--json"]);
    assert_eq!(shown["args"]["value"], all.large.as_str());
    assert_eq!(
        code(&all.place.run(&["spool", "rejected", "show", "9999"])),
        64
    );
}

#[test]
fn what_was_rejected_runs_once_the_reason_is_mended() {
    let all = Rejecting::start();
    let before = all.numbers();
    let back = all.place.lines(&["spool", "rejected", "retry", &before[0]]);
    assert!(back[0].contains("put back 1 task"), "{back:?}");
    all.place
        .until("it is rejected again, for nothing is mended", || {
            all.echo(&json!("next"), "1");
            all.list().len() == 2
        });
    let gone = all.place.run(&["spool", "rejected", "retry", &before[0]]);
    assert_eq!(code(&gone), 64, "it has another number now");

    all.configure("1MiB");
    all.place.lines(&["spool", "rejected", "retry", "--all"]);
    assert!(all.list().is_empty());
    let _daemon = all.place.daemon(&[]);
    all.place.until("all of them have run", || {
        let status = all.place.json(&["status", "--json"]);
        let queues = status["queues"].as_array().unwrap();
        let default = queues.iter().find(|queue| queue["queue"] == "default");
        status["spool"]["tasks"] == 0
            && default.is_some_and(|default| {
                let counted = &default["counters"];
                counted["enqueued"] == counted["succeeded"]
            })
    });
    assert!(all.list().is_empty());
}

#[test]
fn what_was_rejected_is_dropped_when_somebody_says_yes() {
    let all = Rejecting::start();
    let number = &all.numbers()[0];
    let unsaid = all.place.run(&["spool", "rejected", "drop", number]);
    assert_eq!(code(&unsaid), 64, "{}", said(&unsaid));
    assert_eq!(all.list().len(), 2);
    let drop = ["spool", "rejected", "drop", number, "--yes"];
    assert_eq!(all.place.lines(&drop), ["dropped 1 task"]);
    assert_eq!(code(&all.place.run(&drop)), 64, "it is not there any more");
    let rest = ["spool", "rejected", "drop", "--all", "--yes", "--json"];
    assert_eq!(all.place.json(&rest)["dropped"], 1);
    assert!(all.list().is_empty());
}

#[test]
fn without_a_spool_its_commands_say_how_to_have_one() {
    let place = Place::new();
    for command in [&["spool", "status"][..], &["spool", "rejected", "list"]] {
        let output = place.run(command);
        assert_eq!(code(&output), 64);
        let text = said(&output);
        assert!(text.contains("in the configuration names one"), "{text}");
    }
}
