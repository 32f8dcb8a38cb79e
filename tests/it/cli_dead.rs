//! `celeriac dead …`: what the commands print, what they change, and how they fail.

use celeriac_actors::ports::{DeadFilter, DeadLetters as _, DeadStatus};
use celeriac_actors::state::DeadReason;

use crate::cli_dead_support::{Death, Site};

fn three_deaths() -> [Death; 3] {
    [
        Death::of("billing", "demo.charge", DeadReason::Exhausted),
        Death {
            message: "\u{1b}[2Jspoof\nsecond line",
            ..Death::of("kyb", "demo.check", DeadReason::Permanent)
        },
        Death {
            garbage: Some(b"{\"a\":1}".to_vec()),
            ..Death::of("billing", "demo.charge", DeadReason::Undecodable)
        },
    ]
}

pub(crate) async fn site() -> Site {
    let site = Site::new();
    site.bury(&three_deaths()).await;
    drop(site.store().await);
    site
}

/// The ids that `dead list --json` prints.
pub(crate) fn ids(site: &Site, filters: &str) -> Vec<String> {
    let ran = site.run(&format!("dead list --json {filters}")).expect(0);
    let id = |line: &serde_json::Value| line["id"].as_str().unwrap().to_owned();
    ran.json().iter().map(id).collect()
}

#[test]
fn without_a_store_nothing_is_made_and_the_message_says_what_to_do() {
    let site = Site::new();
    let ran = site.run("dead list").expect(69);
    assert!(ran.err.contains("celeriac migrate"), "{}", ran.err);
    assert!(!site.data().exists());
}

#[tokio::test]
async fn an_older_schema_is_refused_and_not_touched() {
    let site = site().await;
    let store = site.store().await;
    store.rollback_one().await.unwrap();
    let ran = site.run("dead list").expect(69);
    assert!(ran.err.contains("run `celeriac migrate`"), "{}", ran.err);
    assert!(store.check().await.is_err());
}

/// Goal: a store that somebody else keeps locked ends the command with 69, soon after the ten seconds.
#[tokio::test]
async fn a_locked_store_is_waited_for_and_given_up_on() {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    let site = site().await;
    let file = site.data().join("store.db");
    let mut other = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    // Copied before the lock, so that only the change itself meets it.
    assert_eq!(ids(&site, "").len(), 3);
    other.batch_execute("BEGIN EXCLUSIVE").unwrap();
    let begun = tokio::time::Instant::now();
    let ran = site.run("dead discard --all").expect(69);
    assert!(ran.err.contains("locked"), "{}", ran.err);
    let waited = begun.elapsed().as_secs();
    assert!((10..60).contains(&waited), "{waited} s");
    // A reader is not kept out.
    assert_eq!(ids(&site, "--status new").len(), 3);
}

/// Goal: a broker that is lost does not take the stored letters with it.
#[tokio::test]
async fn stored_letters_are_shown_beside_a_damaged_broker() {
    let site = site().await;
    assert_eq!(ids(&site, "").len(), 3);
    for log in ["broker.db-wal", "broker.db-shm"] {
        let _gone = std::fs::remove_file(site.data().join(log));
    }
    std::fs::write(site.data().join("broker.db"), [b'x'; 8192]).unwrap();
    let ran = site.run("dead list").expect(0);
    assert_eq!(ran.out.lines().count(), 4, "{ran:?}");
    assert!(
        ran.err.contains("not stored yet") && ran.err.contains("damaged"),
        "{}",
        ran.err
    );
    let ran = site.run("dead revive --all").expect(69);
    assert!(ran.err.contains("damaged"), "{}", ran.err);
    assert_eq!(ids(&site, "--status new").len(), 3);
}

#[tokio::test]
async fn wrong_arguments_are_refused_with_what_was_meant() {
    let site = site().await;
    for (line, hint) in [
        ("dead list --reason exhuasted", "exhausted"),
        ("dead list --queue biling", "did you mean `billing`?"),
        ("dead list --since yesterday", "an age such as 2h"),
        ("dead list --since 1h --until 2h", "before --until"),
        ("dead show 7", "TASK_ID-NUMBER"),
        (
            "dead show 019a0000-0000-7000-8000-000000000001",
            "has no dead letter",
        ),
        (
            "dead show 019a0000-0000-7000-8000-000000000001-1",
            "there is no dead letter",
        ),
        ("dead revive", "--all"),
        ("dead discard --limit 3", "--all"),
        ("dead purge", "--all"),
        ("dead purge --all", "--yes"),
        ("dead revive --all --status revived", "--status new"),
    ] {
        let ran = site.run(line).expect(64);
        assert!(ran.err.contains(hint), "{line}: {}", ran.err);
    }
    let one = ids(&site, "--queue kyb").remove(0);
    let ran = site.run(&format!(
        "dead revive {one} 019a0000-0000-7000-8000-000000000001-1"
    ));
    assert!(ran.expect(64).err.contains("nothing was changed"));
    assert_eq!(site.queue("kyb").await.ready, 0);
}

/// Goal: letters that no actor has stored yet are seen, newest first, and leave the broker.
#[tokio::test]
async fn the_list_shows_what_the_broker_still_holds() {
    let site = site().await;
    assert_eq!(site.queue("billing").await.dead_outbox, 2);

    let text = site.run("dead list").expect(0).out;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(
        lines[0].starts_with("ID") && lines[1].contains("undecodable"),
        "{text}"
    );
    assert!(lines[2].contains(r"\u{1b}[2Jspoof\nsecond line"), "{text}");
    assert_eq!(site.queue("billing").await.dead_outbox, 0);

    let all = site.run("dead list --json").expect(0).json();
    assert_eq!(all[2]["task"], "demo.charge");
    assert_eq!(all[2]["args"]["customer"], 7);
    assert_eq!(
        (&all[2]["status"], &all[2]["attempts"]),
        (&"new".into(), &1.into())
    );
    for (filters, count) in [
        ("--queue billing", 2),
        ("--task demo.check", 1),
        ("--reason undecodable", 1),
        ("--status revived", 0),
        ("--since 1h", 3),
        ("--until 1h", 0),
        ("--since 2026-01-31T12:00:00+02:00 --limit 2", 2),
    ] {
        assert_eq!(ids(&site, filters).len(), count, "{filters}");
    }
    let hint = site.run("dead list --task demo.chrage").expect(0);
    assert!(
        hint.err.contains("did you mean `demo.charge`?"),
        "{}",
        hint.err
    );
}

#[tokio::test]
async fn one_letter_is_shown_with_all_that_is_known_of_it() {
    let site = site().await;
    let [garbage, check, charge] = <[String; 3]>::try_from(ids(&site, "")).unwrap();
    let text = site.run(&format!("dead show {charge}")).expect(0).out;
    for part in [
        "queue     billing",
        "reason    exhausted",
        "tenant = acme",
        "\"customer\": 7",
        "after 40ms  panic",
        "caused by: the bank said no",
        "at src/bill.rs:7:9",
        "backtrace of attempt 1\n  0: bill",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // The task's id alone, while it has one letter.
    let (task, _) = check.rsplit_once('-').unwrap();
    let full = site
        .run(&format!("dead show {task} --json"))
        .expect(0)
        .json();
    assert_eq!(full[0]["id"], check.as_str());
    assert_eq!(full[0]["failures"][0]["location"], "src/bill.rs:7:9");
    let text = site.run(&format!("dead show {garbage}")).expect(0).out;
    assert!(text.contains("a frame has at least"), "{text}");
    assert!(text.contains("7b 22 61 22"), "{text}");
}

/// Goal: what can be revived is, the rest is named, and the exit code tells.
#[tokio::test]
async fn a_bulk_revival_goes_on_past_what_cannot_be_revived() {
    let site = site().await;
    let ran = site.run("dead revive --all").expect(1);
    assert_eq!(ran.out.lines().count(), 2, "{ran:?}");
    assert!(ran.err.contains("2 revived, 1 failed"), "{}", ran.err);
    let (billing, kyb) = (site.queue("billing").await, site.queue("kyb").await);
    assert_eq!((billing.ready, billing.counters.revived), (1, 1));
    assert_eq!((kyb.ready, kyb.counters.revived), (1, 1));
    assert_eq!(ids(&site, "--status new").len(), 1);

    let revived = ids(&site, "--status revived").remove(0);
    let again = site.run(&format!("dead revive {revived}")).expect(1);
    assert!(again.err.contains("is revived"), "{}", again.err);
    assert_eq!(site.queue("kyb").await.ready, 1, "not enqueued twice");

    let audit = site.store().await.audit(None, 10).await.unwrap();
    let entry = &audit.last().unwrap().entry;
    assert_eq!(
        (&entry.action[..], &entry.target[..]),
        ("dead.revive", "status=new")
    );
    assert_eq!(entry.detail, "2 revived, 1 failed");
    assert!(entry.actor.contains('@'), "{}", entry.actor);
}

#[tokio::test]
async fn letters_are_discarded_and_purged_but_never_while_they_are_revived() {
    let site = site().await;
    let check = ids(&site, "--queue kyb").remove(0);
    let store = site.store().await;
    store
        .begin_revival(check.parse().unwrap(), None)
        .await
        .unwrap();

    let ran = site.run(&format!("dead discard {check} --json")).expect(1);
    assert_eq!(ran.json()[0]["outcome"], "failed");
    site.run("dead discard --queue billing --limit 1").expect(0);
    let filter = DeadFilter {
        status: Some(DeadStatus::Discarded),
        ..DeadFilter::default()
    };
    assert_eq!(store.stats(&filter).await.unwrap().total, 1);

    let ran = site.run("dead purge --all --yes --json").expect(0);
    assert_eq!(ran.json()[0]["purged"], 2);
    assert_eq!(ids(&site, ""), [check]);
    let actions: Vec<String> = store
        .audit(None, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|record| format!("{}: {}", record.entry.action, record.entry.detail))
        .collect();
    assert_eq!(
        actions,
        [
            "dead.purge: 2 purged",
            "dead.discard: 1 discarded",
            "dead.discard: 0 discarded, 1 failed"
        ]
    );
}

#[tokio::test]
async fn letters_are_counted() {
    let site = site().await;
    let text = site.run("dead stats").expect(0).out;
    assert!(text.starts_with("3 dead letters\n"), "{text}");
    assert!(text.contains("\n    2  billing\n    1  kyb\n"), "{text}");
    let stats = site.run("dead stats --json --queue kyb").expect(0).json();
    assert_eq!(
        (&stats[0]["total"], &stats[0]["by_reason"][0]["key"]),
        (&1.into(), &"permanent".into())
    );
}

/// Goal: what died of the same is counted together, and its fingerprint leads every other command to it.
#[tokio::test]
async fn letters_that_died_of_the_same_are_a_cluster() {
    let site = site().await;
    site.bury(&[Death {
        message: "card 4711 declined",
        ..Death::of("billing", "demo.charge", DeadReason::Exhausted)
    }])
    .await;
    site.bury(&[Death {
        message: "card 12 declined",
        ..Death::of("billing", "demo.charge", DeadReason::Exhausted)
    }])
    .await;
    let clusters = site.run("dead clusters --json").expect(0).json();
    let sizes: Vec<_> = clusters.iter().map(|c| c["count"].as_u64()).collect();
    assert_eq!(sizes, [Some(2), Some(1), Some(1), Some(1)]);
    let largest = &clusters[0];
    assert_eq!(largest["message"], "card 12 declined");
    assert_eq!(largest["by_status"]["new"], 2);
    let fingerprint = largest["fingerprint"].as_str().unwrap();
    let text = site.run("dead clusters --limit 1").expect(0);
    let row = text.out.lines().nth(1).unwrap();
    assert!(
        row.starts_with("2      2    ") && row.contains(fingerprint),
        "{row}"
    );
    assert!(text.err.contains("--limit N shows more"), "{}", text.err);

    let of_it = format!("--fingerprint {fingerprint}");
    assert_eq!(ids(&site, &of_it).len(), 2);
    let stats = site.run(&format!("dead stats --json {of_it}")).expect(0);
    assert_eq!(stats.json()[0]["total"], 2);
    site.run(&format!("dead discard {of_it}")).expect(0);
    let audit = site.store().await.audit(None, 1).await.unwrap();
    assert_eq!(
        audit[0].entry.target,
        format!("status=new fingerprint={fingerprint}")
    );
    assert_eq!(ids(&site, "--status discarded").len(), 2);
}

/// Goal: a reader that has seen enough is no error and no panic.
#[tokio::test]
async fn a_closed_pipe_is_no_error() {
    let site = site().await;
    let mut command = site.command(&["dead", "list", "--json"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}
