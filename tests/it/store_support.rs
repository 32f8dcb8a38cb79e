//! A store to test on, for each backend, and letters to put into it.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac::store::{Store, StoreOptions, StoreUrl};
use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ids::{BurialId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadLetters as _, DeadStatus};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use crate::daemon::PATIENCE;

/// Runs each case on a fresh store of every backend.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store_support::Bed::sqlite()).await;
            })+
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case(crate::store_support::Bed::postgres()).await;
            })+
        }
    };
}
pub(crate) use on_both;

/// A place for one store, gone with this value.
pub(crate) struct Bed {
    pub(crate) url: StoreUrl,
    keep: Keep,
}

enum Keep {
    Dir(tempfile::TempDir),
    #[cfg(feature = "postgres")]
    Database(crate::store_postgres::Database),
}

impl Bed {
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            url: StoreUrl::file(dir.path().join("store.db")),
            keep: Keep::Dir(dir),
        }
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Self {
        let database = crate::store_postgres::Database::create();
        Self {
            url: database.url().parse().unwrap(),
            keep: Keep::Database(database),
        }
    }

    /// Opens the store with a short patience, without migrating it.
    pub(crate) fn open(&self) -> Store {
        let options = StoreOptions {
            timeout: Duration::from_secs(3),
            ..StoreOptions::default()
        };
        Store::open(&self.url, options).unwrap()
    }

    /// Opens the store and migrates it.
    pub(crate) async fn migrated(&self) -> Store {
        let options = StoreOptions {
            migrate: true,
            timeout: PATIENCE,
            ..StoreOptions::default()
        };
        let store = Store::open(&self.url, options).unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// Connects past the store.
    pub(crate) fn raw(&self) -> Raw {
        match &self.keep {
            Keep::Dir(dir) => {
                let path = dir.path().join("store.db");
                Raw::Sqlite(SqliteConnection::establish(path.to_str().unwrap()).unwrap())
            }
            #[cfg(feature = "postgres")]
            Keep::Database(database) => {
                Raw::Postgres(PgConnection::establish(&database.url()).unwrap())
            }
        }
    }
}

/// A connection past the store.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
}

impl Raw {
    pub(crate) fn execute(&mut self, sql: &str) {
        match self {
            Self::Sqlite(connection) => connection.batch_execute(sql).unwrap(),
            #[cfg(feature = "postgres")]
            Self::Postgres(connection) => connection.batch_execute(sql).unwrap(),
        }
    }

    /// Begins a transaction that keeps everybody else from the dead letters.
    pub(crate) fn lock(&mut self) {
        match self {
            Self::Sqlite(_) => self.execute("BEGIN EXCLUSIVE"),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => {
                self.execute("BEGIN; LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE");
            }
        }
    }
}

/// Returns the burial with a number: tasks get two burials each.
pub(crate) fn id(number: u64) -> BurialId {
    let mut bytes = [0xa5; 16];
    bytes[8..].copy_from_slice(
        &(number / 2)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes(),
    );
    BurialId {
        task: TaskId::from_bytes(bytes),
        number,
    }
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn task(name: &str) -> TaskName {
    TaskName::new(name).unwrap()
}

/// Returns a full letter, buried at `millis`.
pub(crate) fn letter(number: u64, millis: u64) -> DeadLetter {
    let pick = |of: usize| usize::try_from(number).unwrap() % of;
    let failure = |attempt: u16| {
        Failure::new(FailureKind::Panic, format!("card {number} \"declined\"\0"))
            .with_causes(["bank said no".to_owned(), "ü".to_owned()])
            .with_place(
                Some("src/a.rs:1:2".into()),
                Some("0: main\n1: start".into()),
            )
            .of(
                attempt,
                "web-1:4711:9f3a01c2",
                Timestamp::from_millis(millis),
                Duration::from_millis(7),
            )
    };
    DeadLetter {
        id: id(number),
        queue: queue(["default", "billing", "kyb"][pick(3)]),
        task: (!number.is_multiple_of(5)).then(|| task(["demo.fail", "demo.panic"][pick(2)])),
        reason: DeadReason::ALL[pick(DeadReason::ALL.len())],
        note: format!("note {number}"),
        frame: vec![0xce, 0, 0xff, number.to_be_bytes()[7]],
        args: (!number.is_multiple_of(4)).then(|| format!("{{\"id\":{number}}}")),
        headers: BTreeMap::from([("tenant".to_owned(), "a\0cme".to_owned())]),
        failures: vec![failure(1), failure(2)],
        attempts: 2,
        deliveries: 255,
        enqueued_at: (!number.is_multiple_of(7)).then(|| Timestamp::from_millis(millis / 2)),
        buried_at: Timestamp::from_millis(millis),
        worker: "web-1:4711:9f3a01c2".to_owned(),
        status: DeadStatus::New,
        revivals: 0,
        edited: None,
    }
}

/// Reads every page and returns all letters in the order they came.
pub(crate) async fn all(store: &Store, filter: &DeadFilter, limit: u32) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(filter, after, limit).await.unwrap();
        assert!(page.letters.len() <= limit as usize);
        letters.extend(page.letters);
        after = page.next;
        if after.is_none() {
            return letters;
        }
    }
}

/// Returns what a store with these letters must list.
pub(crate) fn expected(letters: &[DeadLetter], filter: &DeadFilter) -> Vec<DeadLetter> {
    let mut those: Vec<_> = letters
        .iter()
        .filter(|l| is_meant(l, filter))
        .cloned()
        .collect();
    those.sort_by_key(|letter| std::cmp::Reverse((letter.buried_at, letter.id)));
    those
}

/// The filter as its documentation reads.
fn is_meant(letter: &DeadLetter, filter: &DeadFilter) -> bool {
    filter
        .queue
        .as_ref()
        .is_none_or(|queue| *queue == letter.queue)
        && filter
            .task
            .as_ref()
            .is_none_or(|task| letter.task.as_ref() == Some(task))
        && filter.id.is_none_or(|id| id == letter.id.task)
        && filter.reason.is_none_or(|reason| reason == letter.reason)
        && filter.status.is_none_or(|status| status == letter.status)
        && filter
            .fingerprint
            .is_none_or(|fingerprint| fingerprint == Fingerprint::of(letter))
        && filter.since.is_none_or(|since| since <= letter.buried_at)
        && filter.until.is_none_or(|until| until > letter.buried_at)
}
