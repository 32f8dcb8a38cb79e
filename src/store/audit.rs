//! The audit of admin actions: who did what to what, only ever added to.

use celeriac_actors::time::Timestamp;
use diesel::prelude::*;

use super::connections::{Live, on_either};
use super::fault::Fault;
use super::rows::{instant, millis};
use super::schema::audit;

/// One action of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a user, an address, a command.
    pub actor: String,
    /// What: `dead.purge`, `queue.pause`, ….
    pub action: String,
    /// To what: a queue, a task's id, a filter.
    pub target: String,
    /// What else is worth knowing. Never arguments or secrets.
    pub detail: String,
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number, ascending.
    pub id: i64,
    /// What was done.
    pub entry: AuditEntry,
}

#[derive(Queryable)]
struct AuditRow {
    id: i64,
    at: i64,
    actor: String,
    action: String,
    target: String,
    detail: String,
}

/// Adds an entry.
pub(super) fn record(live: &mut Live, entry: &AuditEntry) -> Result<(), Fault> {
    on_either!(live, |connection| {
        diesel::insert_into(audit::table)
            .values((
                audit::at.eq(millis(entry.at)),
                audit::actor.eq(&entry.actor),
                audit::action.eq(&entry.action),
                audit::target.eq(&entry.target),
                audit::detail.eq(&entry.detail),
            ))
            .execute(connection)?;
    });
    Ok(())
}

/// Returns entries older than `before`, newest first.
pub(super) fn list(
    live: &mut Live,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditRecord>, Fault> {
    let rows: Vec<AuditRow> = on_either!(live, |connection| {
        audit::table
            .filter(audit::id.lt(before.unwrap_or(i64::MAX)))
            .order(audit::id.desc())
            .limit(limit.clamp(1, 1_000).into())
            .load(connection)?
    });
    Ok(rows.into_iter().map(AuditRecord::from).collect())
}

impl From<AuditRow> for AuditRecord {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            entry: AuditEntry {
                at: instant(row.at),
                actor: row.actor,
                action: row.action,
                target: row.target,
                detail: row.detail,
            },
        }
    }
}
