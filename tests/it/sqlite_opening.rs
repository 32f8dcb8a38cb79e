//! Opening a data directory: what is refused and how it is said, and the form of the database up and down.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use celeriac::sqlite::{OpenError, SqliteBroker, SqliteOptions};
use diesel::connection::SimpleConnection;

use crate::sqlite_support::connect;

fn open(directory: &Path) -> Result<SqliteBroker, OpenError> {
    SqliteBroker::open(SqliteOptions::new(directory))
}

fn refusal(directory: &Path) -> OpenError {
    match open(directory) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// Goal: nobody but the owner can read tasks.
#[test]
fn files_belong_to_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a/b");
    let _broker = open(&root).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    for file in ["broker.db", "broker.db-wal", "broker.db-shm"] {
        assert_eq!(mode(&root.join(file)), 0o600, "{file}");
    }
}

/// Goal: a file that is no database of ours is never touched, and the error says what to do.
#[test]
fn what_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broker.db"), [b'x'; 8192]).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore it or move it away"));

    let dir = tempfile::tempdir().unwrap();
    let mut other = connect(dir.path());
    other.batch_execute("CREATE TABLE mine (a)").unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");

    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let mut newer = connect(dir.path());
    newer.batch_execute("PRAGMA user_version = 99").unwrap();
    let error = refusal(dir.path());
    let newer = matches!(error, OpenError::Newer { found: 99, .. });
    assert!(newer, "{error}");
    assert!(error.to_string().contains("run the newer version"));
}

/// Goal: a directory that cannot be made is an error with its path, not a panic.
#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = refusal(&file.join("data"));
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
    let error = refusal(Path::new("/proc/celeriac"));
    assert!(error.to_string().contains("/proc/celeriac"), "{error}");
}

/// Goal: two living workers never share a name.
#[test]
fn a_worker_id_is_taken_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = || SqliteOptions::new(dir.path()).worker("web:1:a".parse().unwrap());
    let first = SqliteBroker::open(options()).unwrap();
    let second = SqliteBroker::open(options());
    assert!(matches!(second, Err(OpenError::WorkerInUse(_))));
    drop(first);
    drop(SqliteBroker::open(options()).unwrap());
}

/// Goal: the form of the database goes down and up again.
#[test]
fn migrations_are_reversible() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    SqliteBroker::migrate_down(dir.path(), 0).unwrap();
    let tables = connect(dir.path()).batch_execute("SELECT * FROM queues");
    assert!(tables.is_err(), "the tables are gone");
    drop(open(dir.path()).unwrap());
    let tables = connect(dir.path()).batch_execute("SELECT * FROM queues");
    assert!(tables.is_ok(), "the tables are back");
}

/// Goal: processes that start at the same moment on an empty directory all get the broker that one of them makes.
#[test]
fn several_may_make_it_at_once() {
    const OPENERS: usize = 6;

    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let ready = std::sync::Barrier::new(OPENERS);
        std::thread::scope(|scope| {
            for _ in 0..OPENERS {
                scope.spawn(|| {
                    ready.wait();
                    open(dir.path()).map(drop).unwrap();
                });
            }
        });
    }
}
