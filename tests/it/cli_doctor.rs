//! `celeriac doctor`: what it finds wrong, what it advises, and how it ends.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use crate::cli_dead_support::{Ran, Site};
use crate::daemon::eventually;

/// Returns the texts of one verdict about one thing.
fn texts(ran: &Ran, verdict: &str, check: &str) -> Vec<String> {
    let lines = ran.json().into_iter();
    let those = lines.filter(|line| line["verdict"] == verdict && line["check"] == check);
    those
        .map(|line| format!("{} {}", line["text"], line["advice"]))
        .collect()
}

#[test]
fn a_wrong_configuration_ends_with_64_and_every_mistake() {
    let site = Site::new();
    let file = site.home().join("celeriac.toml");
    std::fs::write(&file, "laese = \"9s\"\ngrace = 30\n").unwrap();
    let ran = site.run("doctor --json").expect(64);
    let mistakes = texts(&ran, "failure", "config");
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(
        mistakes
            .iter()
            .any(|text| text.contains("did you mean `lease`?"))
    );
    let redis = Site::new();
    let ran = redis
        .run("doctor --broker redis://localhost/one")
        .expect(64);
    assert!(ran.out.contains("failure  config"), "{}", ran.out);
    let ran = redis
        .run("doctor --broker redis://127.0.0.1:1?timeout=100ms")
        .expect(69);
    assert!(ran.out.contains("failure  broker"), "{}", ran.out);
    assert!(ran.out.contains("nothing was sent"), "{}", ran.out);
}

#[test]
fn where_nothing_is_yet_nothing_is_made() {
    let site = Site::new();
    let ran = site.run("doctor --json").expect(0);
    for check in ["files", "broker", "store"] {
        assert_eq!(
            texts(&ran, "warning", check).len(),
            1,
            "{check}: {}",
            ran.out
        );
    }
    assert!(!site.data().exists());
}

#[test]
fn one_queue_holds_and_two_hold() {
    let site = Site::new();
    for (enqueue, text) in [
        ("enqueue a.b", "1 queue holds 1 task"),
        ("enqueue billing.b", "2 queues hold 2 tasks"),
    ] {
        site.run(enqueue).expect(0);
        let said = texts(&site.run("doctor --json"), "ok", "queues");
        assert!(said[0].contains(text), "{said:?}");
    }
}

#[test]
fn doubtful_things_are_warned_of_with_advice() {
    let site = Site::new();
    site.run("migrate").expect(0);
    let store = site.data().join("store.db");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(
        site.home().join("celeriac.toml"),
        "lease = \"4s\"\nsweep = \"1s\"\n",
    )
    .unwrap();
    let ran = site.run("doctor --json").expect(0);
    let files = texts(&ran, "warning", "files");
    assert!(
        files[0].contains("store.db (644)") && files[0].contains("chmod"),
        "{files:?}"
    );
    assert!(
        texts(&ran, "warning", "config")[0].contains("lease"),
        "{}",
        ran.out
    );
    assert!(
        texts(&ran, "warning", "workers")[0].contains("celeriac run"),
        "{}",
        ran.out
    );
    assert!(
        texts(&ran, "ok", "broker")
            .iter()
            .any(|text| text.contains("power-safe"))
    );
    assert!(
        texts(&ran, "ok", "store")[0].contains(" migrations in place"),
        "{}",
        ran.out
    );
}

#[test]
fn a_damaged_broker_is_a_failure_of_the_data() {
    let site = Site::new();
    site.run("migrate").expect(0);
    let path = site.data().join("broker.db");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[4_096..end].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let ran = site.run("doctor --task --json").expect(69);
    assert!(!texts(&ran, "failure", "broker").is_empty(), "{}", ran.out);
    assert!(
        texts(&ran, "warning", "task")[0].contains("no task was sent"),
        "{}",
        ran.out
    );
}

#[test]
fn a_task_is_sent_through_a_runtime_of_its_own_where_no_worker_is() {
    let site = Site::new();
    site.run("migrate").expect(0);
    let ran = site.run("doctor --task --json").expect(0);
    let hops = texts(&ran, "ok", "task");
    for hop in ["acknowledged", "started", "finished", "result seen"] {
        assert!(
            hops.iter().any(|text| text.contains(hop)),
            "{hop}: {hops:?}"
        );
    }
    // Nobody else would know what the queue is for.
    let queues = site.run("queues").expect(0);
    assert!(!queues.out.contains("celeriac.doctor"), "{}", queues.out);
    let said = texts(&site.run("doctor --json"), "ok", "queues");
    assert!(said[0].contains("0 queues hold"), "{said:?}");
}

/// A daemon, killed when the test ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _over = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[tokio::test]
async fn a_task_is_sent_through_the_worker_that_runs_the_demo_tasks() {
    use celeriac_actors::ports::Broker as _;

    let site = Site::new();
    let mut command = site.command(&["run", "--demo"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _daemon = Daemon(child.unwrap());
    let broker = site.broker();
    eventually("the worker is up", async || {
        let workers = broker.workers().await.unwrap();
        workers.iter().any(|worker| worker.alive).then_some(())
    })
    .await;
    // It waits for a worker for three seconds only, which may not do for a worker that has just come up.
    let ran = eventually("a worker takes the task", async || {
        let ran = site.run("doctor --task --json").expect(0);
        let took = texts(&ran, "ok", "task");
        took.first()?.contains("by a worker").then_some(ran)
    })
    .await;
    assert!(
        texts(&ran, "ok", "workers")[0].contains("alive"),
        "{}",
        ran.out
    );
}
