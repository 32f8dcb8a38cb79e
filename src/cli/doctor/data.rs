//! The data: broker and store, and the workers that live on them. Looks without migrating or making anything.

use std::sync::Arc;

use celeriac_actors::ports::{
    Broker, DeadFilter, DeadLetters as _, Durability, StoreError, WorkerRecord,
};
use celeriac_actors::time::{Clock as _, Timestamp};

use super::super::exit::Exit;
use super::super::output::{counted, size};
use super::super::rights::is_there;
use super::super::session::{Session, open_failure};
use super::super::spool;
use super::Round;
use super::finding::{Blame, Finding};
use crate::admin::queues::is_trace;
use crate::clock::SystemClock;
use crate::config::{BrokerTarget, StoreTarget};
use crate::sqlite::{Exam, SqliteBroker};
use crate::store::{Store, StoreOptions};

/// A log of this size is not moved into the database: something reads for very long.
const LONG_LOG: u64 = 256 << 20;

/// The broker as far as it could be opened.
pub(super) struct Seen {
    /// The newest instant in its data.
    pub(super) newest: Option<Timestamp>,
    pub(super) open: Option<Arc<dyn Broker>>,
}

/// Checks the broker and what runs on it.
pub(super) async fn broker(session: &Session, round: &mut Round) -> Option<Seen> {
    let dir = match &session.config.broker {
        BrokerTarget::Embedded { dir } => dir,
        #[cfg(feature = "redis")]
        BrokerTarget::Redis { url } => {
            let (fit, findings) = super::redis::check(session, url);
            round.note(findings);
            let open = if fit {
                open(session, round).await
            } else {
                None
            };
            return Some(Seen { newest: None, open });
        }
        _ => {
            let refused = session.broker(None).err();
            let text = refused.map(|failure| failure.to_string());
            let text = text.unwrap_or_default();
            round.note([Finding::failure(Blame::Configuration, "broker", text)]);
            return None;
        }
    };
    let exam = match SqliteBroker::examine(dir) {
        Ok(Some(exam)) => exam,
        Ok(None) => {
            let text = format!("no database in {} yet", dir.display());
            let advice = "`celeriac run` and `celeriac migrate` make it";
            round.note([Finding::warning("broker", text).advise(advice)]);
            return None;
        }
        Err(error) => {
            let text = open_failure(error).to_string();
            round.note([Finding::failure(Blame::Data, "broker", text)]);
            return None;
        }
    };
    round.note(database(&exam));
    let newest = exam.newest;
    let open = match exam.version == exam.known && exam.damage.is_empty() {
        true => open(session, round).await,
        false => None,
    };
    Some(Seen { newest, open })
}

/// Looks at the server that keeps the results, where that is not the broker's.
pub(super) fn results(session: &Session) -> Vec<Finding> {
    match session.keeper().server() {
        #[cfg(feature = "redis")]
        Some(url) => super::redis::results(session, url),
        _ => Vec::new(),
    }
}

/// Opens the broker and checks what runs on it.
async fn open(session: &Session, round: &mut Round) -> Option<Arc<dyn Broker>> {
    match session.broker(None) {
        Ok(broker) => {
            let mut findings = life(&broker).await;
            let class = broker.durability();
            // The look at its servers has warned of that already.
            let is_told = class == Durability::Volatile
                && matches!(session.config.broker, BrokerTarget::Redis { .. });
            if !is_told {
                findings.insert(0, worth(class));
            }
            round.note(findings);
            Some(broker)
        }
        Err(failure) => {
            let blame = match (failure.exit(), &session.config.broker) {
                (Exit::Usage, BrokerTarget::Redis { .. }) => Blame::Configuration,
                _ => Blame::Data,
            };
            round.note([Finding::failure(blame, "broker", failure.to_string())]);
            None
        }
    }
}

/// Judges the database itself.
fn database(exam: &Exam) -> Vec<Finding> {
    let mut findings = Vec::new();
    let version = format!("schema version {} of {}", exam.version, exam.known);
    findings.push(match exam.version.cmp(&exam.known) {
        std::cmp::Ordering::Less => Finding::warning("broker", version)
            .advise("`celeriac migrate` brings it up to date, and so does the next `celeriac run`"),
        std::cmp::Ordering::Equal => Finding::ok("broker", version),
        std::cmp::Ordering::Greater => Finding::failure(Blame::Data, "broker", version)
            .advise("run the newer version that made it"),
    });
    findings.push(match exam.damage.is_empty() {
        true => Finding::ok("broker", "its database is sound"),
        false => Finding::failure(
            Blame::Data,
            "broker",
            format!("damaged: {}", exam.damage.join("; ")),
        )
        .advise(
            "stop every process, restore broker.db from a backup, or `sqlite3 broker.db .recover`",
        ),
    });
    let sizes = format!("{}, its log {}", size(exam.size), size(exam.log_size));
    findings.push(match exam.log_size > LONG_LOG {
        true => Finding::warning("broker", sizes).advise(
            "the log is not moved into the database: look for a process that reads it without end",
        ),
        false => Finding::ok("broker", sizes),
    });
    findings
}

/// Judges the spool, where one is configured.
pub(super) fn spool(session: &Session) -> Option<Finding> {
    let seen = spool::look(&session.config)?;
    let text = seen.text(SystemClock.now());
    Some(match &seen.status {
        Err(_) => Finding::failure(Blame::Data, "spool", text)
            .advise("`spool` names a file on a local disk that this user may write"),
        Ok(status) if status.rejected > 0 => Finding::warning("spool", text).advise(
            "`celeriac spool rejected list` has them with the reasons; mend those and `retry` them, or `drop` them",
        ),
        Ok(status) if status.tasks > 0 => Finding::warning("spool", text)
            .advise("`celeriac run` or `celeriac enqueue` with this spool relays it when the broker is there"),
        Ok(_) => Finding::ok("spool", text),
    })
}

/// Judges what the broker promises.
fn worth(class: Durability) -> Finding {
    let worth = match class {
        Durability::PowerSafe => "an acknowledged task survives a power cut",
        Durability::CrashSafe => {
            "an acknowledged task survives a crash, but the last ones not a power cut"
        }
        Durability::Volatile => "an acknowledged task is lost with the broker's process",
    };
    let text = format!("{}: {worth}", class.as_str());
    match class {
        Durability::Volatile => Finding::warning("broker", text).advise("use a broker that writes"),
        _ => Finding::ok("broker", text),
    }
}

/// Judges what the broker holds, and who lives on it.
async fn life(broker: &Arc<dyn Broker>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match Session::insist(|| broker.queues()).await {
        Ok(mut queues) => {
            queues.retain(|queue| !is_trace(queue));
            let paused: Vec<&str> = queues
                .iter()
                .filter(|q| q.paused)
                .map(|q| q.queue.as_str())
                .collect();
            if !paused.is_empty() {
                let text = format!("paused, nothing of them starts: {}", paused.join(", "));
                findings.push(Finding::warning("queues", text));
            }
            let held = queues
                .iter()
                .map(celeriac_actors::ports::QueueStatus::held)
                .sum();
            let text = format!(
                "{} {} {}",
                counted(queues.len() as u64, "queue"),
                if queues.len() == 1 { "holds" } else { "hold" },
                counted(held, "task")
            );
            findings.push(Finding::ok("queues", text));
        }
        Err(error) => findings.push(Finding::failure(Blame::Data, "queues", error.to_string())),
    }
    match Session::insist(|| broker.workers()).await {
        Ok(workers) => findings.extend(living(&workers)),
        Err(error) => findings.push(Finding::failure(Blame::Data, "workers", error.to_string())),
    }
    findings
}

/// Judges the records of the workers.
fn living(workers: &[WorkerRecord]) -> Vec<Finding> {
    let alive: Vec<&WorkerRecord> = workers.iter().filter(|worker| worker.alive).collect();
    let mut findings = Vec::new();
    if alive.is_empty() {
        findings.push(
            Finding::warning("workers", "none is alive: nothing runs").advise("`celeriac run`"),
        );
    } else {
        let names: Vec<String> = alive
            .iter()
            .map(|worker| worker.worker.to_string())
            .collect();
        findings.push(Finding::ok(
            "workers",
            format!("alive: {}", names.join(", ")),
        ));
    }
    let other = |worker: &&&WorkerRecord| worker.version != env!("CARGO_PKG_VERSION");
    let others: Vec<String> = alive
        .iter()
        .filter(other)
        .map(|worker| format!("{} ({})", worker.worker, worker.version))
        .collect();
    if !others.is_empty() {
        let text = format!(
            "of another version than {}: {}",
            env!("CARGO_PKG_VERSION"),
            others.join(", ")
        );
        findings.push(Finding::warning("workers", text));
    }
    findings
}

/// Judges the file of a store that cannot be opened, because it is not there or may not be read.
fn missing_file(store: &StoreTarget, advice: &'static str) -> Option<Finding> {
    let StoreTarget::Sqlite { file } = store else {
        return None;
    };
    match is_there(file) {
        Ok(true) => None,
        Ok(false) => {
            let text = format!("{} is not there yet", file.display());
            Some(Finding::warning("store", text).advise(advice))
        }
        Err(failure) => Some(Finding::failure(Blame::Data, "store", failure.to_string())),
    }
}

/// Checks the store.
pub(super) async fn store(session: &Session, round: &mut Round) -> Option<Store> {
    let at_start = session.config.store.migrate_at_start;
    let advice = match at_start {
        true => "`celeriac migrate` makes it, and so does the next `celeriac run`",
        false => "`celeriac migrate` makes it",
    };
    if let Some(finding) = missing_file(&session.config.store.target, advice) {
        round.note([finding]);
        return None;
    }
    let url = match session.store_url() {
        Ok(url) => url,
        Err(failure) => {
            round.note([Finding::failure(
                Blame::Configuration,
                "store",
                failure.to_string(),
            )]);
            return None;
        }
    };
    let store = match Store::open(&url, StoreOptions::default()) {
        Ok(store) => store,
        Err(error) => {
            round.note([Finding::failure(
                Blame::Configuration,
                "store",
                error.to_string(),
            )]);
            return None;
        }
    };
    match Session::insist(|| store.status()).await {
        Ok(all)
            if all
                .iter()
                .all(|migration| migration.applied && migration.name.is_some()) =>
        {
            let text = format!("{url}: {} in place", counted(all.len() as u64, "migration"));
            round.note([Finding::ok("store", text)]);
            Some(store)
        }
        Ok(all) => {
            let fit = store.check().await.err().map(|error| error.to_string());
            let newer = all.iter().any(|migration| migration.name.is_none());
            let text = fit.unwrap_or_default();
            round.note([match at_start && !newer {
                true => {
                    Finding::warning("store", text).advise("the next `celeriac run` migrates it")
                }
                false => Finding::failure(Blame::Data, "store", text),
            }]);
            None
        }
        Err(error) => {
            let advice = match &error {
                StoreError::Refused(_) => "check its disk and its rights",
                _ => "is the server up, is the URL right, does another process hold a lock?",
            };
            round.note([Finding::failure(Blame::Data, "store", error.to_string()).advise(advice)]);
            None
        }
    }
}

/// Returns the newest instant that the data has.
pub(super) async fn newest(broker: Option<&Seen>, store: Option<&Store>) -> Option<Timestamp> {
    let in_store = match store {
        Some(store) => store.list(&DeadFilter::default(), None, 1).await.ok(),
        None => None,
    };
    let buried = in_store.and_then(|page| page.letters.first().map(|letter| letter.buried_at));
    buried.max(broker.and_then(|broker| broker.newest))
}
