//! The transactional outbox: tasks are rows, written in the transaction of the data they belong to, and relayed to the
//! broker afterwards, in their order within a queue and once each.
//!
//! Its tables are the user's, made by [`create`] or by the user's migrations ([`SQLITE`], [`POSTGRES`]); `docs/tasks.md`
//! describes them for whoever writes rows by plain SQL. A runtime whose program has a database with an outbox
//! ([`Database::with_outbox`](super::Database::with_outbox)) relays, as a supervised child of its tree; of many, one at a time.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use celeriac::client::Client;
//! use celeriac::database::outbox;
//! use celeriac::producer::EnqueueOptions;
//! use diesel::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Welcome { user: i64 }
//! celeriac::task!(Welcome as "users.welcome");
//!
//! let directory = tempfile::tempdir()?;
//! let client = Client::embedded(directory.path())?;
//! let mut conn = SqliteConnection::establish(":memory:")?;
//! outbox::create(&mut conn)?;
//!
//! // Anywhere, within any transaction: in the handler of a web request, say.
//! conn.transaction(|conn| {
//!     // … write the user …
//!     outbox::enqueue(conn, client.producer(), &Welcome { user: 7 }, EnqueueOptions::default())
//! })?;
//! // The same by plain SQL, from any language.
//! diesel::sql_query(r#"INSERT INTO celeriac_outbox (task, args) VALUES ('users.welcome', '{"user": 8}')"#)
//!     .execute(&mut conn)?;
//! assert_eq!(outbox::status(&mut conn)?.pending, 2);
//! # Ok(())
//! # }
//! ```

use celeriac_actors::ports::When;
use celeriac_actors::producer::{EnqueueError, EnqueueOptions, Prepared, Producer, TaskHandle};
use celeriac_actors::task::Task;
use celeriac_actors::time::Clock as _;
use diesel::result::{Error as DieselError, QueryResult};

use crate::clock::SystemClock;

#[cfg(feature = "daemon")]
mod gauge;
#[cfg(feature = "runtime")]
mod ledger;
#[cfg(feature = "runtime")]
mod relay;
#[cfg_attr(
    not(feature = "runtime"),
    expect(dead_code, reason = "only the relay reads, and it needs a runtime")
)]
mod table;

#[cfg(feature = "daemon")]
pub(crate) use gauge::Gauges;
#[cfg(feature = "runtime")]
pub(crate) use relay::{RelaySetup, service};
use table::{NewRow, Steps};

/// The tables of the outbox on SQLite, for the user's migrations.
pub const SQLITE: &str = include_str!("../../migrations/outbox/sqlite/up.sql");

/// The tables of the outbox on PostgreSQL, for the user's migrations.
pub const POSTGRES: &str = include_str!("../../migrations/outbox/postgres/up.sql");

/// A connection on which there can be an outbox: `SqliteConnection`, and with the feature `postgres` `PgConnection`.
pub trait OutboxConnection: Steps {}

impl<C: Steps> OutboxConnection for C {}

/// Why a task was not put into the outbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The task cannot be stored.
    #[error(transparent)]
    Task(#[from] EnqueueError),
    /// The row could not be written.
    #[error("the outbox cannot be written: {0}")]
    Database(#[from] DieselError),
}

/// How much is in an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStatus {
    /// How many tasks wait to be relayed.
    pub pending: u64,
    /// How many can never be, in the table `celeriac_outbox_rejected`.
    pub rejected: u64,
}

/// Makes the tables of the outbox.
///
/// # Errors
/// When they are there already, or the database cannot be written.
pub fn create<C: OutboxConnection>(conn: &mut C) -> QueryResult<()> {
    conn.batch_execute(C::TABLES)
}

/// Puts a task into the outbox, in whatever transaction `conn` is. `producer` says where tasks go and how large they may be; it
/// sends nothing. A countdown counts from now, by this machine's clock.
///
/// # Errors
/// [`OutboxError`].
pub fn enqueue<C: OutboxConnection, T: Task>(
    conn: &mut C,
    producer: &Producer,
    task: &T,
    options: EnqueueOptions,
) -> Result<TaskHandle, OutboxError> {
    let prepared = producer.prepare(task, options)?;
    let handle = prepared.handle.clone();
    write_all(conn, &[(T::NAME, prepared)])?;
    Ok(handle)
}

/// Returns how much is in the outbox.
///
/// # Errors
/// When the tables are missing or cannot be read.
pub fn status<C: OutboxConnection>(conn: &mut C) -> QueryResult<OutboxStatus> {
    let (pending, rejected) = conn.counts()?;
    Ok(OutboxStatus {
        pending: u64::try_from(pending).unwrap_or_default(),
        rejected: u64::try_from(rejected).unwrap_or_default(),
    })
}

/// Writes tasks in their order.
pub(super) fn write_all<C: OutboxConnection>(
    conn: &mut C,
    tasks: &[(&'static str, Prepared)],
) -> QueryResult<()> {
    let row = |(name, prepared): &(&'static str, Prepared)| {
        let task = prepared.task();
        let due = match task.when {
            When::Now => None,
            When::After(delay) => Some(SystemClock.now().plus(delay)),
            When::At(at) => Some(at),
        };
        NewRow {
            task: (*name).to_owned(),
            queue: prepared.handle.queue.as_str().to_owned(),
            due_at: due.map(|at| table::number(at.as_millis())),
            frame: task.frame.clone(),
        }
    };
    let rows: Vec<NewRow> = tasks.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    conn.put(&rows)
}
