//! What the API shows and changes, on a real daemon: tasks, dead letters, breakers, events, and the record of it all.

use std::io::{BufRead as _, BufReader, Write};

use celeriac::store::{Store, StoreOptions, StoreUrl};
use serde_json::{Value, json};

use crate::cli_support::Place;
use crate::http_support::{Site, filled, routes};

fn enqueue(site: &Site, body: &Value) -> String {
    let said = site.post("/api/v1/tasks", &body.to_string()).done();
    said["id"].as_str().unwrap().to_owned()
}

fn audit(site: &Site) -> Vec<(String, String)> {
    let entries = site.get("/api/v1/audit?limit=100").done()["entries"].clone();
    let entries = entries.as_array().unwrap().iter();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    entries
        .map(|entry| (text(entry, "action"), text(entry, "actor")))
        .collect()
}

/// Reads the ids of all pages, none longer than asked for.
fn pages(site: &Site, path: &str, limit: usize) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = site.get(&format!("{path}{after}")).done();
        let rows = page["tasks"].as_array().unwrap();
        assert!(rows.len() <= limit);
        seen.extend(
            rows.iter()
                .map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return seen,
        }
    }
}

#[test]
fn tasks_are_added_found_and_revoked() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    assert_eq!(site.get("/livez").done(), json!({ "live": true }));
    place.until("it is ready", || site.get("/readyz").status == 200);
    let done = enqueue(
        &site,
        &json!({ "task": "demo.echo", "args": { "value": "<b>" } }),
    );
    place.until("it has run", || {
        let counted = site.get("/api/v1/queues").done();
        counted["queues"]
            .as_array()
            .unwrap()
            .iter()
            .any(|queue| queue["counters"]["succeeded"] == 1)
    });
    // Its end is not kept, since nobody waits for it: it may be gone, and the answer says how far one looked.
    let gone = site.get(&format!("/api/v1/tasks/{done}"));
    assert!(matches!(gone.status, 200 | 404), "{gone:?}");

    let queue = site.post("/api/v1/queues/billing/pause", "").done();
    assert_eq!(queue, json!({ "queue": "billing", "paused": true }));
    let ids: Vec<String> = (0..7)
        .map(|value| {
            enqueue(
                &site,
                &json!({ "task": "demo.echo", "queue": "billing", "args": { "value": value } }),
            )
        })
        .collect();
    let seen = pages(&site, "/api/v1/tasks?state=ready&limit=3", 3);
    assert_eq!(seen, ids);
    let shown = site.get(&format!("/api/v1/tasks/{}", ids[0])).done();
    assert_eq!(
        (&shown["state"], &shown["args"]["value"]),
        (&json!("ready"), &json!(0))
    );
    let revoked = site
        .post(
            &format!("/api/v1/tasks/{}/revoke", ids[0]),
            "{\"terminate\":true}",
        )
        .done();
    assert_eq!(revoked["found"], "ready");
    let rule = site
        .post(
            "/api/v1/revocations",
            r#"{"task":"demo.echo","queue":"billing"}"#,
        )
        .done();
    assert!(rule["found"]["ready"].as_u64().unwrap() >= 6, "{rule}");
    site.post("/api/v1/queues/billing/resume", "").done();
    place.until("all are cancelled", || {
        let all = site.get("/api/v1/overview").done();
        all["queues"]
            .as_array()
            .unwrap()
            .iter()
            .any(|queue| queue["counters"]["cancelled"] == 7)
    });
    let (actions, actors): (Vec<String>, Vec<String>) = audit(&site).into_iter().unzip();
    let count = |action: &str| actions.iter().filter(|it| *it == action).count();
    let counts = ["task.enqueue", "task.revoke", "queue.pause", "queue.resume"].map(count);
    assert_eq!(counts, [8, 2, 1, 1], "{actions:?}");
    assert!(
        actors.iter().all(|actor| actor == "http:anyone@127.0.0.1"),
        "{actors:?}"
    );
}

#[test]
fn what_is_due_next_comes_first_across_queues() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let mut due = Vec::new();
    for number in 0..9_u32 {
        let queue = ["billing", "kyb", "default"][number as usize % 3];
        let minutes = 1_000 + (number * 7) % 9;
        let id = enqueue(
            &site,
            &json!({
                "task": "demo.echo", "queue": queue, "args": { "value": 1 }, "countdown": format!("{minutes}m"),
            }),
        );
        due.push((minutes, id));
    }
    due.sort();
    let expected: Vec<String> = due.into_iter().map(|(_, id)| id).collect();
    for limit in [1, 2, 4, 100] {
        let seen = pages(&site, &format!("/api/v1/scheduled?limit={limit}"), limit);
        assert_eq!(seen, expected, "{limit} a page");
    }
}

#[test]
fn dead_letters_are_revived_discarded_and_deleted() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    for _ in 0..3 {
        enqueue(&site, &json!({ "task": "demo.fail", "max_attempts": 1 }));
    }
    let stats = || site.get("/api/v1/dead/stats").done();
    place.until("three are dead", || stats()["total"] == 3);
    let page = site
        .get("/api/v1/dead?limit=2&task=demo.fail&status=new")
        .done();
    let letters = page["letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = site
        .get(&format!(
            "/api/v1/dead?limit=2&task=demo.fail&status=new&after={next}"
        ))
        .done();
    assert_eq!(
        (rest["letters"].as_array().unwrap().len(), &rest["next"]),
        (1, &Value::Null)
    );
    let id = letters[0]["id"].as_str().unwrap();
    let shown = site.get(&format!("/api/v1/dead/letters/{id}")).done();
    assert_eq!(shown["task"], "demo.fail");
    let revived = site
        .post(&format!("/api/v1/dead/letters/{id}/revive"), "")
        .done();
    assert_eq!(revived["outcome"], "revived");
    let again = site.post(&format!("/api/v1/dead/letters/{id}/revive"), "");
    assert_eq!(again.status, 409, "{again:?}");
    place.until("it has died again", || stats()["total"] == 4);
    let many = site
        .post("/api/v1/dead/revive", r#"{"task":"demo.fail","limit":1}"#)
        .done();
    assert_eq!(many["revived"].as_array().unwrap().len(), 1);
    place.until("that one has, too", || stats()["total"] == 5);
    let discarded = site
        .post("/api/v1/dead/discard", r#"{"since":"1h"}"#)
        .done();
    assert_eq!(
        discarded["discarded"].as_array().unwrap().len(),
        3,
        "{discarded}"
    );
    let purged = site.post("/api/v1/dead/purge", r#"{"all":true}"#).done();
    assert_eq!(
        (&purged["purged"], &stats()["total"]),
        (&json!(5), &json!(0))
    );
    let actions: Vec<String> = audit(&site).into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        actions[..3],
        ["dead.purge", "dead.discard", "dead.revive"],
        "{actions:?}"
    );
}

#[test]
fn breakers_are_opened_and_closed_by_hand() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let opened = site
        .post("/api/v1/breakers/stripe/open", r#"{"for":"10m"}"#)
        .done();
    assert_eq!(
        (&opened["state"], &opened["changed"]),
        (&json!("open"), &json!(true))
    );
    assert_eq!(
        site.get("/api/v1/breakers/stripe").done()["by"],
        "http:anyone@127.0.0.1"
    );
    assert_eq!(
        site.post("/api/v1/breakers/stripe/close", "").done()["changed"],
        true
    );
    assert_eq!(
        site.post("/api/v1/breakers/stripe/close", "").done()["changed"],
        false
    );
    assert_eq!(site.get("/api/v1/breakers/nobody").status, 404);
    let path = "/api/v1/breakers/nobody/close";
    assert_eq!(site.post(path, "").status, 404);
    for length in ["1ms", "366days"] {
        let body = json!({ "for": length }).to_string();
        let refused = site.post("/api/v1/breakers/stripe/open", &body);
        assert_eq!(refused.status, 400, "{refused:?}");
    }
    assert_eq!(
        site.post("/api/v1/breakers/stripe/open", r#"{"for":"soon"}"#)
            .status,
        400
    );
    let actions: Vec<String> = audit(&site).into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, ["breaker.close", "breaker.open"]);
}

#[test]
fn a_queue_is_purged_of_what_was_asked_for() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    site.post("/api/v1/queues/billing/pause", "").done();
    for countdown in [None, None, Some("1h")] {
        let args = json!({ "value": 1 });
        let mut task = json!({ "task": "demo.echo", "queue": "billing", "args": args });
        if let Some(countdown) = countdown {
            task["countdown"] = json!(countdown);
        }
        enqueue(&site, &task);
    }
    let purge = |body| site.post("/api/v1/queues/billing/purge", body);
    assert_eq!(purge(r#"{"active":true}"#).status, 400);
    let first = purge("").done();
    let counts =
        |purged: u64| json!({ "queue": "billing", "purged": purged, "at_least": false, "left": 0 });
    assert_eq!(first, counts(2));
    assert_eq!(purge(r#"{"scheduled":true}"#).done(), counts(1));
    assert_eq!(purge("").done(), counts(0));
    let unknown = site.post("/api/v1/queues/nobody/purge", "");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    let actions: Vec<String> = audit(&site).into_iter().map(|(action, _)| action).collect();
    let purges = actions.iter().filter(|action| *action == "queue.purge");
    assert_eq!(purges.count(), 2, "{actions:?}");
}

#[test]
fn events_tell_of_tasks_as_they_happen() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    assert_eq!(site.get("/api/v1/events?kinds=all").status, 400);
    let mut stream = site.connect();
    let request = format!(
        "GET /api/v1/events?kinds=task HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("retry:")));
    let id = enqueue(
        &site,
        &json!({ "task": "demo.echo", "args": { "value": 1 } }),
    );
    let ended = lines
        .find(|line| line.contains(&id) && line.contains("\"event\":\"ended\""))
        .unwrap();
    assert!(ended.contains("\"outcome\":\"succeeded\""), "{ended}");
}

#[test]
fn hostile_names_change_nothing_and_break_nothing() {
    let place = Place::new();
    let (site, daemon) = Site::start(&place, &[]);
    let document = site.get("/api/v1/openapi.json").done();
    let megabyte = "x".repeat(1 << 20);
    let hostile = [
        "<script>alert(1)</script>",
        "'; DROP TABLE audit; --",
        "a\u{1b}[31m\r\nX: 1\0",
        &megabyte[..],
    ];
    let escaped = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    for (method, path, _) in routes(&document) {
        let operation = &document["paths"][&path][method.to_ascii_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        for text in hostile {
            let short: String = text.chars().take(1_500).collect();
            if path.contains('{') {
                let reply = site.send(&method, &filled(&path, &escaped(&short)), &[], None);
                assert!(
                    (400..500).contains(&reply.status),
                    "{method} {path} {short:?}: {reply:?}"
                );
                assert!(
                    !reply.body.contains('\u{1b}') && reply.head.contains("problem+json"),
                    "{reply:?}"
                );
            }
            for parameter in operation["parameters"].as_array().unwrap() {
                let name = parameter["name"].as_str().unwrap();
                if parameter["in"] == "query" && path != "/api/v1/events" {
                    let at = format!("{}?{name}={}", filled(&path, "x"), escaped(&short));
                    let reply = site.send(&method, &at, &[], None);
                    let fine = (400..500).contains(&reply.status) || reply.status == 200;
                    assert!(fine, "{method} {path} {name}: {reply:?}");
                }
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let mut body = json!({ name: text });
                if path == "/api/v1/tasks" && name != "task" {
                    body["task"] = json!("demo.echo");
                }
                let reply = site.post(&filled(&path, "stripe"), &body.to_string());
                assert!(
                    (400..500).contains(&reply.status),
                    "{path} {name} {property}: {reply:?}"
                );
                assert!(
                    !reply.body.contains("unknown field"),
                    "{path} {name}: {reply:?}"
                );
                assert!(
                    reply.body.len() < 8_192 && !reply.body.contains('\u{1b}'),
                    "{path} {name}"
                );
            }
        }
    }
    assert_eq!(audit(&site), [], "nothing was changed");
    assert_eq!(site.get("/readyz").status, 200);
    drop(daemon);
    let url = StoreUrl::file(place.data().join("store.db"));
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert!(runtime.block_on(store.audit(None, 10)).unwrap().is_empty());
}
