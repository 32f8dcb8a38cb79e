//! The master that sentinels know by name.
//!
//! All of them are asked at once. Whoever answers first is believed, unless it names the server that has just failed:
//! then the others get a moment to know better. That the server is a master is checked on every connection to it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::{Instant, timeout_at};

use super::Step;
use super::slots::text;
use crate::redis::dial::Dialer;
use crate::redis::fault::{Class, Fault};
use crate::redis::node::Node;
use crate::redis::pool::{Pool, nowhere};

/// How long the other sentinels have to name somebody else than the server that failed.
const SECOND_OPINION: Duration = Duration::from_millis(200);
/// The longest pause before the sentinels are asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often they are asked while all is well: a master that was succeeded takes writes for seconds, and keeps none of
/// them.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a call may be held up by that.
const ASIDE: Duration = Duration::from_millis(100);

/// The sentinels, and what they said last.
#[derive(Debug)]
pub(in crate::redis) struct Sentinels {
    nodes: Vec<Node>,
    name: String,
    dialer: Dialer,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    master: Option<Node>,
    /// When they named it.
    asked: Option<Instant>,
    /// The server that was the master and failed.
    suspect: Option<Node>,
}

impl Sentinels {
    pub(super) fn new(nodes: Vec<Node>, name: String, dialer: Dialer) -> Self {
        Self {
            nodes,
            name,
            dialer,
            known: Mutex::default(),
        }
    }

    pub(super) fn known(&self) -> Option<Node> {
        self.lock().master.clone()
    }

    /// Returns the master; asks for it where it is not known.
    pub(super) async fn master(&self, pool: &Pool, deadline: Instant) -> Result<Node, Fault> {
        let (known, is_due, suspect) = {
            let mut known = self.lock();
            let now = Instant::now();
            let is_due = known.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
            if is_due {
                known.asked = Some(now);
            }
            (known.master.clone(), is_due, known.suspect.clone())
        };
        match known {
            Some(master) if is_due => return Ok(self.ask_aside(master, pool, deadline).await),
            Some(master) => return Ok(master),
            None => {}
        }
        let master = self.ask(suspect.as_ref(), deadline).await?;
        let mut known = self.lock();
        if known.master.is_none() {
            known.master = Some(master.clone());
            known.asked = Some(Instant::now());
            if known.suspect.take().is_some_and(|old| old != master) {
                pool.keep(std::slice::from_ref(&master));
            }
        }
        Ok(master)
    }

    /// Asks whether the master is still the same; who does not answer soon says yes.
    async fn ask_aside(&self, master: Node, pool: &Pool, deadline: Instant) -> Node {
        let soon = deadline.min(Instant::now() + ASIDE);
        let Ok(named) = self.ask(None, soon).await else {
            return master;
        };
        if named != master {
            let mut known = self.lock();
            if known.master.as_ref() == Some(&master) {
                known.master = Some(named.clone());
                pool.keep(std::slice::from_ref(&named));
            }
        }
        named
    }

    /// Takes note of a failure at `node`, and says how to go on.
    pub(super) fn learn(&self, _: &Pool, node: &Node, fault: &Fault) -> Step {
        let doubted = matches!(
            fault.class,
            Class::NotSent
                | Class::NoTime
                | Class::Late
                | Class::Dropped
                | Class::Garbled
                | Class::ReadOnly
                | Class::MasterDown
                | Class::Unblocked
        );
        let mut known = self.lock();
        if doubted && known.master.as_ref() == Some(node) {
            known.suspect = known.master.take();
        }
        match fault.class {
            Class::NotSent | Class::NoTime | Class::ReadOnly | Class::MasterDown => {
                Step::Pause(PAUSE)
            }
            _ => Step::GiveUp,
        }
    }

    async fn ask(&self, suspect: Option<&Node>, deadline: Instant) -> Result<Node, Fault> {
        let mut answers: FuturesUnordered<_> = self
            .nodes
            .iter()
            .map(|sentinel| self.ask_one(sentinel, deadline))
            .collect();
        let mut until = deadline;
        let mut named = None;
        let mut failed = Vec::new();
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Ok(master) if Some(&master) != suspect => return Ok(master),
                Ok(master) => {
                    until = until.min(Instant::now() + SECOND_OPINION);
                    named = Some(master);
                }
                Err(fault) => failed.push(fault),
            }
        }
        // What one of them said counts for more than that others could not be reached, or not in time.
        named.ok_or_else(|| Fault::all(failed).unwrap_or_else(|| nowhere("no sentinel answered")))
    }

    async fn ask_one(&self, sentinel: &Node, deadline: Instant) -> Result<Node, Fault> {
        let mut connection = self.dialer.open(sentinel, deadline, ()).await?.connection;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.name);
        let asked = connection.send_packed_command(&command);
        let Ok(answer) = timeout_at(deadline, asked).await else {
            return Err(Fault::not_sent(
                sentinel,
                "the sentinel did not answer in time",
            ));
        };
        let unknown = || {
            let why = format!("sentinel {sentinel} knows no master {:?}", self.name);
            Fault::new(Class::Unnamed, why)
        };
        match answer {
            Ok(Value::Array(address)) => match address.as_slice() {
                [host, port] => text(host)
                    .zip(text(port).and_then(|port| port.parse().ok()))
                    .and_then(|(host, port)| Node::announced_as(host, port, sentinel))
                    .ok_or_else(unknown),
                _ => Err(unknown()),
            },
            Ok(Value::ServerError(error)) => Err(Fault::of(&error.into()).at(sentinel)),
            Ok(_) => Err(unknown()),
            Err(error) => Err(Fault::not_sent(sentinel, error)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
