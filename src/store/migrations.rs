//! The schema: embedded migrations, run by one process at a time and refused when they do not fit.

use celeriac_actors::ports::StoreError;
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connections::{Dialect as _, Live, on_either};
use super::fault::{Fault, classify};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
#[cfg(feature = "postgres")]
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The table in which Diesel notes what was applied.
const APPLIED_TABLE: &str = "__diesel_schema_migrations";

diesel::table! {
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// One migration and whether the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its version: digits that sort by age.
    pub version: String,
    /// Its name; `None` when the store has it and this program does not know it.
    pub name: Option<String>,
    /// Whether the store has it.
    pub applied: bool,
}

/// Returns every migration known here or to the store, oldest first. Writes nothing.
pub(super) fn status(live: &mut Live) -> Result<Vec<MigrationStatus>, Fault> {
    let applied = applied(live)?;
    let known = known(live)?;
    let mut all: Vec<MigrationStatus> = known
        .iter()
        .map(|(version, name)| MigrationStatus {
            version: version.clone(),
            name: Some(name.clone()),
            applied: applied.contains(version),
        })
        .collect();
    let is_known = |version: &String| known.iter().any(|(known, _)| known == version);
    all.extend(
        applied
            .into_iter()
            .filter(|version| !is_known(version))
            .map(|version| MigrationStatus {
                version,
                name: None,
                applied: true,
            }),
    );
    all.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(all)
}

/// Checks that the store has exactly the migrations known here.
pub(super) fn check(live: &mut Live) -> Result<(), Fault> {
    let all = status(live)?;
    refuse_newer(&all)?;
    let missing = all.iter().filter(|migration| !migration.applied).count();
    match missing {
        0 => Ok(()),
        _ if missing == all.len() => Err(StoreError::Schema(
            "it has no tables yet: run `celeriac migrate`".to_owned(),
        )
        .into()),
        _ => Err(StoreError::Schema(format!(
            "it is older than this program by {missing} migration(s): run `celeriac migrate`"
        ))
        .into()),
    }
}

/// Applies what is missing, all or nothing; returns the names of what was applied.
pub(super) fn migrate(live: &mut Live) -> Result<Vec<String>, Fault> {
    let before = status(live)?;
    refuse_newer(&before)?;
    let missing: Vec<_> = before
        .into_iter()
        .filter(|migration| !migration.applied)
        .collect();
    if missing.is_empty() {
        // Without a lock: every start of every process comes through here.
        return Ok(Vec::new());
    }
    let applied = match live {
        Live::Sqlite(connection) => connection.alone(|c| run_pending(c, SQLITE))?,
        #[cfg(feature = "postgres")]
        Live::Postgres(connection) => connection.alone(|c| run_pending(c, POSTGRES))?,
    };
    let name_of = |version: &String| missing.iter().find(|m| m.version == *version)?.name.clone();
    Ok(applied.iter().filter_map(name_of).collect())
}

/// Reverts the newest migration; returns its name, or `None` when there is none to revert.
pub(super) fn rollback_one(live: &mut Live) -> Result<Option<String>, Fault> {
    let all = status(live)?;
    refuse_newer(&all)?;
    if all.iter().all(|migration| !migration.applied) {
        return Ok(None);
    }
    let version = match live {
        Live::Sqlite(connection) => connection.alone(|c| revert_last(c, SQLITE))?,
        #[cfg(feature = "postgres")]
        Live::Postgres(connection) => connection.alone(|c| revert_last(c, POSTGRES))?,
    };
    Ok(all
        .into_iter()
        .find(|m| m.version == version)
        .and_then(|m| m.name))
}

fn refuse_newer(all: &[MigrationStatus]) -> Result<(), StoreError> {
    match all.iter().rev().find(|migration| migration.name.is_none()) {
        None => Ok(()),
        Some(newer) => Err(StoreError::Schema(format!(
            "it has migration {}, which this program does not know: run the newer version that made \
             it, or roll back with that version",
            newer.version
        ))),
    }
}

fn run_pending<C, DB>(connection: &mut C, source: EmbeddedMigrations) -> Result<Vec<String>, Fault>
where
    C: MigrationHarness<DB>,
    DB: diesel::backend::Backend,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let applied = connection.run_pending_migrations(source).map_err(fault)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}

fn revert_last<C, DB>(connection: &mut C, source: EmbeddedMigrations) -> Result<String, Fault>
where
    C: MigrationHarness<DB>,
    DB: diesel::backend::Backend,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let reverted = connection.revert_last_migration(source).map_err(fault)?;
    Ok(reverted.to_string())
}

/// Returns the versions that the store has.
fn applied(live: &mut Live) -> Result<Vec<String>, Fault> {
    on_either!(live, |connection| {
        if !connection.has_table(APPLIED_TABLE)? {
            return Ok(Vec::new());
        }
        let versions = __diesel_schema_migrations::table
            .select(__diesel_schema_migrations::version)
            .load(connection)?;
        Ok(versions)
    })
}

/// Returns the versions and names known here.
fn known(live: &Live) -> Result<Vec<(String, String)>, Fault> {
    match live {
        Live::Sqlite(_) => names::<diesel::sqlite::Sqlite>(SQLITE),
        #[cfg(feature = "postgres")]
        Live::Postgres(_) => names::<diesel::pg::Pg>(POSTGRES),
    }
}

fn names<DB: diesel::backend::Backend>(
    source: EmbeddedMigrations,
) -> Result<Vec<(String, String)>, Fault>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let migrations = source.migrations().map_err(fault)?;
    Ok(migrations
        .iter()
        .map(|migration| {
            (
                migration.name().version().to_string(),
                migration.name().to_string(),
            )
        })
        .collect())
}

fn fault(error: Box<dyn std::error::Error + Send + Sync>) -> Fault {
    match error.downcast::<diesel::result::Error>() {
        Ok(error) => Fault::Driver(*error),
        Err(error) => Fault::Store(classify(error.to_string())),
    }
}
