//! `task revoke`: two daemons, tasks that wait, that are scheduled and that run; by id, kind and header; with restarts of
//! daemons and broker in between.

use celeriac::store::{Store, StoreOptions, StoreUrl};
use serde_json::{Value, json};

use crate::cli_support::{Place, code, said};

const AGES: &str = r#"{"ms":600000}"#;

/// Adds a task whose end is kept.
fn add(place: &Place, id: u8, flags: &[&str]) -> String {
    let id = format!("018f0000-0000-7000-8000-0000000000{id:02}");
    let add = ["enqueue", "demo.sleep", "--args", AGES, "--id", &id];
    let wait = ["--wait", "--timeout", "1ms"];
    let output = place.run(&[&add[..], &wait[..], flags].concat());
    assert_eq!(code(&output), 1, "{}", said(&output));
    id
}

fn show(place: &Place, id: &str) -> Value {
    let output = place.run(&["task", "show", id, "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn until_state(place: &Place, id: &str, state: &str) -> Value {
    place.until(&format!("{id} is {state}"), || {
        show(place, id)["state"] == state
    });
    show(place, id)
}

fn revoke(place: &Place, arguments: &[&str]) -> Value {
    place.json(&[&["task", "revoke", "--json"], arguments].concat())
}

/// Revokes what nobody runs, again until the search had the time to see all: on a loaded machine its 200 ms may pass.
fn revoke_waiting(place: &Place, id: &str) -> Value {
    let mut said = Value::Null;
    place.until("all is searched", || {
        let output = place.run(&["task", "revoke", "--json", id]);
        said = serde_json::from_slice(&output.stdout).unwrap();
        said["found"] != "not found"
    });
    said
}

/// Attempts that run, on either daemon, are asked to stop or ended.
fn running(place: &Place) {
    let daemons = (place.daemon(&[]), place.daemon(&[]));
    for (id, flags, message) in [
        (1, &[][..], "stopped as asked"),
        (2, &["--terminate"], "ended by a revocation while it ran"),
    ] {
        let id = add(place, id, &[]);
        until_state(place, &id, "active");
        let said = revoke(place, &[&[id.as_str()], flags].concat());
        assert!(
            said["found"].as_str().unwrap().starts_with("running on "),
            "{said}"
        );
        assert_eq!(
            (&said["queue"], &said["terminate"]),
            (&json!("default"), &json!(!flags.is_empty()))
        );
        let end = until_state(place, &id, "cancelled");
        assert_eq!(
            (&end["error"]["message"], &end["attempts"]),
            (&json!(message), &json!(1))
        );
        // Again: it is what was asked for.
        assert_eq!(revoke(place, &[&id])["found"], "cancelled");
    }
    drop(daemons);
}

/// What waits never starts, although daemons and broker were restarted since its revocation.
fn waiting(place: &Place, restart: impl FnOnce()) {
    let ready = add(place, 11, &[]);
    let scheduled = add(place, 12, &["--countdown", "1s"]);
    let far = add(place, 13, &["--countdown", "30days"]);
    let kept = add(place, 14, &["--header", "tenant=8"]);
    assert_eq!(revoke_waiting(place, &ready)["found"], "ready");
    assert_eq!(revoke_waiting(place, &scheduled)["found"], "scheduled");
    let said = revoke_waiting(place, &far);
    let (until, due) = (&said["remembered_until"], &said["due"]);
    assert!(until.as_str() > due.as_str(), "{said}");
    // It is there until its time comes, and shown as what it is.
    assert_eq!(show(place, &far)["revoked"], "revoked: will not start");
    assert_eq!(show(place, &kept)["revoked"], Value::Null);
    let listed = place.lines(&["tasks", "--state", "scheduled"]).join("\n");
    assert!(listed.contains("revoked: will not start"), "{listed}");
    restart();
    let daemons = (place.daemon(&[]), place.daemon(&[]));
    for id in [&ready, &scheduled] {
        let end = until_state(place, id, "cancelled");
        assert_eq!(end["attempts"], 0, "{end}");
    }
    until_state(place, &kept, "active");

    // By header, and by kind: what runs, what waits, and not what comes later.
    let mate = add(place, 15, &["--header", "tenant=8"]);
    let other = add(place, 16, &["--header", "tenant=9"]);
    until_state(place, &mate, "active");
    until_state(place, &other, "active");
    let said = revoke(place, &["--header", "tenant=8"]);
    assert_eq!(said["found"], json!({ "active": 2 }));
    until_state(place, &kept, "cancelled");
    until_state(place, &mate, "cancelled");
    assert_eq!(show(place, &other)["state"], "active");

    let soon = add(place, 17, &["--countdown", "1s"]);
    let said = revoke(place, &["--task", "demo.sleep", "--terminate"]);
    assert_eq!(said["found"]["active"], 1);
    if said["searched"] == said["of"] {
        assert_eq!(said["found"]["scheduled"], 2, "{said}");
    }
    until_state(place, &other, "cancelled");
    assert_eq!(until_state(place, &soon, "cancelled")["attempts"], 0);
    let later = [
        "enqueue",
        "demo.sleep",
        "--args",
        r#"{"ms":1}"#,
        "--wait",
        "--timeout",
        "30s",
    ];
    assert_eq!(code(&place.run(&later)), 0);
    drop(daemons);
}

#[test]
fn the_embedded_broker_tells_two_daemons() {
    let place = Place::new();
    running(&place);
    waiting(&place, || {});
}

#[test]
fn what_cannot_be_revoked_is_said() {
    let place = Place::new();
    place.lines(&["enqueue", "a.b"]);
    let id = "018f0000-0000-7000-8000-000000000099";
    let mut printed = Vec::new();
    let mut text = String::new();
    place.until("all is searched", || {
        let output = place.run(&["task", "revoke", id]);
        text = said(&output);
        printed = output.stdout.clone();
        code(&output) == 64
    });
    assert!(printed.is_empty(), "it is not said to be revoked");
    assert!(
        text.contains("was not found; searched 1 of 1 tasks. Should it come until 2"),
        "{text}"
    );
    assert!(text.contains("so long is its revocation kept"), "{text}");
    let typo = said(&place.run(&["task", "revoke", "--task", "demo.slep"]));
    assert!(typo.contains("no task `demo.slep` is stored"), "{typo}");
    assert!(typo.contains("did you mean `demo.sleep`?"), "{typo}");
    // It does, and is remembered.
    let daemon = place.daemon(&[]);
    let add = ["enqueue", "demo.echo", "--args", r#"{"value":1}"#];
    let late = place.run(&[&add[..], &["--id", id, "--wait", "--timeout", "30s"]].concat());
    assert_eq!(code(&late), 1);
    let end: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!(end["state"], "cancelled");

    let done = place.run(&[&add[..], &["--wait"]].concat());
    let end: Value = serde_json::from_slice(&done.stdout).unwrap();
    let output = place.run(&["task", "revoke", end["id"].as_str().unwrap()]);
    assert_eq!(code(&output), 64);
    assert!(said(&output).contains("has ended already (succeeded)"));
    drop(daemon);

    for (arguments, word) in [
        (&[][..], "required"),
        (&["7"], "no id of a task"),
        (&["--task", "a b"], "a task name consists of"),
        (&["--header", "tenant"], "KEY=VALUE"),
        (&["--task", "a", "--header", "b=c"], "cannot be used with"),
        (&[id, "--queue", "biling"], "did you mean `billing`?"),
    ] {
        let output = place.run(&[&["task", "revoke"], arguments].concat());
        assert_eq!(code(&output), 64, "{arguments:?}");
        assert!(
            said(&output).contains(word),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    let mut text = String::new();
    place.until("it is counted", || {
        text = place.lines(&["task", "revoke", "--task", "a.b"]).join("\n");
        text.contains(": 1 ")
    });
    assert!(text.contains("revoked tasks `a.b`"), "{text}");

    let url = StoreUrl::file(place.data().join("store.db"));
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let audit = runtime.unwrap().block_on(store.audit(None, 100)).unwrap();
    let entries: Vec<_> = audit.iter().map(|record| &record.entry).collect();
    assert!(entries.len() >= 3, "{entries:?}");
    assert!(entries.iter().all(|entry| entry.action == "task.revoke"));
    let of_id = entries.iter().find(|entry| entry.target == id).unwrap();
    assert_eq!(
        of_id.detail,
        "not found, attempts that run are asked to stop"
    );
}

#[cfg(feature = "redis")]
mod redis {
    use super::*;
    use crate::redis_server::{Persistence, RedisServer, ServerOptions};

    #[test]
    fn redis_tells_two_daemons() {
        let mut server = RedisServer::start(ServerOptions {
            persistence: Persistence::AofAlways,
            ..ServerOptions::default()
        });
        let place = Place::new();
        let config = format!("broker = \"{}\"\n", server.url());
        std::fs::write(place.path().join("celeriac.toml"), config).unwrap();
        running(&place);
        waiting(&place, || server.restart());
    }
}
