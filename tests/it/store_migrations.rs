//! The schema goes up, down and up again, by one process at a time, and is refused when it does not fit.

use celeriac::store::{Store, StoreOptions};
use celeriac_actors::ports::{DeadFilter, DeadLetters as _, StoreError};

use crate::store_support::{Bed, letter, on_both};

on_both!(
    a_store_without_tables_says_what_to_do,
    migrations_go_up_down_and_up,
    a_newer_schema_is_refused,
    two_that_migrate_at_once_both_succeed,
);

/// Both backends have the same migrations, each with a way back.
#[test]
fn the_backends_have_the_same_migrations() {
    let names = |backend: &str| {
        let folder = format!("{}/migrations/{backend}", env!("CARGO_MANIFEST_DIR"));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(
                path.join("up.sql").exists() && path.join("down.sql").exists(),
                "{path:?}"
            );
            names.push(path.file_name().unwrap().to_owned());
        }
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

async fn a_store_without_tables_says_what_to_do(bed: Bed) {
    let store = bed.open();
    let error = store.stats(&DeadFilter::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error:?}");
    assert!(error.to_string().contains("`celeriac migrate`"), "{error}");
    assert_eq!(store.check().await, Err(error));
    assert!(
        store
            .status()
            .await
            .unwrap()
            .iter()
            .all(|migration| !migration.applied)
    );

    store.migrate().await.unwrap();
    assert_eq!(store.check().await, Ok(()));
    assert_eq!(store.insert(vec![letter(0, 1)]).await, Ok(1));
}

async fn migrations_go_up_down_and_up(bed: Bed) {
    let store = bed.open();
    let up = store.migrate().await.unwrap();
    assert_eq!(
        up,
        [
            "20260101000000_dead_letters",
            "20260101000100_snapshots_and_audit",
            "20260201000000_dead_clusters",
            "20260201000100_edited_arguments",
            "20260701000000_spans_of_snapshots",
        ]
    );
    assert_eq!(store.migrate().await, Ok(Vec::new()));
    store.insert(vec![letter(0, 1)]).await.unwrap();

    let mut left = up.clone();
    while let Some(newest) = left.pop() {
        assert_eq!(store.rollback_one().await, Ok(Some(newest)));
        let older = store.show(letter(0, 1).id).await.unwrap_err();
        assert!(older.to_string().contains("`celeriac migrate`"), "{older}");
    }
    assert_eq!(store.rollback_one().await, Ok(None));

    assert_eq!(store.migrate().await, Ok(up));
    assert_eq!(store.insert(vec![letter(0, 1)]).await, Ok(1));
    assert!(
        store
            .status()
            .await
            .unwrap()
            .iter()
            .all(|migration| migration.applied)
    );
}

async fn a_newer_schema_is_refused(bed: Bed) {
    drop(bed.migrated().await);
    bed.raw()
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')");
    let store = bed.open();
    let refused = store.insert(vec![letter(0, 1)]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Schema(_)) && !refused.is_outage());
    assert!(refused.to_string().contains("29990101000000"), "{refused}");
    assert_eq!(store.migrate().await, Err(refused.clone()));
    assert_eq!(store.rollback_one().await, Err(refused));
    let status = store.status().await.unwrap();
    assert_eq!(status.last().unwrap().name, None);
}

async fn store_size(bed: &Bed) -> usize {
    bed.open().status().await.unwrap().len()
}

/// Goal: two daemons that start at once on an empty store both come up.
/// Method: eight stores, each with its own pool and threads, migrate the same place together.
async fn two_that_migrate_at_once_both_succeed(bed: Bed) {
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Store::open(&bed.url, StoreOptions::default()).unwrap();
        starts.spawn(async move { store.migrate().await.unwrap().len() });
    }
    let applied: usize = starts.join_all().await.into_iter().sum();
    assert_eq!(applied, store_size(&bed).await, "every migration ran once");
}
