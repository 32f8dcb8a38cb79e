//! Worker records and values shared by all workers.

use std::time::Duration;

use celeriac_actors::ids::WorkerId;
use celeriac_actors::ports::{BrokerError, WorkerRecord};
use celeriac_actors::time::millis;

use super::Step;
use crate::sqlite::errors::StepError;
use crate::sqlite::sql::{Value, int};
use crate::sqlite::tx::Tx;

const BEAT: &str =
    "INSERT OR REPLACE INTO workers (name, record, beat, seen_at) VALUES (?1, ?2, ?3, ?4)";
const FAREWELL: &str = "DELETE FROM workers WHERE name = ?1";
const SHARED: &str = "SELECT version, forget_at FROM shared WHERE key = ?1";
const SHARE: &str =
    "INSERT OR REPLACE INTO shared (key, version, value, forget_at) VALUES (?1, ?2, ?3, ?4)";

/// [`Broker::beat`](celeriac_actors::ports::Broker::beat).
#[derive(Debug)]
pub(in crate::sqlite) struct Beat(pub(in crate::sqlite) WorkerRecord);

impl Step for Beat {
    type Reply = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StepError> {
        let record = serde_json::to_string(&self.0)
            .map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let values = [
            Value::Text(self.0.worker.as_str()),
            Value::Text(&record),
            int(millis(self.0.beat)),
            int(tx.now.as_millis()),
        ];
        tx.db.run(BEAT, &values)?;
        Ok(())
    }
}

/// [`Broker::farewell`](celeriac_actors::ports::Broker::farewell).
#[derive(Debug)]
pub(in crate::sqlite) struct Farewell(pub(in crate::sqlite) WorkerId);

impl Step for Farewell {
    type Reply = ();

    fn run(&self, tx: &mut Tx<'_>) -> Result<(), StepError> {
        tx.db.run(FAREWELL, &[Value::Text(self.0.as_str())])?;
        Ok(())
    }
}

/// [`Broker::share`](celeriac_actors::ports::Broker::share).
#[derive(Debug)]
pub(in crate::sqlite) struct Share {
    pub(in crate::sqlite) key: String,
    pub(in crate::sqlite) expected: u64,
    pub(in crate::sqlite) value: Vec<u8>,
    pub(in crate::sqlite) ttl: Duration,
}

impl Step for Share {
    type Reply = Option<u64>;

    fn run(&self, tx: &mut Tx<'_>) -> Result<Option<u64>, StepError> {
        let key = Value::Text(&self.key);
        let read = tx
            .db
            .first(SHARED, &[key], |row| (row.count(0), row.count(1)))?;
        let (version, ends_at) = read.unwrap_or_default();
        let current = if ends_at > tx.now.as_millis() {
            version
        } else {
            0
        };
        if current != self.expected {
            return Ok(None);
        }
        let ends_at = tx.now.plus(self.ttl).as_millis();
        let values = [
            key,
            int(version + 1),
            Value::Blob(&self.value),
            int(ends_at),
        ];
        tx.db.run(SHARE, &values)?;
        Ok(Some(version + 1))
    }
}
