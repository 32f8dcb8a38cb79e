//! What the commands about dead letters work at: the store, and the broker that may still hold some of them.

use std::sync::Arc;

use celeriac_actors::copy::copy_dead;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, DeadFilter, DeadLetter, DeadLetters as _, StoreError};
use celeriac_actors::time::{Clock as _, Timestamp};

use super::super::exit::{Exit, Failure};
use super::super::output;
use super::super::rights::is_there;
use super::super::session::{Session, operator};
use super::filter::Filters;
use crate::admin::dead::{Letters, Pages, Told, Wanted};
use crate::admin::fault::Fault;
use crate::clock::SystemClock;
use crate::config::StoreTarget;
use crate::look::Patience;
use crate::sqlite::OpenError;
use crate::store::{AuditEntry, Store, StoreOptions};
use crate::suggest::did_you_mean;

/// How many dead tasks are copied, and how many letters are read, in one step.
pub(super) const STEP: u32 = 200;

/// Where the commands about dead letters work.
pub(super) struct Desk {
    pub(super) session: Session,
    pub(super) store: Arc<Store>,
    broker: Result<Arc<dyn Broker>, Failure>,
    pub(super) now: Timestamp,
}

impl Desk {
    /// Opens the store and the broker, and copies the dead tasks that are not stored yet.
    ///
    /// Makes nothing: where nothing ever ran there is nothing dead, and the directory may be the wrong one.
    pub(super) async fn open(session: Session) -> Result<Self, Failure> {
        let url = session.store_url()?;
        if let StoreTarget::Sqlite { file } = &session.config.store.target
            && !is_there(file)?
        {
            return Err(Failure::unavailable(anyhow::anyhow!(
                "there is no store at {}: `celeriac run` or `celeriac migrate` makes it; is the data directory right?",
                file.display()
            )));
        }
        let store = Arc::new(Store::open(&url, StoreOptions::default())?);
        Session::insist(|| store.check()).await?;
        let broker = match session.existing_broker() {
            // What is wrong with the configuration is no outage; what is wrong with the database keeps nobody from the
            // letters that are stored.
            Err(failure) if failure.exit() == Exit::Usage && !failure.is::<OpenError>() => {
                return Err(failure);
            }
            broker => broker,
        };
        let desk = Self {
            session,
            store,
            broker,
            now: SystemClock.now(),
        };
        desk.copy().await;
        Ok(desk)
    }

    /// Returns the broker, for what cannot be done without it.
    pub(super) fn broker(&self) -> Result<&Arc<dyn Broker>, Failure> {
        let again = |failure: &Failure| Failure::unavailable(anyhow::anyhow!("{failure}"));
        self.broker.as_ref().map_err(again)
    }

    /// Copies what the broker still holds. What stays there is said and stops nothing: it is not lost.
    pub(super) async fn copy(&self) {
        let broker = match &self.broker {
            Ok(broker) => broker,
            Err(failure) => {
                return output::complain(&format!(
                    "celeriac: dead tasks that are not stored yet are not among these: {failure}"
                ));
            }
        };
        let limits = self.session.limits();
        loop {
            let step = || copy_dead(&**broker, &*self.store, &limits, STEP);
            match Session::insist(step).await {
                Ok(found) if found == STEP as usize => {}
                Ok(_) => return,
                Err(error) => {
                    return output::complain(&format!(
                        "celeriac: dead tasks that are not stored yet are not among these: {error}"
                    ));
                }
            }
        }
    }

    /// Checks what a filter names and returns it as the store knows it.
    pub(super) async fn filter(&self, filters: &Filters) -> Result<DeadFilter, Failure> {
        let filter = filters.resolve(self.now);
        if filter.since >= filter.until && filter.until.is_some() && filter.since.is_some() {
            return Err(Failure::usage("--since must lie before --until"));
        }
        if let Some(queue) = &filter.queue {
            self.check_queue(queue).await?;
        }
        if let Some(task) = &filter.task {
            let all = self.stats(&DeadFilter::default()).await?;
            let names = || all.by_task.iter().map(|row| row.key.as_str());
            if !names().any(|name| name == task.as_str())
                && let Some(hint) = did_you_mean(task.as_str(), names())
            {
                output::complain(&format!(
                    "celeriac: no dead letter is of task {task}; {hint}"
                ));
            }
        }
        Ok(filter)
    }

    /// A queue may be gone from the configuration and still have dead letters.
    async fn check_queue(&self, queue: &QueueName) -> Result<(), Failure> {
        let Err(report) = self.session.config.known_queue(queue.as_str(), "--queue") else {
            return Ok(());
        };
        let all = self.stats(&DeadFilter::default()).await?;
        if all.by_queue.iter().any(|row| row.key == queue.as_str()) {
            return Ok(());
        }
        if let Ok(broker) = &self.broker {
            let queues = Session::insist(|| broker.queues()).await?;
            if queues.iter().any(|status| status.queue == *queue) {
                return Ok(());
            }
        }
        Err(Failure::new(Exit::Usage, report))
    }

    /// Counts the letters that match.
    pub(super) async fn stats(
        &self,
        filter: &DeadFilter,
    ) -> Result<celeriac_actors::ports::DeadStats, Failure> {
        Ok(Session::insist(|| self.store.stats(filter)).await?)
    }

    /// Returns the letters of the store.
    fn letters(&self) -> Letters<'_> {
        Letters {
            store: &self.store,
            patience: Patience::ONE_SHOT,
        }
    }

    /// Finds the letter that somebody named. `open` says that only letters about which nothing is decided can be meant.
    pub(super) async fn find(&self, wanted: Wanted, open: bool) -> Result<DeadLetter, Failure> {
        Ok(self.letters().find(wanted, open).await?)
    }

    /// Finds all letters that somebody named; every one that is not there is named before anything is done.
    pub(super) async fn find_all(&self, wanted: &[Wanted]) -> Result<Vec<DeadLetter>, Failure> {
        let mut letters: Vec<DeadLetter> = Vec::new();
        let mut missing = Vec::new();
        for wanted in wanted {
            match self.find(*wanted, true).await {
                Ok(letter) if letters.iter().any(|other| other.id == letter.id) => {}
                Ok(letter) => letters.push(letter),
                Err(failure) if failure.exit() == Exit::Usage => missing.push(failure.to_string()),
                Err(failure) => return Err(failure),
            }
        }
        if missing.is_empty() {
            Ok(letters)
        } else {
            missing.push("nothing was changed".to_owned());
            Err(Failure::usage(missing.join("; ")))
        }
    }

    /// Starts to read all letters that match, newest first.
    pub(super) fn pages(&self, filter: DeadFilter, limit: Option<u64>) -> Pages<'_> {
        self.letters().pages(filter, limit)
    }

    /// Revives letters and says of each what became of it.
    pub(super) async fn revive(
        &self,
        letters: &[DeadLetter],
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        let broker = self.broker()?;
        Ok(self.letters().revive(letters, broker, told).await?)
    }

    /// Discards letters and says of each what became of it.
    pub(super) async fn discard(
        &self,
        letters: &[DeadLetter],
        told: &mut Told<'_>,
    ) -> Result<(), Failure> {
        Ok(self.letters().discard(letters, told).await?)
    }

    /// Deletes at most `left` letters that match; returns how many went, and what ended it early.
    pub(super) async fn purge(&self, filter: &DeadFilter, left: u64) -> (u64, Result<(), Fault>) {
        self.letters().purge(filter, left).await
    }

    /// Returns how many letters match that may be deleted.
    pub(super) async fn purgeable(&self, filter: &DeadFilter) -> Result<u64, Failure> {
        Ok(self.letters().purgeable(filter).await?)
    }

    /// Writes into the audit what was done.
    pub(super) async fn record(
        &self,
        action: &str,
        target: String,
        detail: String,
    ) -> Result<(), Failure> {
        let entry = AuditEntry {
            at: self.now,
            actor: operator(),
            action: action.to_owned(),
            target,
            detail,
        };
        let written = Session::insist(|| self.store.record(entry.clone())).await;
        written.map_err(|error: StoreError| {
            Failure::unavailable(
                anyhow::Error::from(error).context("it is done, but not recorded in the audit"),
            )
        })
    }
}
