//! Commands and where they go: the node of a slot, again elsewhere when it turns out to be the wrong one.
//!
//! A command is sent again only when it certainly had no effect: it was never sent, or the server refused it. When the
//! outcome is unknown the caller hears that, and decides.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, RedisError, Value};
use tokio::time::Instant;

use super::dial::Dialer;
use super::fault::{Class, Fault};
use super::gate::IfFailing;
use super::node::Node;
use super::options::{OpenError, RedisOptions};
use super::pool::{Call, Pool};
use super::script::Script;
use super::tls::Tls;
use super::topology::{Step, Topology};

/// Which slot of a cluster a key lies in; all the same without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot(pub(super) u16);

/// The connections of a broker.
#[derive(Debug)]
pub(super) struct Links {
    pool: Arc<Pool>,
    topology: Topology,
    /// How long a call may wait for a connection, and then again for its answer.
    timeout: Duration,
    /// The slots of a cluster that a call failed for, until their servers answer.
    unanswered: Mutex<HashSet<Slot>>,
}

/// A connection of its own, for commands that block.
#[derive(Debug)]
pub(super) struct Dedicated {
    pub(super) connection: MultiplexedConnection,
    /// By which `CLIENT UNBLOCK` finds it.
    pub(super) id: i64,
    /// The server it leads to.
    pub(super) node: Node,
}

/// One call on its way from server to server.
struct Journey<'a> {
    links: &'a Links,
    slot: Slot,
    deadline: Instant,
    /// Where a server sent us, this once.
    asked: Option<Node>,
    hops: u32,
    /// What told most of the failures so far.
    told: Option<Fault>,
}

/// Moves and detours of one call; more means that the servers do not agree with one another.
const HOPS: u32 = 16;
/// The longest pause before a server is looked up again when nobody knew one.
const UNKNOWN: Duration = Duration::from_millis(100);

impl Links {
    /// Prepares connections; opens none.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, OpenError> {
        let url = &options.url;
        let tls = url.tls.clone().map(Tls::new).transpose()?.map(Arc::new);
        let name = match &options.worker {
            Some(worker) => format!("celeriac:{worker}"),
            None => format!("celeriac:{}", std::process::id()),
        };
        let dialer = Dialer {
            login: url.login.clone(),
            tls,
            db: url.db,
            name,
            masters_only: false,
            timeout: options.connect_timeout,
        };
        let topology = Topology::new(url, &dialer);
        let dialer = Dialer {
            masters_only: topology.masters_only(),
            ..dialer
        };
        Ok(Self {
            pool: Arc::new(Pool::new(dialer, options.timeout)),
            topology,
            timeout: options.timeout,
            unanswered: Mutex::default(),
        })
    }

    /// Sends a command to the node of `slot`.
    ///
    /// That the server does not know a script comes back as `Ok(Value::ServerError)`: nothing happened, send it whole.
    pub(super) async fn query(&self, slot: Slot, command: &Cmd) -> Result<Value, BrokerError> {
        let sent = self.send(slot, command).await;
        sent.map_err(Fault::into_broker_error)
    }

    /// Sends a command to the node of `slot`; a failure is told in full.
    pub(super) async fn send(&self, slot: Slot, command: &Cmd) -> Result<Value, Fault> {
        let mut journey = self.journey(slot);
        loop {
            let (node, asking) = journey.next().await?;
            let call = Call {
                command,
                asking,
                deadline: journey.deadline,
                if_failing: IfFailing::Wait,
            };
            match self.pool.send(&node, call).await {
                Ok(value) => {
                    self.answered(&node);
                    return Ok(value);
                }
                Err(fault) => journey.after(&node, fault).await?,
            }
        }
    }

    /// Returns whether every server that failed last has answered since, or whoever has its slots now.
    pub(super) fn is_whole(&self) -> bool {
        self.unanswered().is_empty()
    }

    /// Returns whether a slot is served by another server than `node`.
    pub(super) fn has_left(&self, slot: Slot, node: &Node) -> bool {
        let known = self.topology.known(slot);
        known.is_some_and(|known| known != *node)
    }

    /// Calls a script by its hash, and whole where the server does not know it.
    pub(super) async fn run(
        &self,
        slot: Slot,
        script: &Script,
        call: &Cmd,
    ) -> Result<Value, BrokerError> {
        match self.query(slot, call).await? {
            Value::ServerError(_) => self.query(slot, &script.whole(call)).await,
            value => Ok(value),
        }
    }

    /// Returns whether every key is on the same server, so that one call may touch keys of several slots.
    pub(super) const fn is_one_server(&self) -> bool {
        !matches!(self.topology, Topology::Cluster(_))
    }

    /// Returns what stands for all slots that one blocking call may wait on: in a cluster a slot for itself.
    pub(super) const fn group(&self, slot: Slot) -> Slot {
        match self.topology {
            Topology::Cluster(_) => slot,
            Topology::Single(_) | Topology::Sentinel(_) => Slot(0),
        }
    }

    /// Sends a command without keys to one server.
    pub(super) async fn send_to(&self, node: &Node, command: &Cmd) -> Result<Value, Fault> {
        let call = Call {
            command,
            asking: false,
            deadline: Instant::now() + self.timeout,
            if_failing: IfFailing::Wait,
        };
        let answer = self.pool.send(node, call).await;
        match &answer {
            Ok(_) => self.answered(node),
            Err(fault) => drop(self.topology.learn(&self.pool, node, Slot(0), fault)),
        }
        answer
    }

    /// Returns every server that takes writes.
    pub(super) async fn masters(&self) -> Result<Vec<Node>, Fault> {
        let deadline = Instant::now() + self.timeout;
        self.topology.masters(&self.pool, deadline).await
    }

    /// Opens a connection of its own to the node of `slot`; whoever uses it bounds its waits.
    ///
    /// What fails on it goes to [`Links::report`], so that a failover is noticed.
    pub(super) async fn dedicated(&self, slot: Slot) -> Result<Dedicated, BrokerError> {
        let mut journey = self.journey(slot);
        let opened = loop {
            let (node, _) = journey.next().await.map_err(Fault::into_broker_error)?;
            match self.pool.own(&node, journey.deadline).await {
                Ok(opened) => break (opened, node),
                Err(fault) => journey
                    .after(&node, fault)
                    .await
                    .map_err(Fault::into_broker_error)?,
            }
        };
        let (opened, node) = opened;
        Ok(Dedicated {
            connection: opened.connection,
            id: opened.id.map_err(Fault::into_broker_error)?,
            node,
        })
    }

    /// Opens a connection that listens to channels at the node of `slot`, and tells which that is.
    pub(super) async fn listener(&self, slot: Slot) -> Result<(PubSub, Node), BrokerError> {
        let mut journey = self.journey(slot);
        loop {
            let (node, _) = journey.next().await.map_err(Fault::into_broker_error)?;
            match self.pool.listen(&node, journey.deadline).await {
                Ok(listener) => return Ok((listener, node)),
                Err(fault) => journey
                    .after(&node, fault)
                    .await
                    .map_err(Fault::into_broker_error)?,
            }
        }
    }

    /// Takes note of what failed on a connection of one's own to `node` for `slot`, and returns it as the port has it.
    pub(super) fn report(&self, slot: Slot, node: &Node, error: &RedisError) -> BrokerError {
        let fault = Fault::of(error);
        self.topology.learn(&self.pool, node, slot, &fault);
        self.failed(slot, &fault);
        fault.into_broker_error()
    }

    /// Notes that a call for a slot failed for good.
    fn failed(&self, slot: Slot, fault: &Fault) {
        // A single server that answers anything has answered.
        if !self.is_one_server() && fault.is_absence() {
            self.unanswered().insert(slot);
        }
    }

    /// Notes that a server answered: for all slots that are its.
    fn answered(&self, node: &Node) {
        if self.is_one_server() {
            return;
        }
        let is_its = |slot: &Slot| self.topology.known(*slot).as_ref() == Some(node);
        self.unanswered().retain(|slot| !is_its(slot));
    }

    fn unanswered(&self) -> MutexGuard<'_, HashSet<Slot>> {
        self.unanswered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many connections for commands were ever opened.
    pub(super) fn connections(&self) -> u64 {
        self.pool.opened()
    }

    /// Returns how many connections for commands are kept.
    #[cfg(test)]
    pub(super) fn lanes(&self) -> usize {
        self.pool.len()
    }

    /// Returns the server that a slot was last known to be served by.
    #[cfg(test)]
    pub(super) fn topology_known(&self, slot: Slot) -> Option<Node> {
        self.topology.known(slot)
    }

    fn journey(&self, slot: Slot) -> Journey<'_> {
        Journey {
            links: self,
            slot,
            deadline: Instant::now() + self.timeout,
            asked: None,
            hops: 0,
            told: None,
        }
    }
}

impl Journey<'_> {
    /// Returns the next server to try, and whether it has to be told that the key is on its way to it.
    async fn next(&mut self) -> Result<(Node, bool), Fault> {
        let next = self.find().await;
        next.inspect_err(|fault| self.links.failed(self.slot, fault))
    }

    async fn find(&mut self) -> Result<(Node, bool), Fault> {
        if let Some(node) = self.asked.take() {
            return Ok((node, true));
        }
        let links = self.links;
        loop {
            let node = links.topology.node(&links.pool, self.slot, self.deadline);
            let fault = match node.await {
                Ok(node) => return Ok((node, false)),
                Err(fault) => fault,
            };
            let pause = jittered(UNKNOWN);
            let lasting = !fault.is_unsent() && fault.class != Class::ClusterDown;
            let fault = fault.or_before(self.told.take());
            if lasting || Instant::now() + pause >= self.deadline {
                return Err(fault);
            }
            self.told = Some(fault);
            tokio::time::sleep(pause).await;
        }
    }

    /// Decides whether to go on after a failure; waits before the next step where that is due.
    async fn after(&mut self, node: &Node, fault: Fault) -> Result<(), Fault> {
        let step = self.step(node, fault).await;
        step.inspect_err(|fault| self.links.failed(self.slot, fault))
    }

    async fn step(&mut self, node: &Node, fault: Fault) -> Result<(), Fault> {
        let links = self.links;
        let step = links.topology.learn(&links.pool, node, self.slot, &fault);
        let pause = match step {
            Step::GiveUp => return Err(fault),
            Step::Again => Duration::ZERO,
            Step::Pause(most) => jittered(most),
            Step::Ask(to) => {
                self.asked = Some(to);
                Duration::ZERO
            }
        };
        self.hops += u32::from(!fault.is_unsent());
        let fault = fault.or_before(self.told.take());
        if self.hops > HOPS || Instant::now() + pause >= self.deadline {
            return Err(fault);
        }
        self.told = Some(fault);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }
}

/// Returns a pause of which chance takes away up to half.
fn jittered(most: Duration) -> Duration {
    most.mul_f32(0.5 + rand::random::<f32>() / 2.0)
}
