//! `celeriac migrate`: brings the forms of the broker's and the store's data up to this version, or shows them.

use clap::Args;
use serde_json::json;

use super::Global;
use super::exit::{Exit, Failure};
use super::output::{self, counted};
use super::rights::is_there;
use super::session::{Session, open_failure, operator};
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{BrokerTarget, StoreTarget};
use crate::sqlite::{Exam, SqliteBroker};
use crate::store::{AuditEntry, MigrationStatus, Store, StoreOptions};
use celeriac_actors::time::Clock as _;

/// Brings the data of broker and store up to this version.
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    /// Show what is there and what is missing; change nothing.
    #[arg(long, conflicts_with = "rollback")]
    status: bool,
    /// Undo the store's newest migration, and delete what it made.
    #[arg(long)]
    rollback: bool,
    /// Do not ask.
    #[arg(long, requires = "rollback")]
    yes: bool,
}

pub(crate) fn run(args: &MigrateArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    Session::block_on(async {
        if args.status {
            status(&session).await
        } else if args.rollback {
            rollback(&session, args.yes).await
        } else {
            migrate(&session).await
        }
    })?
}

/// Says one thing about one part of the data.
fn say(session: &Session, part: &str, what: &str, state: &str) {
    if session.json {
        output::json(&json!({ "part": part, "what": what, "state": state }));
    } else {
        output::line(&format!("{part:<6}  {state:<10}  {}", output::plain(what)));
    }
}

/// Returns the directory of the embedded broker, where there is one.
fn embedded(session: &Session) -> Option<&std::path::Path> {
    match &session.config.broker {
        BrokerTarget::Embedded { dir } => Some(dir),
        _ => None,
    }
}

fn version_of(exam: &Exam) -> String {
    format!("version {} of {}", exam.version, exam.known)
}

async fn migrate(session: &Session) -> Result<Exit, Failure> {
    let before = match embedded(session) {
        Some(dir) => SqliteBroker::examine(dir).map_err(open_failure)?,
        None => None,
    };
    // Opening it brings it up to date; it also makes the data directory, in which the store may be.
    drop(session.broker(None)?);
    if let Some(dir) = embedded(session)
        && let Some(after) = SqliteBroker::examine(dir).map_err(open_failure)?
    {
        let old = before.map_or(0, |exam| exam.version);
        let state = if old == after.version {
            "up to date"
        } else {
            "migrated"
        };
        say(session, "broker", &version_of(&after), state);
    }
    let store = open(session)?;
    let applied = Session::insist(|| store.migrate()).await?;
    if applied.is_empty() {
        say(session, "store", &store.url().to_string(), "up to date");
        return Ok(Exit::Ok);
    }
    for name in &applied {
        say(session, "store", name, "applied");
    }
    record(&store, "store.migrate", &applied.join(" ")).await?;
    Ok(Exit::Ok)
}

async fn status(session: &Session) -> Result<Exit, Failure> {
    match embedded(session).map(SqliteBroker::examine) {
        None => say(
            session,
            "broker",
            &session.config.broker.to_string(),
            "has none",
        ),
        Some(exam) => match exam.map_err(open_failure)? {
            None => say(
                session,
                "broker",
                &session.config.broker.to_string(),
                "missing",
            ),
            Some(exam) => {
                let state = match exam.version.cmp(&exam.known) {
                    std::cmp::Ordering::Less => "pending",
                    std::cmp::Ordering::Equal => "up to date",
                    std::cmp::Ordering::Greater => "newer",
                };
                say(session, "broker", &version_of(&exam), state);
            }
        },
    }
    // Looking must not make the file.
    if let StoreTarget::Sqlite { file } = &session.config.store.target
        && !is_there(file)?
    {
        say(
            session,
            "store",
            &session.store_url()?.to_string(),
            "missing",
        );
        return Ok(Exit::Ok);
    }
    let store = open(session)?;
    for migration in Session::insist(|| store.status()).await? {
        let state = match (&migration.name, migration.applied) {
            (None, _) => "unknown",
            (Some(_), true) => "applied",
            (Some(_), false) => "pending",
        };
        let name = migration.name.unwrap_or(migration.version);
        say(session, "store", &name, state);
    }
    Ok(Exit::Ok)
}

async fn rollback(session: &Session, yes: bool) -> Result<Exit, Failure> {
    if let StoreTarget::Sqlite { file } = &session.config.store.target
        && !is_there(file)?
    {
        let text = format!("there is no store at {}: nothing to undo", file.display());
        return Err(Failure::usage(text));
    }
    let store = open(session)?;
    let all = Session::insist(|| store.status()).await?;
    let newest = all.iter().rev().find(|migration| migration.applied);
    let Some(MigrationStatus {
        name: Some(newest), ..
    }) = newest
    else {
        let found = newest.map_or("no migration".to_owned(), |m| m.version.clone());
        return Err(Failure::usage(format!(
            "the store has {found}: nothing that can be undone here"
        )));
    };
    if !yes {
        let what = format!("{newest} of {} and deletes what it made", store.url());
        let question = format!("this undoes {what}; workers must be stopped. Go on?");
        match output::confirm(&question) {
            Some(true) => {}
            Some(false) => {
                return Err(Failure::new(
                    Exit::TaskFailed,
                    anyhow::anyhow!("nothing was undone"),
                ));
            }
            None => return Err(Failure::usage(format!("this undoes {what}: say --yes"))),
        }
    }
    // Before, not after: the audit may be what is undone.
    if all.iter().all(|migration| migration.applied) {
        record(&store, "store.rollback", newest).await?;
    }
    // Not repeated: a repeat after an unknown outcome could undo one more.
    let undone = store.rollback_one().await?;
    say(
        session,
        "store",
        &undone.unwrap_or_else(|| newest.clone()),
        "undone",
    );
    if session.config.store.migrate_at_start {
        output::complain(
            "celeriac: `run` applies it again at its start (`store.migrate_at_start`)",
        );
    }
    let left = all.iter().filter(|migration| migration.applied).count() as u64;
    if !session.json {
        let left = left.saturating_sub(1);
        output::complain(&format!("{} left", counted(left, "migration")));
    }
    Ok(Exit::Ok)
}

/// Opens the store as it is.
fn open(session: &Session) -> Result<Store, Failure> {
    Store::open(&session.store_url()?, StoreOptions::default()).map_err(Failure::from)
}

async fn record(store: &Store, action: &str, names: &str) -> Result<(), Failure> {
    let entry = AuditEntry {
        at: SystemClock.now(),
        actor: operator(),
        action: action.to_owned(),
        target: store.url().to_string(),
        detail: names.to_owned(),
    };
    Session::insist(|| store.record(entry.clone()))
        .await
        .map_err(Failure::from)
}
