//! Forgetting what has had its time, in steps that nobody notices.

use celeriac_actors::fence::{KEEP_CLOSED, KEEP_WORKER};
use celeriac_actors::time::Timestamp;

use super::Step;
use crate::sqlite::errors::StepError;
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::Tx;

const CHANNELS: &str = "DELETE FROM channels WHERE identity IN \
    (SELECT identity FROM channels WHERE forget_at <= ?1 LIMIT ?2)";
const RESULTS: &str = "DELETE FROM results WHERE (queue, task) IN \
    (SELECT queue, task FROM results WHERE forget_at <= ?1 LIMIT ?2)";
const REVOCATIONS: &str = "DELETE FROM revocations WHERE (queue, task) IN \
    (SELECT queue, task FROM revocations WHERE forget_at <= ?1 LIMIT ?2)";
const SHARED: &str = "UPDATE shared SET value = x'' WHERE key IN \
    (SELECT key FROM shared WHERE forget_at <= ?1 AND value <> x'' LIMIT ?2)";
const WORKERS: &str = "DELETE FROM workers WHERE name IN \
    (SELECT name FROM workers WHERE seen_at <= ?1 LIMIT ?2)";
const INCARNATIONS: &str = "DELETE FROM incarnations WHERE id IN \
    (SELECT id FROM incarnations WHERE state = 2 AND closed_at <= ?1 LIMIT ?2)";

/// [`Broker::housekeep`](celeriac_actors::ports::Broker::housekeep).
#[derive(Debug)]
pub(in crate::sqlite) struct Housekeep(pub(in crate::sqlite) u32);

impl Step for Housekeep {
    type Reply = u32;

    fn run(&self, tx: &mut Tx<'_>) -> Result<u32, StepError> {
        let limit = Value::Int(i64::from(self.0));
        let worker = tx.now.minus(KEEP_WORKER);
        let closed = tx.now.minus(KEEP_CLOSED);
        let ends: [(&'static str, Timestamp); 6] = [
            (CHANNELS, tx.now),
            (RESULTS, tx.now),
            (REVOCATIONS, tx.now),
            (SHARED, tx.now),
            (WORKERS, worker),
            (INCARNATIONS, closed),
        ];
        let mut forgotten = 0;
        for (text, until) in ends {
            forgotten += tx.db.run(text, &[int(until.as_millis()), limit])?;
        }
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}
