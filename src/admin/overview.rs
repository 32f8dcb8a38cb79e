//! The whole at a glance: queues, workers, breakers and the audit of the counters.

use std::sync::Arc;

use celeriac_actors::breaker::{Board, BoardError};
use celeriac_actors::ports::{Broker, BrokerError, Durability, QueueStatus};
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::breakers::Overview;
use super::queues::{self, Audit};
use crate::config::Config;
use crate::look::workers::{self, Worker};

/// What was read.
pub(crate) struct Whole {
    pub(crate) durability: Durability,
    pub(crate) queues: Vec<QueueStatus>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) breakers: Overview,
}

impl Whole {
    /// Reads it from the broker, whichever process runs the work.
    pub(crate) async fn read(
        broker: &Arc<dyn Broker>,
        config: &Config,
    ) -> Result<Self, BrokerError> {
        let workers = workers::read(&**broker).await?;
        Ok(Self {
            breakers: breakers(broker, &workers).await?,
            durability: broker.durability(),
            queues: queues::read(&**broker, config).await?,
            workers,
        })
    }

    /// Returns how many attempts wait for a child process.
    pub(crate) fn waiting_for_a_child(&self) -> usize {
        let all = self.workers.iter().map(Worker::waiting_for_a_child);
        all.sum()
    }

    /// Returns it for programs; `broker` is how the broker is named.
    pub(crate) fn document(&self, broker: &str, now: Timestamp) -> Value {
        let queues: Vec<Value> = self.queues.iter().map(queues::document).collect();
        let workers: Vec<Value> = self.workers.iter().map(|w| w.document(now)).collect();
        json!({
            "broker": broker,
            "durability": self.durability,
            "now": now.to_string(),
            "queues": queues,
            "workers": workers,
            "running": self.workers.iter().map(Worker::running).sum::<usize>(),
            "waiting_for_child": self.waiting_for_a_child(),
            "breakers": self.breakers.document(),
            "outages": self.workers.iter().flat_map(Worker::outages).collect::<Vec<_>>(),
            "audit": Audit::of(&self.queues).document(),
        })
    }
}

/// Reads the breakers; a board that cannot be read here hides nothing else.
async fn breakers(broker: &Arc<dyn Broker>, workers: &[Worker]) -> Result<Overview, BrokerError> {
    let board = match Board::of(Arc::clone(broker)).read().await {
        Err(BoardError::Broker(error)) => return Err(error),
        board => board.unwrap_or_default(),
    };
    Ok(Overview::of(board, workers))
}
