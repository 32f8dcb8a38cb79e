//! Transactions of the user's own database, from within an attempt: on Diesel, whatever the backend.
//!
//! A [`Database`] is a pool of connections in the program's state. [`Transactional::transaction`] runs a closure on the
//! bounded pool for blocking work, in one transaction, and commits what it wrote, unless it failed, panicked, or the
//! attempt was to stop by then. Tasks that it enqueues are sent when the commit has succeeded.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use celeriac::database::{Database, Transactional as _};
//! use celeriac::{App, Attempt};
//! use diesel::prelude::*;
//! use diesel::r2d2::{ConnectionManager, Pool};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Receive { amount: i32 }
//! celeriac::task!(Receive as "stock.receive");
//!
//! #[derive(Serialize, Deserialize)]
//! struct Announce { amount: i32 }
//! celeriac::task!(Announce as "stock.announce");
//!
//! let file = tempfile::NamedTempFile::new()?;
//! let pool = Pool::new(ConnectionManager::<SqliteConnection>::new(file.path().to_string_lossy()))?;
//! let app = App::new()
//!     .database(Database::new(pool))
//!     .task(|receive: Attempt<Receive>| async move {
//!         let amount = receive.args.amount;
//!         receive
//!             .transaction(move |conn: &mut SqliteConnection, tx| {
//!                 diesel::sql_query("UPDATE stock SET amount = amount + ?")
//!                     .bind::<diesel::sql_types::Integer, _>(amount)
//!                     .execute(conn)?;
//!                 tx.enqueue(&Announce { amount })?;
//!                 Ok(())
//!             })
//!             .await
//!     });
//! # Ok(())
//! # }
//! ```
//!
//! Between the commit and the sending there is a gap: a process that dies in it has committed, and sends nothing. The
//! task runs again then (its delivery was not settled), so a task that finds its work done must enqueue all the same. Who wants
//! no gap opts into the [`outbox`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use celeriac_actors::context::AttemptContext;
use celeriac_actors::producer::{EnqueueError, EnqueueOptions, Prepared, Producer, TaskHandle};
use celeriac_actors::task::{Task, TaskError};
use diesel::connection::{AnsiTransactionManager, Connection, TransactionManager};
use diesel::r2d2::{ConnectionManager, Pool, R2D2Connection};
use diesel::result::QueryResult;
use diesel::sqlite::SqliteConnection;
use tokio::sync::Notify;

pub mod outbox;

use outbox::OutboxConnection;

/// How tasks are written to the outbox on a kind of connection.
type Write<C> = fn(&mut C, &[(&'static str, Prepared)]) -> QueryResult<()>;

/// A database of the program: a pool of Diesel connections. Cloning shares it.
///
/// Put it into the program with `App::database`; a bare pool in the program's state will do for transactions as well.
pub struct Database<C: R2D2Connection + 'static> {
    pool: Pool<ConnectionManager<C>>,
    write: Option<Write<C>>,
    /// Something was put into the outbox here.
    news: Arc<Notify>,
}

impl<C: R2D2Connection + 'static> Clone for Database<C> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            write: self.write,
            news: Arc::clone(&self.news),
        }
    }
}

impl<C: R2D2Connection + 'static> fmt::Debug for Database<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("outbox", &self.write.is_some())
            .finish_non_exhaustive()
    }
}

impl<C: R2D2Connection + 'static> Database<C> {
    /// Makes a database of a pool. Tasks enqueued in its transactions are sent after the commit.
    #[must_use]
    pub fn new(pool: Pool<ConnectionManager<C>>) -> Self {
        Self {
            pool,
            write: None,
            news: Arc::default(),
        }
    }

    /// Returns whether tasks enqueued in its transactions are written to the outbox.
    #[must_use]
    pub fn has_outbox(&self) -> bool {
        self.write.is_some()
    }

    /// Returns the pool.
    #[must_use]
    pub fn pool(&self) -> &Pool<ConnectionManager<C>> {
        &self.pool
    }
}

impl<C: OutboxConnection> Database<C> {
    /// Has tasks that are enqueued in its transactions written to the [`outbox`] in the same transaction. Its tables must
    /// be there ([`outbox::create`]), and a runtime whose program has this database must run somewhere to relay them.
    #[must_use]
    pub fn with_outbox(mut self) -> Self {
        self.write = Some(outbox::write_all);
        self
    }
}

/// What a transaction may do beside its queries.
#[derive(Debug)]
pub struct Tx {
    context: AttemptContext,
    producer: Producer,
    dropped: Arc<AtomicBool>,
    /// With the names of their kinds.
    enqueued: Vec<(&'static str, Prepared)>,
}

impl Tx {
    /// Enqueues a task if the transaction is committed, and only then.
    ///
    /// # Errors
    /// [`EnqueueError`] when the task cannot be stored.
    pub fn enqueue<T: Task>(&mut self, task: &T) -> Result<TaskHandle, EnqueueError> {
        self.enqueue_with(task, EnqueueOptions::default())
    }

    /// As [`Tx::enqueue`], with options. A countdown counts from the commit; with the outbox from now, by this machine's clock.
    ///
    /// # Errors
    /// As [`Tx::enqueue`].
    pub fn enqueue_with<T: Task>(
        &mut self,
        task: &T,
        options: EnqueueOptions,
    ) -> Result<TaskHandle, EnqueueError> {
        let prepared = self.producer.prepare(task, options)?;
        let handle = prepared.handle.clone();
        self.enqueued.push((T::NAME, prepared));
        Ok(handle)
    }

    /// Asks the hooks about everything that is enqueued, while it can still be undone.
    fn vet(&self, here: &tokio::runtime::Handle) -> Result<(), EnqueueError> {
        if self.enqueued.is_empty() {
            return Ok(());
        }
        let tasks = self.enqueued.iter().map(|(_, prepared)| prepared.clone());
        let tasks: Vec<Prepared> = tasks.collect();
        here.block_on(self.producer.vet(&tasks))
    }

    /// Returns whether the transaction will be rolled back whatever it does: the attempt is past its soft limit or was told
    /// to stop, or nobody waits for the transaction any more. For long ones to look at now and then.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.check().is_err()
    }

    /// As [`Tx::is_interrupted`], as an error to end with: `tx.check()?`.
    ///
    /// # Errors
    /// [`TaskError::soft_limit`] past the soft limit, else an error that says that the attempt was told to stop.
    pub fn check(&self) -> Result<(), TaskError> {
        if self.context.is_cancelled() {
            return Err("the attempt was told to stop; its transaction was rolled back".into());
        }
        if self.dropped.load(Ordering::Acquire) {
            return Err("the attempt let go of its transaction; it was rolled back".into());
        }
        if self.context.is_past_soft_limit() {
            return Err(TaskError::soft_limit());
        }
        Ok(())
    }
}

/// Transactions for attempts.
pub trait Transactional {
    /// Runs `work` in one transaction of the program's database, on the bounded pool for blocking work; returns what it
    /// returned once that is committed and the tasks it enqueued are acknowledged.
    ///
    /// `C` chooses the database: the program's [`Database`] of such connections, else its bare pool of them. On SQLite the
    /// transaction takes the write lock at its begin.
    ///
    /// The transaction is rolled back when `work` returns an error or panics, and when by its end the attempt is past its
    /// soft limit, was told to stop, or dropped this future. That is looked at for the last time right before the commit:
    /// a signal that comes later finds it committed. Nothing interrupts a query that runs.
    ///
    /// Hooks ([`before_enqueue`](celeriac_actors::hooks::Hooks::before_enqueue)) are asked about the tasks that it enqueues
    /// when `work` has returned: a veto rolls it back. The transaction is open then, so a hook that writes to the same
    /// SQLite database would wait for it in vain.
    ///
    /// # Errors
    /// What `work` returned; [`TaskError::soft_limit`]; any other failure as one that is worth another attempt. When the commit
    /// itself fails, it is unknown whether it happened, as with any database. When the sending after the commit fails,
    /// the work is committed: the next attempt must find that out.
    ///
    /// # Cancel safety
    /// Dropping the future rolls back, unless the commit has begun.
    fn transaction<C, T, F>(&self, work: F) -> impl Future<Output = Result<T, TaskError>> + Send
    where
        C: R2D2Connection + 'static,
        T: Send + 'static,
        F: FnOnce(&mut C, &mut Tx) -> Result<T, TaskError> + Send + 'static;
}

impl Transactional for AttemptContext {
    async fn transaction<C, T, F>(&self, work: F) -> Result<T, TaskError>
    where
        C: R2D2Connection + 'static,
        T: Send + 'static,
        F: FnOnce(&mut C, &mut Tx) -> Result<T, TaskError> + Send + 'static,
    {
        let database = database_of::<C>(self)?;
        let dropped = Dropped::default();
        let mut tx = Tx {
            context: self.clone(),
            producer: self.producer().clone(),
            dropped: Arc::clone(&dropped.0),
            enqueued: Vec::new(),
        };
        let inside = database.clone();
        let here = tokio::runtime::Handle::current();
        let done = self.blocking(move || {
            let value = run(&inside, &mut tx, &here, work)?;
            Ok::<_, TaskError>((value, tx.enqueued))
        });
        let (value, enqueued) = done.await??;
        drop(dropped);
        if enqueued.is_empty() {
            return Ok(value);
        }
        if database.write.is_some() {
            database.news.notify_one();
        } else {
            let enqueued = enqueued.into_iter().map(|(_, prepared)| prepared);
            self.producer().add_vetted(enqueued.collect()).await?;
        }
        Ok(value)
    }
}

/// Says when it is dropped.
#[derive(Default)]
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn database_of<C: R2D2Connection + 'static>(
    context: &AttemptContext,
) -> Result<Database<C>, TaskError> {
    if let Ok(database) = context.state::<Database<C>>() {
        return Ok(database.clone());
    }
    match context.state::<Pool<ConnectionManager<C>>>() {
        Ok(pool) => Ok(Database::new(pool.clone())),
        Err(_) => Err(format!(
            "no database of `{}` is registered; add it with `App::database`",
            std::any::type_name::<C>()
        )
        .into()),
    }
}

/// One transaction, from a connection to its end.
fn run<C, T>(
    database: &Database<C>,
    tx: &mut Tx,
    here: &tokio::runtime::Handle,
    work: impl FnOnce(&mut C, &mut Tx) -> Result<T, TaskError>,
) -> Result<T, TaskError>
where
    C: R2D2Connection + 'static,
{
    tx.check()?;
    let mut connection = database.pool.get_timeout(tx.context.soft_limit_in())?;
    begin(&mut *connection)?;
    let open = Open(&mut *connection);
    let value = work(open.0, tx)?;
    tx.vet(here)?;
    if let Some(write) = database.write {
        write(open.0, &tx.enqueued)?;
    }
    tx.check()?;
    open.commit()?;
    Ok(value)
}

/// A transaction that is rolled back unless it was committed, while its thread unwinds too.
struct Open<'a, C: Connection>(&'a mut C);

impl<C: Connection> Open<'_, C> {
    fn commit(self) -> QueryResult<()> {
        let committed = C::TransactionManager::commit_transaction(&mut *self.0);
        if committed.is_ok() {
            std::mem::forget(self);
        }
        committed
    }
}

impl<C: Connection> Drop for Open<'_, C> {
    fn drop(&mut self) {
        // A connection that cannot roll back is broken: the pool closes it, which does.
        drop(C::TransactionManager::rollback_transaction(&mut *self.0));
    }
}

/// Begins a transaction that will write. On SQLite one that begins by reading could not wait for other writers.
fn begin<C: Connection + 'static>(connection: &mut C) -> QueryResult<()> {
    let any: &mut dyn Any = connection;
    if let Some(sqlite) = any.downcast_mut::<SqliteConnection>() {
        return AnsiTransactionManager::begin_transaction_sql(sqlite, "BEGIN IMMEDIATE");
    }
    C::TransactionManager::begin_transaction(connection)
}
