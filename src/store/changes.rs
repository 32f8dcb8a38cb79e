//! What becomes of dead letters: revived, discarded, purged. Every step may be repeated.

use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadStatus, StoreError};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::connections::{Dialect as _, Live, on_either};
use super::fault::Fault;
use super::letters::{narrowed, of_task, show};
use super::rows::key;
use super::schema::{dead_letters, dead_stats};
use super::stats::DAY;

/// How many letters one transaction changes or deletes: others get their turn in between.
const STEP: usize = 500;

/// Marks a new letter as being revived, with edited bytes where there are some, and counts it; returns the letter as it is
/// then.
pub(super) fn begin_revival(
    live: &mut Live,
    id: BurialId,
    edited: Option<&[u8]>,
) -> Result<DeadLetter, Fault> {
    let changed = on_either!(live, |connection| {
        let is_new = dead_letters::status.eq(DeadStatus::New.as_str());
        let key = key(id);
        connection.writing(|connection| {
            let this = dead_letters::table.find(key.as_slice()).filter(is_new);
            Ok(diesel::update(this)
                .set((
                    dead_letters::status.eq(DeadStatus::Reviving.as_str()),
                    dead_letters::revivals.eq(dead_letters::revivals + 1),
                    dead_letters::edited.eq(edited),
                ))
                .execute(connection)?)
        })?
    });
    let letter = show(live, id)?;
    match letter.status {
        DeadStatus::Reviving => Ok(letter),
        // Somebody else finished between our two statements: the revival that we began is theirs.
        status if changed == 1 && status == DeadStatus::Revived => Ok(letter),
        status => Err(StoreError::Status { id, status }.into()),
    }
}

/// Moves letters from one status to another; returns how many were in it.
pub(super) fn mark(
    live: &mut Live,
    ids: &[BurialId],
    from: DeadStatus,
    to: DeadStatus,
) -> Result<u64, Fault> {
    let keys: Vec<Vec<u8>> = ids.iter().map(|id| key(*id).to_vec()).collect();
    let mut changed = 0;
    for step in keys.chunks(STEP) {
        changed += on_either!(live, |connection| {
            let those = dead_letters::id
                .eq_any(step)
                .and(dead_letters::status.eq(from.as_str()));
            connection.writing(|connection| {
                Ok(diesel::update(dead_letters::table.filter(those))
                    .set(dead_letters::status.eq(to.as_str()))
                    .execute(connection)?)
            })?
        });
    }
    Ok(changed as u64)
}

/// Deletes letters that match, oldest first, at most `limit`, never one that is being revived.
pub(super) fn purge(live: &mut Live, filter: &DeadFilter, limit: u32) -> Result<u64, Fault> {
    let mut gone = 0;
    while gone < limit as usize {
        let most = STEP.min(limit as usize - gone);
        let keys = keys_to_purge(live, filter, most)?;
        gone += delete(live, &keys)?;
        if keys.len() < most {
            break;
        }
    }
    Ok(gone as u64)
}

/// Deletes the oldest letters beyond the newest `keep`, at most `limit`, never one that is being revived.
pub(super) fn trim(live: &mut Live, keep: u64, limit: u32) -> Result<u64, Fault> {
    let mut gone = 0;
    while gone < limit as usize {
        let most = STEP.min(limit as usize - gone);
        let step = trim_step(live, keep, most)?;
        gone += step;
        if step < most {
            break;
        }
    }
    Ok(gone as u64)
}

/// Counts and deletes in one transaction that nobody writes beside.
fn trim_step(live: &mut Live, keep: u64, most: usize) -> Result<usize, Fault> {
    on_either!(live, |connection| connection.writing(|connection| {
        let sum = sql::<BigInt>("CAST(COALESCE(SUM(count), 0) AS BIGINT)");
        let total: i64 = dead_stats::table
            .filter(dead_stats::span.eq(DAY))
            .select(sum)
            .first(connection)?;
        let over = u64::try_from(total).unwrap_or(0).saturating_sub(keep);
        let over = over.min(most as u64);
        if over == 0 {
            return Ok(0);
        }
        let keys: Vec<Vec<u8>> = dead_letters::table
            .select(dead_letters::id)
            .filter(dead_letters::status.ne(DeadStatus::Reviving.as_str()))
            .order((dead_letters::buried_at.asc(), dead_letters::id.asc()))
            .limit(i64::try_from(over).unwrap_or(i64::MAX))
            .load(connection)?;
        let those = dead_letters::table.filter(dead_letters::id.eq_any(&keys));
        Ok(diesel::delete(those).execute(connection)?)
    }))
}

fn keys_to_purge(
    live: &mut Live,
    filter: &DeadFilter,
    limit: usize,
) -> Result<Vec<Vec<u8>>, Fault> {
    if let Some(task) = filter.id {
        let letters = of_task(live, task, filter)?;
        let may_go = letters
            .iter()
            .filter(|letter| letter.status != DeadStatus::Reviving);
        return Ok(may_go
            .map(|letter| key(letter.id).to_vec())
            .take(limit)
            .collect());
    }
    on_either!(live, |connection: Backend| {
        let keys = dead_letters::table.select(dead_letters::id);
        let query = narrowed!(keys.into_boxed::<Backend>(), filter);
        Ok(query
            .filter(dead_letters::status.ne(DeadStatus::Reviving.as_str()))
            .order((dead_letters::buried_at.asc(), dead_letters::id.asc()))
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .load(connection)?)
    })
}

fn delete(live: &mut Live, keys: &[Vec<u8>]) -> Result<usize, Fault> {
    on_either!(live, |connection| connection.writing(|connection| {
        // Asked again: a revival may have begun since the keys were read.
        let may_go = dead_letters::status.ne(DeadStatus::Reviving.as_str());
        let those = dead_letters::table.filter(dead_letters::id.eq_any(keys).and(may_go));
        Ok(diesel::delete(those).execute(connection)?)
    }))
}
