//! Connections for commands, one per tokio runtime (and so per arbiter) and server.
//!
//! A connection lives on the runtime of whoever calls, so that a thread blocked by a task holds up nobody else's calls.
//! One that failed or did not answer in time is dropped; the next call opens another. When its runtime ends, its entry
//! goes with it: ids of runtimes are used again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, Value};
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, timeout_at};

use super::dial::{Dialer, Opened};
use super::fault::{Class, Fault};
use super::gate::{Gates, IfFailing};
use super::node::Node;

/// The connections of one login.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    /// How long an answer may take.
    answer: Duration,
    gates: Gates,
    lanes: Mutex<HashMap<Key, Arc<Lane>>>,
    /// Counts connections, to tell one from its successor.
    count: AtomicU64,
}

type Key = (Id, Node);

/// The command connection of one runtime to one server.
#[derive(Debug, Default)]
struct Lane {
    current: Mutex<Option<Live>>,
    /// Held while a connection is opened, so that a runtime opens one at a time.
    opening: tokio::sync::Mutex<()>,
}

/// Has a lane go from the pool, after the last call that works with it, when nothing is connected.
struct Tidy<'a> {
    pool: &'a Pool,
    key: Key,
}

/// A connection that is in use.
#[derive(Clone, Debug)]
struct Live {
    number: u64,
    connection: MultiplexedConnection,
    ended: Arc<AtomicBool>,
}

/// Lives as long as a connection's driver does.
struct Guard {
    pool: Weak<Pool>,
    key: Key,
    number: u64,
    ended: Arc<AtomicBool>,
}

/// A command on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) command: &'a Cmd,
    /// Whether the server has to be told that it is asked for a key on its way to it.
    pub(super) asking: bool,
    /// Until when a connection may be waited for.
    pub(super) deadline: Instant,
    pub(super) if_failing: IfFailing,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, answer: Duration) -> Self {
        Self {
            dialer,
            answer,
            gates: Gates::default(),
            lanes: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// Sends a command once. A script that the server does not know is an answer, not a failure.
    pub(super) async fn send(
        self: &Arc<Self>,
        node: &Node,
        call: Call<'_>,
    ) -> Result<Value, Fault> {
        let key = (Handle::current().id(), node.clone());
        // Dropped after the lane is.
        let tidy = Tidy { pool: self, key };
        let lane = Arc::clone(self.lanes().entry(tidy.key.clone()).or_default());
        let mut live = match lane.current() {
            Some(live) => live,
            None => self.connect(&lane, node, call).await?,
        };
        let now = Instant::now();
        // However long the connection took: what is sent gets its time.
        let until = call.deadline.max(now + self.answer / 2);
        let answer = timeout_at(until, live.send(call)).await;
        let fault = match answer {
            Ok(Ok(Value::ServerError(error))) if error.code() == "NOSCRIPT" => {
                return Ok(Value::ServerError(error));
            }
            Ok(Ok(Value::ServerError(error))) => Fault::of(&error.into()).at(node),
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => Fault::of(&error).at(node),
            Err(_) => Fault::late(node, until.saturating_duration_since(now)),
        };
        if fault.breaks() {
            lane.forget(live.number);
        }
        Err(fault)
    }

    /// Opens a connection that belongs to the caller alone.
    pub(super) async fn own(&self, node: &Node, deadline: Instant) -> Result<Opened, Fault> {
        self.admit(node, deadline, IfFailing::Wait).await?;
        let opened = self.dialer.open(node, deadline, ()).await;
        self.noted(node, opened)
    }

    /// Opens a connection that listens to channels.
    pub(super) async fn listen(&self, node: &Node, deadline: Instant) -> Result<PubSub, Fault> {
        self.admit(node, deadline, IfFailing::Wait).await?;
        let opened = self.dialer.listen(node, deadline).await;
        self.noted(node, opened)
    }

    /// Drops the connections to every server but these.
    pub(super) fn keep(&self, nodes: &[Node]) {
        self.lanes().retain(|(_, node), _| nodes.contains(node));
    }

    /// Returns how many connections for commands were ever opened, or tried.
    pub(super) fn opened(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns how many connections for commands are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lanes().len()
    }

    async fn connect(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        node: &Node,
        call: Call<'_>,
    ) -> Result<Live, Fault> {
        let Ok(_turn) = timeout_at(call.deadline, lane.opening.lock()).await else {
            return Err(Fault::no_time(node));
        };
        if let Some(live) = lane.current() {
            return Ok(live);
        }
        self.admit(node, call.deadline, call.if_failing).await?;
        let ended = Arc::new(AtomicBool::new(false));
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let guard = Guard {
            pool: Arc::downgrade(self),
            key: (Handle::current().id(), node.clone()),
            number,
            ended: Arc::clone(&ended),
        };
        let opened = self.dialer.open(node, call.deadline, guard).await;
        let live = Live {
            number,
            connection: self.noted(node, opened)?.connection,
            ended,
        };
        *lane.lock() = Some(live.clone());
        Ok(live)
    }

    /// Waits until a connection may be opened. One that could not be in time is not begun: it would say nothing of the
    /// server.
    async fn admit(
        &self,
        node: &Node,
        deadline: Instant,
        if_failing: IfFailing,
    ) -> Result<(), Fault> {
        self.gates.admit(node, deadline, if_failing).await?;
        match Instant::now() < deadline {
            true => Ok(()),
            false => Err(Fault::no_time(node)),
        }
    }

    fn noted<T>(&self, node: &Node, opened: Result<T, Fault>) -> Result<T, Fault> {
        match &opened {
            Ok(_) => self.gates.healed(node),
            Err(fault) => self.gates.failed(node, fault),
        }
        opened
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Key, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    async fn send(&mut self, call: Call<'_>) -> Result<Value, redis::RedisError> {
        if !call.asking {
            return self.connection.send_packed_command(call.command).await;
        }
        // Both go out together: nothing can come between them.
        let mut pipe = redis::pipe();
        pipe.cmd("ASKING").add_command(call.command.clone());
        let answers = self.connection.send_packed_commands(&pipe, 1, 1).await?;
        Ok(answers.into_iter().next_back().unwrap_or(Value::Nil))
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Live> {
        let mut current = self.lock();
        current.take_if(|live| live.ended.load(Ordering::Acquire));
        current.clone()
    }

    fn forget(&self, number: u64) {
        self.lock().take_if(|live| live.number == number);
    }

    /// Removes a lane that nobody works with and that has no connection. Whoever works with it holds it.
    fn tidy(lanes: &mut HashMap<Key, Arc<Self>>, key: &Key) {
        let is_idle = |lane: &Arc<Self>| Arc::strong_count(lane) == 1 && lane.lock().is_none();
        if lanes.get(key).is_some_and(is_idle) {
            lanes.remove(key);
        }
    }
}

impl Drop for Tidy<'_> {
    fn drop(&mut self) {
        Lane::tidy(&mut self.pool.lanes(), &self.key);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let Some(pool) = self.pool.upgrade() else {
            return;
        };
        let mut lanes = pool.lanes();
        let Some(lane) = lanes.get(&self.key) else {
            return;
        };
        lane.forget(self.number);
        Lane::tidy(&mut lanes, &self.key);
    }
}

/// Returns a fault that tells that nothing was sent, and why.
pub(super) fn nowhere(why: impl Into<String>) -> Fault {
    Fault::new(Class::NotSent, why)
}
