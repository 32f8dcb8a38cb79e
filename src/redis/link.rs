//! Connections: one per tokio runtime (and so per arbiter) and node for commands, others for commands that block.
//!
//! A connection lives on the runtime of whoever calls, so that a thread blocked by a task holds up nobody else's calls.
//! One that failed or did not answer in time is dropped; the next call opens another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use tokio::runtime::Handle;

use super::fault;
use super::script::Script;

/// Which slot of a cluster a key lies in; all the same without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) u16);

/// How long connecting and answering may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) answer: Duration,
}

/// The connections of a broker.
#[derive(Debug)]
pub(super) struct Links {
    client: Client,
    timeouts: Timeouts,
    open: Mutex<HashMap<tokio::runtime::Id, Arc<Lane>>>,
}

/// The command connection of one runtime.
#[derive(Debug, Default)]
struct Lane {
    current: Mutex<Option<(u64, MultiplexedConnection)>>,
    opening: tokio::sync::Mutex<u64>,
}

/// A connection of its own, for commands that block.
#[derive(Debug)]
pub(super) struct Dedicated {
    pub(super) connection: MultiplexedConnection,
    /// By which `CLIENT UNBLOCK` finds it.
    pub(super) id: i64,
}

impl Links {
    pub(super) fn new(client: Client, timeouts: Timeouts) -> Self {
        Self {
            client,
            timeouts,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Returns what stands for all slots that one blocking call may wait on.
    pub(super) fn group(&self, _slot: Slot) -> Slot {
        Slot(0)
    }

    /// Calls a script by its hash, and whole where the server does not know it.
    pub(super) async fn run(
        &self,
        slot: Slot,
        script: &Script,
        call: &Cmd,
    ) -> Result<Value, BrokerError> {
        match self.query_raw(slot, call).await {
            Err(Failed::Redis(error)) if error.code() == Some("NOSCRIPT") => {
                self.query(slot, &script.whole(call)).await
            }
            answer => answer.map_err(Failed::into_broker),
        }
    }

    /// Sends a command to the node of `slot`.
    pub(super) async fn query(&self, slot: Slot, command: &Cmd) -> Result<Value, BrokerError> {
        self.query_raw(slot, command)
            .await
            .map_err(Failed::into_broker)
    }

    async fn query_raw(&self, _slot: Slot, command: &Cmd) -> Result<Value, Failed> {
        let lane = self.lane();
        let (number, mut connection) = self.connection(&lane).await.map_err(Failed::Broker)?;
        let answer = match connection.send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(error.into()),
            answer => answer,
        };
        answer.map_err(|error: RedisError| {
            if fault::breaks(&error) {
                lane.forget(number);
            }
            Failed::Redis(error)
        })
    }

    /// Opens a connection of its own to the node of `slot`; whoever uses it bounds its waits.
    pub(super) async fn dedicated(&self, _slot: Slot) -> Result<Dedicated, BrokerError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(None);
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let opened = tokio::time::timeout(self.timeouts.connect * 2, async {
            let mut connection = opened.await?;
            let id: i64 = redis::cmd("CLIENT")
                .arg("ID")
                .query_async(&mut connection)
                .await?;
            Ok(Dedicated { connection, id })
        });
        opened
            .await
            .map_err(|_| late())?
            .map_err(|error: RedisError| fault::broker_error(&error))
    }

    /// Opens a connection that listens to channels at the node of `slot`.
    pub(super) async fn listener(&self, _slot: Slot) -> Result<redis::aio::PubSub, BrokerError> {
        let opened = self.client.get_async_pubsub();
        let opened = tokio::time::timeout(self.timeouts.connect, opened).await;
        opened
            .map_err(|_| late())?
            .map_err(|error| fault::broker_error(&error))
    }

    fn lane(self: &Links) -> Arc<Lane> {
        let runtime = Handle::current().id();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.entry(runtime).or_default())
    }

    async fn connection(&self, lane: &Lane) -> Result<(u64, MultiplexedConnection), BrokerError> {
        if let Some(current) = lane.current() {
            return Ok(current);
        }
        let mut opening = lane.opening.lock().await;
        if let Some(current) = lane.current() {
            return Ok(current);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.answer));
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        let connection = opened.map_err(|error| fault::broker_error(&error))?;
        *opening += 1;
        let current = (*opening, connection);
        *lane.lock() = Some(current.clone());
        Ok(current)
    }
}

enum Failed {
    Redis(RedisError),
    Broker(BrokerError),
}

impl Failed {
    fn into_broker(self) -> BrokerError {
        match self {
            Self::Redis(error) => fault::broker_error(&error),
            Self::Broker(error) => error,
        }
    }
}

impl Slot {
    /// Returns the slot of a key.
    pub(super) fn of(_key: &[u8]) -> Self {
        Self(0)
    }
}

impl Lane {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, MultiplexedConnection)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<(u64, MultiplexedConnection)> {
        self.lock().clone()
    }

    fn forget(&self, number: u64) {
        self.lock().take_if(|(current, _)| *current == number);
    }
}

fn late() -> BrokerError {
    BrokerError::Unavailable("connecting took too long".to_owned())
}
