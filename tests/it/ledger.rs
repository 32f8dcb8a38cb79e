//! A program with a database of its own, for tests of transactions: it moves money between two accounts.
//!
//! Each transfer is two entries, written in one transaction at whose end, or before, it may fail; with it a
//! confirmation is enqueued. The program is this test binary, run again as a process that can be killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use celeriac::database::outbox::{self, OutboxConnection};
use celeriac::database::{Database, Transactional as _};
use celeriac::policy::Policy;
use celeriac::runtime::{Runtime, RuntimeOptions};
use celeriac::{App, Attempt, Task, TaskError};
use diesel::prelude::*;
use diesel::r2d2::{
    ConnectionManager, CustomizeConnection, Error as PoolError, Pool, R2D2Connection,
};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::BigInt;
use serde::{Deserialize, Serialize};

/// The file, where the program is started, that says which database is its own. The broker is beside it.
const DATABASE: &str = "database.txt";

/// The data directory of its broker.
pub(crate) const DATA: &str = "data";

/// Every so many transfers fail for good, having enqueued.
pub(crate) const HOPELESS: u64 = 10;

const TABLES: &str = "
    CREATE TABLE entries (transfer BIGINT, account TEXT, amount BIGINT, PRIMARY KEY (transfer, account));
    CREATE TABLE confirmations (transfer BIGINT PRIMARY KEY);";

#[derive(Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) number: u64,
}

impl Task for Transfer {
    const NAME: &'static str = "ledger.transfer";
    type Output = ();

    fn policy() -> Policy {
        let (base, ceiling) = (Duration::from_millis(20), Duration::from_millis(200));
        Policy::default().max_attempts(10).backoff(base, ceiling)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Confirm {
    pub(crate) number: u64,
}

impl Task for Confirm {
    const NAME: &'static str = "ledger.confirm";
    type Output = ();

    fn policy() -> Policy {
        Transfer::policy()
    }
}

/// Where a transfer fails.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    FailsEarly,
    PanicsBetween,
    FailsLate,
    PanicsLate,
    Succeeds,
}

/// Decides at random, and the same at each run of the tests.
fn fate(number: u64, attempt: u16) -> Fate {
    let mixed = (number << 16 | u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
    match mixed {
        0 => Fate::FailsEarly,
        1 => Fate::PanicsBetween,
        2 => Fate::FailsLate,
        3 => Fate::PanicsLate,
        _ => Fate::Succeeds,
    }
}

/// Returns the program on a database.
pub(crate) fn app<C: OutboxConnection>(database: Database<C>) -> App {
    App::new()
        .database(database)
        .task(|transfer: Attempt<Transfer>| async move {
            let number = transfer.args.number;
            let fate = fate(number, transfer.number());
            let done = transfer.transaction(move |conn: &mut C, tx| {
                let entry = |account: &str, amount: i64| {
                    format!("INSERT INTO entries VALUES ({number}, '{account}', {amount})")
                };
                conn.batch_execute(&entry("from", -7))?;
                tx.enqueue(&Confirm { number })?;
                match fate {
                    Fate::FailsEarly => return Err("early".into()),
                    Fate::PanicsBetween => panic!("between"),
                    _ => {}
                }
                conn.batch_execute(&entry("to", 7))?;
                match fate {
                    _ if number.is_multiple_of(HOPELESS) => Err(TaskError::permanent("no funds")),
                    Fate::FailsLate => Err("late".into()),
                    Fate::PanicsLate => panic!("late"),
                    _ => Ok(()),
                }
            });
            match done.await {
                // It was done before, and its worker died before it could say so.
                Err(error) if is_duplicate(&error) => Ok(()),
                done => done,
            }
        })
        .task(|confirm: Attempt<Confirm>| async move {
            let number = confirm.args.number;
            let done = confirm.transaction(move |conn: &mut C, _| {
                conn.batch_execute(&format!("INSERT INTO confirmations VALUES ({number})"))?;
                Ok(())
            });
            match done.await {
                Err(error) if is_duplicate(&error) => Ok(()),
                done => done,
            }
        })
}

fn is_duplicate(error: &TaskError) -> bool {
    let database = error.error().downcast_ref::<DieselError>();
    matches!(
        database,
        Some(DieselError::DatabaseError(
            DatabaseErrorKind::UniqueViolation,
            _
        ))
    )
}

/// Has SQLite wait for locks.
#[derive(Debug)]
struct Patient;

impl<C: R2D2Connection> CustomizeConnection<C, PoolError> for Patient {
    fn on_acquire(&self, conn: &mut C) -> Result<(), PoolError> {
        let pragmas = "PRAGMA busy_timeout = 20000; PRAGMA journal_mode = WAL;";
        conn.batch_execute(pragmas).map_err(PoolError::QueryError)
    }
}

/// Returns a pool of connections to a file.
pub(crate) fn sqlite(file: &Path) -> Pool<ConnectionManager<SqliteConnection>> {
    Pool::builder()
        .max_size(6)
        .connection_customizer(Box::new(Patient))
        .build(ConnectionManager::new(file.to_str().unwrap()))
        .unwrap()
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Pool<ConnectionManager<PgConnection>> {
    let pool = Pool::builder().max_size(6);
    pool.build(ConnectionManager::new(url)).unwrap()
}

/// Makes the tables of the program and of its outbox.
pub(crate) fn create<C: OutboxConnection>(conn: &mut C) {
    conn.batch_execute(TABLES).unwrap();
    outbox::create(conn).unwrap();
}

/// The program, when this binary is run as one.
#[test]
#[ignore = "run by other tests, as a process to kill"]
fn program() {
    let Ok(url) = std::fs::read_to_string(DATABASE) else {
        return;
    };
    let app = match url.strip_prefix("postgres://") {
        #[cfg(feature = "postgres")]
        Some(_) => app(Database::new(postgres(&url)).with_outbox()),
        _ => app(Database::new(sqlite(Path::new(&url))).with_outbox()),
    };
    let mut options = RuntimeOptions::embedded(DATA).unwrap();
    options.tree.concurrency = 8;
    let _runtime = Runtime::start(app, options).unwrap();
    loop {
        std::thread::park();
    }
}

/// A process that runs the program; killed when it is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts it in `directory`.
    pub(crate) fn start(directory: &Path, database: &str) -> Self {
        std::fs::write(directory.join(DATABASE), database).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "ledger::program", "--ignored", "--nocapture"])
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The database as a test looks at it.
pub(crate) enum Look {
    Sqlite(SqliteConnection),
    #[cfg(feature = "postgres")]
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl Look {
    /// Returns the number that a query selects.
    pub(crate) fn number(&mut self, what: &str) -> i64 {
        let query = diesel::sql_query(format!("SELECT {what} AS count"));
        let row: Count = match self {
            Self::Sqlite(conn) => query.get_result(conn).unwrap(),
            #[cfg(feature = "postgres")]
            Self::Postgres(conn) => query.get_result(conn).unwrap(),
        };
        row.count
    }

    /// Returns how many transfers are whole, after a look at whether one is not.
    pub(crate) fn transfers(&mut self) -> i64 {
        let partial = "(SELECT count(*) FROM (SELECT transfer FROM entries GROUP BY transfer HAVING count(*) <> 2 OR sum(amount) <> 0) AS partial)";
        assert_eq!(self.number(partial), 0, "transfers were written by half");
        let hopeless = format!("(SELECT count(*) FROM entries WHERE transfer % {HOPELESS} = 0)");
        assert_eq!(self.number(&hopeless), 0, "what was rolled back is there");
        let unfounded = "(SELECT count(*) FROM confirmations WHERE transfer NOT IN (SELECT transfer FROM entries))";
        assert_eq!(
            self.number(unfounded),
            0,
            "what was rolled back was enqueued"
        );
        self.number("(SELECT count(*) / 2 FROM entries)")
    }

    pub(crate) fn confirmations(&mut self) -> i64 {
        self.number("(SELECT count(*) FROM confirmations)")
    }

    /// Returns how many tasks wait in the outbox.
    pub(crate) fn waiting(&mut self) -> i64 {
        assert_eq!(
            self.number("(SELECT count(*) FROM celeriac_outbox_rejected)"),
            0
        );
        self.number("(SELECT count(*) FROM celeriac_outbox)")
    }
}
