//! `celeriac migrate`: what is there, what is missing, up and down again.

use celeriac::sqlite::SqliteBroker;

use crate::cli_dead_support::Site;

/// Returns `part state` of each line, once where several migrations in a row say the same.
fn states(site: &Site, line: &str) -> Vec<String> {
    let ran = site.run(&format!("{line} --json")).expect(0);
    let word = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    let lines = ran.json();
    let mut states: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {}", word(line, "part"), word(line, "state")))
        .collect();
    states.dedup();
    states
}

#[test]
fn a_broken_file_is_left_alone_with_a_word_to_do() {
    let site = Site::new();
    std::fs::create_dir(site.data()).unwrap();
    std::fs::write(
        site.data().join("broker.db"),
        b"this is no database at all, not one bit",
    )
    .unwrap();
    let ran = site.run("migrate").expect(64);
    assert!(ran.err.contains("damaged or no database"), "{}", ran.err);
    site.run("migrate --status").expect(64);
}

#[test]
fn looking_makes_nothing_and_migrating_makes_everything() {
    let site = Site::new();
    assert_eq!(
        states(&site, "migrate --status"),
        ["broker missing", "store missing"]
    );
    assert!(!site.data().exists());
    assert_eq!(
        states(&site, "migrate"),
        ["broker migrated", "store applied"]
    );
    assert_eq!(
        states(&site, "migrate --status"),
        ["broker up to date", "store applied"]
    );
    assert_eq!(
        states(&site, "migrate"),
        ["broker up to date", "store up to date"]
    );
}

/// Goal: an older broker is seen as such and brought up; the store goes down one step and up again.
#[tokio::test]
async fn what_is_pending_is_shown_and_the_last_migration_can_be_undone() {
    let site = Site::new();
    site.run("migrate").expect(0);
    SqliteBroker::migrate_down(&site.data(), 0).unwrap();
    assert_eq!(states(&site, "migrate --status")[0], "broker pending");

    let refused = site.run("migrate --rollback").expect(64);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(states(&site, "migrate --rollback --yes"), ["store undone"]);
    assert_eq!(
        states(&site, "migrate --status"),
        ["broker pending", "store applied", "store pending"]
    );
    assert_eq!(
        states(&site, "migrate"),
        ["broker migrated", "store applied"]
    );
    // Down to the first, which has no audit yet.
    let store = site.store().await;
    let all = store.status().await.unwrap().len();
    for _ in 1..all {
        site.run("migrate --rollback --yes").expect(0);
    }
    site.run("migrate").expect(0);
    let audit = store.audit(None, 10).await.unwrap();
    assert_eq!(audit.len(), 1, "the older entries went with their table");
    assert_eq!(audit[0].entry.action, "store.migrate");

    for _ in 0..all {
        site.run("migrate --rollback --yes").expect(0);
    }
    let ran = site.run("migrate --rollback --yes").expect(64);
    assert!(ran.err.contains("no migration"), "{}", ran.err);
}

#[test]
fn a_newer_broker_is_left_alone() {
    let site = Site::new();
    site.run("migrate").expect(0);
    let path = site.data().join("broker.db");
    newer(&path);
    assert_eq!(states(&site, "migrate --status")[0], "broker newer");
    let ran = site.run("migrate").expect(64);
    assert!(ran.err.contains("run the newer version"), "{}", ran.err);
    let doctor = site.run("doctor").expect(69);
    assert!(
        doctor.out.contains("run the newer version"),
        "{}",
        doctor.out
    );
}

fn newer(path: &std::path::Path) {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    let mut db = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    db.batch_execute("PRAGMA user_version = 99").unwrap();
}

/// Goal: the same commands on a store on a server; its password shows nowhere.
#[cfg(feature = "postgres")]
#[test]
fn a_store_on_postgres_goes_up_and_down_too() {
    let site = Site::new();
    let database = crate::store_postgres::Database::create();
    let url = database.url().replacen("celeriac@", "celeriac:hunter2@", 1);
    let config = format!("[store]\nurl = {url:?}\n");
    std::fs::write(site.home().join("celeriac.toml"), config).unwrap();
    assert_eq!(
        states(&site, "migrate --status"),
        ["broker missing", "store pending"]
    );
    assert_eq!(
        states(&site, "migrate"),
        ["broker migrated", "store applied"]
    );
    let listed = site.run("dead list").expect(0);
    assert!(listed.out.is_empty(), "{listed:?}");
    let doctor = site.run("doctor").expect(0);
    assert!(
        doctor.out.contains(" migrations in place"),
        "{}",
        doctor.out
    );
    assert!(!doctor.out.contains("hunter2"), "{}", doctor.out);
    assert_eq!(states(&site, "migrate --rollback --yes"), ["store undone"]);
    assert_eq!(
        states(&site, "migrate"),
        ["broker up to date", "store applied"]
    );
}
