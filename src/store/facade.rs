//! The store as everybody else sees it: one value, shared, whose steps may be awaited anywhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{
    ClusterCursor, ClusterPage, DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadPage,
    DeadStats, DeadStatus, Minute, QueueSnapshot, SnapshotRange, Snapshots, Span, StoreError,
    TaskSnapshot,
};
use celeriac_actors::time::Timestamp;

use super::audit::{self, AuditEntry, AuditRecord};
use super::connections::{Connections, Dialect as _, Live, on_either};
use super::fault::Fault;
use super::migrations::{self, MigrationStatus};
use super::threads::Threads;
use super::url::StoreUrl;
use super::{changes, clusters, letters, snapshots, stats};

/// How often a step is tried when it met a conflict or a connection that had gone.
const TRIES: u32 = 2;

/// How a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How many connections and threads it may have. Default 4; they are made when they are needed.
    pub connections: u32,
    /// How long a step waits for a connection, and for a lock, before the store counts as unavailable. Default 5 s.
    pub timeout: Duration,
    /// Whether the first step migrates a store that is older. Default no: it is refused, saying what to do.
    pub migrate: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            connections: 4,
            timeout: Duration::from_secs(5),
            migrate: false,
        }
    }
}

/// The store.
///
/// Opening connects to nothing, so a store that is away is found out by the first step and may be back at the next.
/// The first step that reaches it checks its schema.
///
/// ```
/// use celeriac::store::{Store, StoreOptions, StoreUrl};
/// use celeriac_actors::ports::{DeadFilter, DeadLetters as _};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = Store::open(&StoreUrl::file(dir.path().join("store.db")), StoreOptions::default())?;
/// store.migrate().await?;
/// assert_eq!(store.stats(&DeadFilter::default()).await?.total, 0);
/// # Ok::<(), celeriac_actors::ports::StoreError>(()) }).unwrap();
/// ```
pub struct Store {
    url: StoreUrl,
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    connections: Connections,
    migrate: bool,
    /// Whether the schema was found to fit; asked once, because a newer release may expand it under our feet.
    fits: AtomicBool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens a store without connecting to it.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when this program was built without the backend that `url` names,
    /// [`StoreError::Refused`] when its path cannot be used, [`StoreError::Unavailable`] when no thread can be started.
    pub fn open(url: &StoreUrl, options: StoreOptions) -> Result<Self, StoreError> {
        let connections = Connections::new(&url.0, &options)?;
        let threads = Threads::start(options.connections.max(1) as usize)
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            url: url.clone(),
            shared: Arc::new(Shared {
                connections,
                migrate: options.migrate,
                fits: AtomicBool::new(false),
            }),
            threads,
        })
    }

    /// Returns where the store is.
    #[must_use]
    pub const fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// Checks that the store can be reached and that its schema fits.
    ///
    /// # Errors
    /// [`StoreError::Schema`] says what to do; otherwise repeat.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.bare(migrations::check).await
    }

    /// Checks that the store takes writes, without writing.
    ///
    /// # Errors
    /// [`StoreError`] says why not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.run(|live| on_either!(live, |connection| connection.probe()))
            .await
    }

    /// Applies the migrations that the store lacks, all or none; returns their names.
    ///
    /// Safe to run in several processes at once: one does it, the others find it done.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the store is newer than this program; otherwise repeat.
    pub async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        self.bare(migrations::migrate).await
    }

    /// Reverts the newest migration and deletes what it made; returns its name, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the store is newer than this program. After [`StoreError::Unavailable`] look at the
    /// [`status`](Self::status) before repeating: the step may have happened.
    pub async fn rollback_one(&self) -> Result<Option<String>, StoreError> {
        let reverted = self.bare(|live| once(migrations::rollback_one(live))).await;
        self.shared.fits.store(false, Ordering::Release);
        reverted
    }

    /// Returns every migration that this program or the store knows, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    pub async fn status(&self) -> Result<Vec<MigrationStatus>, StoreError> {
        self.bare(migrations::status).await
    }

    /// Adds an entry to the audit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] leaves open whether it was added: a repeat may add it twice.
    pub async fn record(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.run(move |live| once(audit::record(live, &entry)))
            .await
    }

    /// Returns entries of the audit with an id below `before`, newest first; `limit` is clamped to 1..=1000.
    ///
    /// # Errors
    /// [`StoreError`]: repeat.
    pub async fn audit(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.run(move |live| audit::list(live, before, limit)).await
    }

    /// Runs a step on a store whose schema fits.
    async fn run<T: Send + 'static>(
        &self,
        step: impl Fn(&mut Live) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.bare(move |live| {
            shared.ensure_fits(live)?;
            step(live)
        })
        .await
    }

    /// Runs a step whatever the schema is.
    async fn bare<T: Send + 'static>(
        &self,
        step: impl Fn(&mut Live) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let answer = self.threads.run(move || shared.attempt(step)).await;
        answer.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(
                "a step of the store panicked".into(),
            ))
        })
    }
}

impl Shared {
    fn attempt<T>(&self, step: impl Fn(&mut Live) -> Result<T, Fault>) -> Result<T, StoreError> {
        let mut tries = 1;
        loop {
            let (mut live, file) = self.connections.take().inspect_err(|_| self.doubt())?;
            match step(&mut live) {
                Err(fault) if fault.may_pass() && tries < TRIES => tries += 1,
                outcome => {
                    drop(live);
                    let outcome = outcome.map_err(Fault::into_store_error);
                    let confirmed = self.connections.confirm(file);
                    if confirmed.is_err() || matches!(outcome, Err(StoreError::Schema(_))) {
                        self.doubt();
                    }
                    return confirmed.and(outcome);
                }
            }
        }
    }

    /// Has the next step check the schema again: a file may be another one by then.
    fn doubt(&self) {
        if matches!(self.connections, Connections::Sqlite(_)) {
            self.fits.store(false, Ordering::Release);
        }
    }

    fn ensure_fits(&self, live: &mut Live) -> Result<(), Fault> {
        if !self.fits.load(Ordering::Acquire) {
            if self.migrate {
                migrations::migrate(live)?;
            }
            migrations::check(live)?;
            self.fits.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// Keeps a step that must not happen twice from being tried again.
fn once<T>(outcome: Result<T, Fault>) -> Result<T, Fault> {
    outcome.map_err(|fault| Fault::Store(fault.into_store_error()))
}

#[async_trait]
impl DeadLetters for Store {
    async fn insert(&self, letters: Vec<DeadLetter>) -> Result<u64, StoreError> {
        let rows = letters::prepared(&letters)?;
        drop(letters);
        self.run(move |live| letters::insert(live, &rows)).await
    }

    async fn list(
        &self,
        filter: &DeadFilter,
        after: Option<DeadCursor>,
        limit: u32,
    ) -> Result<DeadPage, StoreError> {
        let filter = filter.clone();
        self.run(move |live| letters::list(live, &filter, after, limit))
            .await
    }

    async fn show(&self, id: BurialId) -> Result<DeadLetter, StoreError> {
        self.run(move |live| letters::show(live, id)).await
    }

    async fn begin_revival(
        &self,
        id: BurialId,
        edited: Option<&[u8]>,
    ) -> Result<DeadLetter, StoreError> {
        let edited = edited.map(<[u8]>::to_vec);
        self.run(move |live| changes::begin_revival(live, id, edited.as_deref()))
            .await
    }

    async fn finish_revival(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        let ids = ids.to_vec();
        self.run(move |live| changes::mark(live, &ids, DeadStatus::Reviving, DeadStatus::Revived))
            .await
    }

    async fn discard(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        let ids = ids.to_vec();
        self.run(move |live| changes::mark(live, &ids, DeadStatus::New, DeadStatus::Discarded))
            .await
    }

    async fn purge(&self, filter: &DeadFilter, limit: u32) -> Result<u64, StoreError> {
        let filter = filter.clone();
        self.run(move |live| changes::purge(live, &filter, limit))
            .await
    }

    async fn trim(&self, keep: u64, limit: u32) -> Result<u64, StoreError> {
        self.run(move |live| changes::trim(live, keep, limit)).await
    }

    async fn stats(&self, filter: &DeadFilter) -> Result<DeadStats, StoreError> {
        let filter = filter.clone();
        self.run(move |live| stats::stats(live, &filter)).await
    }

    async fn clusters(
        &self,
        filter: &DeadFilter,
        after: Option<ClusterCursor>,
        limit: u32,
    ) -> Result<ClusterPage, StoreError> {
        let filter = filter.clone();
        self.run(move |live| clusters::clusters(live, &filter, after, limit))
            .await
    }
}

#[async_trait]
impl Snapshots for Store {
    async fn probe(&self) -> Result<(), StoreError> {
        Self::probe(self).await
    }

    async fn write(&self, minute: &Minute) -> Result<(), StoreError> {
        let minute = minute.clone();
        self.run(move |live| snapshots::write(live, &minute)).await
    }

    async fn queue_snapshots(
        &self,
        range: &SnapshotRange,
    ) -> Result<Vec<QueueSnapshot>, StoreError> {
        let range = range.clone();
        self.run(move |live| snapshots::queues(live, &range)).await
    }

    async fn task_snapshots(&self, range: &SnapshotRange) -> Result<Vec<TaskSnapshot>, StoreError> {
        let range = range.clone();
        self.run(move |live| snapshots::tasks(live, &range)).await
    }

    async fn prune(&self, span: Span, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        self.run(move |live| snapshots::prune(live, span, before, limit))
            .await
    }
}
