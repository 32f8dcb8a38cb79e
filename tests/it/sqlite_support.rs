//! What the tests of the embedded broker share: a directory, lock files of made-up workers, damage.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac_actors::ids::{TaskId, WorkerId};
use celeriac_actors::ports::{Broker, id_of};
use celeriac_actors::testkit::ManualClock;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};
use tempfile::TempDir;

/// A data directory with a clock turned by hand, and a broker in it.
pub(crate) struct Bench {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) directory: TempDir,
    locks: Mutex<HashMap<String, File>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let broker = open(directory.path(), &clock);
        let bench = Self {
            broker,
            clock,
            directory,
            locks: Mutex::default(),
        };
        for number in 0..10 {
            bench.hold_lock(&format!("w{number}"));
        }
        bench
    }

    /// Holds the lock of a worker, as its process would.
    fn hold_lock(&self, worker: &str) {
        let file = File::create(self.lock_path(worker)).unwrap();
        file.lock().unwrap();
        self.locks.lock().unwrap().insert(worker.to_owned(), file);
    }

    /// Lets a worker's lock go, as the kernel does when its process ends.
    pub(crate) fn kill(&self, worker: &WorkerId) -> bool {
        self.locks.lock().unwrap().remove(worker.as_str()).is_some()
    }

    fn lock_path(&self, worker: &str) -> PathBuf {
        self.directory.path().join(format!("locks/{worker}.lock"))
    }

    pub(crate) fn another(&self) -> Arc<dyn Broker> {
        open(self.directory.path(), &self.clock)
    }
}

fn open(directory: &Path, clock: &Arc<ManualClock>) -> Arc<dyn Broker> {
    let options = SqliteOptions::new(directory).clock(clock.clone(), "boot");
    Arc::new(SqliteBroker::open(options).unwrap())
}

pub(crate) fn connect(directory: &Path) -> SqliteConnection {
    let path = directory.join("broker.db");
    SqliteConnection::establish(path.to_str().unwrap()).unwrap()
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    key: i64,
    #[diesel(sql_type = Binary)]
    pack: Vec<u8>,
}

/// Overwrites the frame of a task that is ready or in flight.
pub(crate) fn corrupt(directory: &Path, task: TaskId, bytes: &[u8]) -> bool {
    let mut db = connect(directory);
    for (read, write) in [
        (
            "SELECT key, pack FROM ready",
            "UPDATE ready SET pack = ? WHERE key = ?",
        ),
        (
            "SELECT id AS key, pack FROM packs",
            "UPDATE packs SET pack = ? WHERE id = ?",
        ),
    ] {
        for row in diesel::sql_query(read).load::<Row>(&mut db).unwrap() {
            if let Some(pack) = replace(&row.pack, task, bytes) {
                let update = diesel::sql_query(write).bind::<Binary, _>(pack);
                let update = update.bind::<BigInt, _>(row.key);
                return update.execute(&mut db).unwrap() == 1;
            }
        }
    }
    false
}

fn replace(mut pack: &[u8], task: TaskId, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut found) = (Vec::new(), false);
    while let Some((len, rest)) = pack.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        let hit = !found && id_of(frame) == Some(task);
        found |= hit;
        let frame = if hit { bytes } else { frame };
        out.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
        out.extend_from_slice(frame);
        pack = rest;
    }
    found.then_some(out)
}
