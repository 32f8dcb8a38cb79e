//! A store that is locked, away, or not writable is a state with a name, and is over when it is over.

use std::time::Duration;

use celeriac::store::{Store, StoreOptions, StoreUrl};
use celeriac_actors::ports::{DeadFilter, DeadLetters as _, StoreError};

use crate::daemon::PATIENCE;
use crate::store_support::{Bed, letter, on_both};

on_both!(a_locked_store_is_unavailable_within_bounds_and_recovers);

async fn a_locked_store_is_unavailable_within_bounds_and_recovers(bed: Bed) {
    drop(bed.migrated().await);
    let store = bed.open();
    store.check().await.unwrap();
    let mut other = bed.raw();
    other.lock();
    let insert = tokio::time::timeout(PATIENCE, store.insert(vec![letter(0, 1)]));
    let error = insert.await.expect("the wait is bounded").unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable(_)) && error.is_outage(),
        "{error:?}"
    );
    other.execute("ROLLBACK");
    assert_eq!(store.insert(vec![letter(0, 1)]).await, Ok(1));
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_store_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open(&StoreUrl::file(&path), StoreOptions::default()).unwrap();
    store.migrate().await.unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(files.len() >= 2, "the store and its log");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

/// Goal: a directory or a file that must not be written refuses at once, and nothing panics.
/// Method: root may write anywhere, so the store's threads are started by a thread that has become nobody.
#[cfg(target_os = "linux")]
#[test]
fn a_store_that_must_not_be_written_refuses() {
    use std::os::unix::fs::PermissionsExt as _;

    let bed = Bed::sqlite();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    drop(runtime().block_on(bed.migrated()));
    let dir = tempfile::tempdir().unwrap();
    let set_mode = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(dir.path(), 0o555);
    let fresh = StoreUrl::file(dir.path().join("store.db"));
    let file = bed.url.to_string().replace("sqlite://", "");
    let folder = std::path::Path::new(&file).parent().unwrap();
    set_mode(folder, 0o777);
    set_mode(std::path::Path::new(&file), 0o444);

    let nobody = std::thread::spawn(move || {
        if rustix::process::getuid().is_root() {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
        }
        runtime().block_on(async {
            let options = StoreOptions::default();
            let fresh = Store::open(&fresh, options).unwrap();
            let error = fresh.migrate().await.unwrap_err();
            assert!(matches!(error, StoreError::Refused(_)), "{error:?}");

            let readonly = Store::open(&bed.url, options).unwrap();
            assert_eq!(
                readonly.stats(&DeadFilter::default()).await.unwrap().total,
                0
            );
            let error = readonly.insert(vec![letter(0, 1)]).await.unwrap_err();
            assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
            bed
        })
    });
    drop(nobody.join().unwrap());
    set_mode(dir.path(), 0o755);
}

#[tokio::test]
async fn a_place_that_is_not_there_is_unavailable() {
    let url = StoreUrl::file("/nonexistent/celeriac/store.db");
    let store = Store::open(&url, StoreOptions::default()).unwrap();
    assert!(matches!(
        store.check().await,
        Err(StoreError::Unavailable(_))
    ));
}

/// Goal: no step succeeds on a file that its path does not lead to any more, and the next ones go on with the new one.
#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_takes_no_letter_with_it() {
    let bed = Bed::sqlite();
    let path = bed.url.to_string().replace("sqlite://", "");
    let store = bed.migrated().await;
    assert_eq!(store.insert(vec![letter(0, 1)]).await, Ok(1));
    for (number, replace) in [(1, false), (2, true)] {
        if replace {
            let other = Bed::sqlite();
            drop(other.migrated().await);
            std::fs::rename(other.url.to_string().replace("sqlite://", ""), &path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let new = letter(number, 1);
        let id = new.id;
        let error = store.insert(vec![new.clone()]).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unavailable(text) if text.contains("removed or replaced")),
            "{error:?}"
        );
        assert_eq!(store.insert(vec![new]).await, Ok(1));
        let shown = bed.migrated().await.show(id).await.unwrap();
        assert_eq!(shown.id, id);
    }
    std::fs::remove_file(&path).unwrap();
    let unmigrated = bed.open();
    assert!(matches!(
        unmigrated.check().await,
        Err(StoreError::Schema(_))
    ));
}

#[tokio::test]
async fn a_file_of_something_else_is_not_taken_for_a_store() {
    let bed = Bed::sqlite();
    let file = bed.url.to_string().replace("sqlite://", "");
    std::fs::write(
        &file,
        "this is a text of more than a hundred bytes. ".repeat(50),
    )
    .unwrap();
    let error = bed.open().migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(_)), "{error:?}");
}

#[cfg(not(feature = "postgres"))]
#[test]
fn postgres_without_its_feature_says_how_to_get_it() {
    let url = "postgres://u:hunter2@127.0.0.1/db".parse().unwrap();
    let error = Store::open(&url, StoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("--features postgres"), "{error}");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_keeps_the_password() {
    let options = StoreOptions {
        timeout: Duration::from_millis(300),
        ..StoreOptions::default()
    };
    for url in [
        "postgres://u:hunter2@127.0.0.1:1/db",
        "postgres://u:hun/ter2@127.0.0.1:1/db",
    ] {
        let store = Store::open(&url.parse().unwrap(), options).unwrap();
        let error = store.check().await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let shown = format!("{error} {error:?} {store:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("hun/"),
            "{shown}"
        );
    }
}
