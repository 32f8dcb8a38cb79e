//! How much waits in the outboxes of a program, for who must know without knowing their kinds of databases.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{OutboxConnection, OutboxStatus, status};
use crate::database::Database;

/// How long a connection is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

type Gauge = Arc<dyn Fn() -> Result<OutboxStatus, String> + Send + Sync>;

/// The outboxes of a program. Cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct Gauges(Vec<Gauge>);

impl Gauges {
    /// Adds that of a database.
    pub(crate) fn add<C: OutboxConnection>(&mut self, database: Database<C>) {
        self.push(move || {
            let connection = database.pool.get_timeout(PATIENCE);
            let mut connection = connection.map_err(|error| error.to_string())?;
            status(&mut *connection).map_err(|error| error.to_string())
        });
    }

    /// Adds one that is read by a function.
    pub(crate) fn push(
        &mut self,
        read: impl Fn() -> Result<OutboxStatus, String> + Send + Sync + 'static,
    ) {
        self.0.push(Arc::new(read));
    }

    /// Reads all of them, one after the other, which blocks; `None` where there is none.
    ///
    /// # Errors
    /// What the first one said that cannot be read.
    pub(crate) fn read(&self) -> Result<Option<OutboxStatus>, String> {
        let mut all = None::<OutboxStatus>;
        for read in &self.0 {
            let one = read()?;
            let sum = all.get_or_insert_default();
            sum.pending += one.pending;
            sum.rejected += one.rejected;
        }
        Ok(all)
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauges({})", self.0.len())
    }
}
