//! A cluster: who serves which slot, and what the servers say when that has changed.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rand::seq::SliceRandom as _;
use tokio::time::Instant;

use super::Step;
use super::slots::SlotMap;
use crate::redis::fault::{Class, Fault};
use crate::redis::gate::IfFailing;
use crate::redis::link::Slot;
use crate::redis::node::Node;
use crate::redis::pool::{Call, Pool, nowhere};

/// The map is asked for at most once in this time, however many calls find it wrong.
const REFRESH: Duration = Duration::from_millis(100);
/// How many servers are asked for the map at once.
const ASKED: usize = 3;
/// The longest pause before a call that the cluster could not serve is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a cluster.
#[derive(Debug)]
pub(in crate::redis) struct Cluster {
    seeds: Vec<Node>,
    map: RwLock<Arc<SlotMap>>,
    refresh: Mutex<Refresh>,
}

/// When the map is asked for.
#[derive(Debug)]
struct Refresh {
    /// Whether somebody found the map wrong.
    due: bool,
    last: Option<Instant>,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Node>) -> Self {
        Self {
            seeds,
            map: RwLock::default(),
            refresh: Mutex::new(Refresh {
                due: true,
                last: None,
            }),
        }
    }

    pub(super) fn known(&self, slot: Slot) -> Option<Node> {
        self.map().owner(slot).cloned()
    }

    /// Returns who serves a slot, by the newest map where the last one was found wrong.
    pub(super) async fn owner(
        &self,
        pool: &Arc<Pool>,
        slot: Slot,
        deadline: Instant,
    ) -> Result<Node, Fault> {
        let refreshed = match self.take_turn() {
            true => self.refresh(pool, deadline).await,
            false => Ok(()),
        };
        // An old map is better than none.
        match (self.known(slot), refreshed) {
            (Some(owner), _) => Ok(owner),
            (None, Err(fault)) => Err(fault),
            (None, Ok(())) => self.unserved(pool, slot, deadline).await,
        }
    }

    /// Returns everybody who serves something.
    pub(super) async fn masters(
        &self,
        pool: &Arc<Pool>,
        deadline: Instant,
    ) -> Result<Vec<Node>, Fault> {
        self.refresh(pool, deadline).await?;
        let map = self.map();
        match map.is_complete() {
            true => Ok(map.nodes()),
            false => Err(Fault::new(
                Class::ClusterDown,
                "some slots are served by nobody",
            )),
        }
    }

    /// Takes note of a failure at `node`, and says how to go on.
    pub(super) fn learn(&self, node: &Node, slot: Slot, fault: &Fault) -> Step {
        let to = fault.redirect.as_deref();
        let to = to.and_then(|to| Node::announced(to, node));
        match (fault.class, to) {
            (Class::Moved, Some(to)) => {
                let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
                Arc::make_mut(&mut map).moved(slot, to);
                drop(map);
                self.doubt();
                Step::Again
            }
            (Class::Ask, Some(to)) => Step::Ask(to),
            (Class::TryAgain, _) => Step::Pause(PAUSE),
            (Class::NotSent | Class::NoTime, _) => {
                self.doubt();
                Step::Pause(PAUSE / 4) // The gate spreads attempts out.
            }
            (
                Class::Moved
                | Class::Ask
                | Class::ClusterDown
                | Class::MasterDown
                | Class::ReadOnly,
                _,
            ) => {
                self.doubt();
                Step::Pause(PAUSE)
            }
            (Class::Late | Class::Dropped | Class::Garbled | Class::Unblocked, _) => {
                self.doubt();
                Step::GiveUp
            }
            _ => Step::GiveUp,
        }
    }

    fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn doubt(&self) {
        let mut refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        refresh.due = true;
    }

    /// Returns whether the caller is the one to ask for the map now.
    fn take_turn(&self) -> bool {
        let mut refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let rested = refresh.last.is_none_or(|last| now >= last + REFRESH);
        let turn = refresh.due && rested;
        if turn {
            refresh.due = false;
            refresh.last = Some(now);
        }
        turn
    }

    async fn unserved(
        &self,
        pool: &Arc<Pool>,
        slot: Slot,
        deadline: Instant,
    ) -> Result<Node, Fault> {
        // Somebody else may be asking for the first map right now: ask as well.
        self.refresh(pool, deadline).await?;
        self.known(slot).ok_or_else(|| {
            self.doubt();
            Fault::new(
                Class::ClusterDown,
                format!("slot {} is served by nobody", slot.0),
            )
        })
    }

    /// Asks servers for the map, a few at a time, until one answers.
    async fn refresh(&self, pool: &Arc<Pool>, deadline: Instant) -> Result<(), Fault> {
        let mut nodes = self.map().nodes();
        nodes.shuffle(&mut rand::rng());
        nodes.extend(
            self.seeds
                .iter()
                .filter(|seed| !nodes.contains(seed))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let mut why = nowhere("no server of the cluster is known");
        for some in nodes.chunks(ASKED) {
            let mut answers: FuturesUnordered<_> =
                some.iter().map(|node| ask(pool, node, deadline)).collect();
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(map) => {
                        self.replace(pool, map);
                        return Ok(());
                    }
                    Err(fault) => why = fault,
                }
            }
        }
        self.doubt();
        Err(why)
    }

    fn replace(&self, pool: &Pool, map: SlotMap) {
        let mut nodes = map.nodes();
        nodes.extend(self.seeds.iter().cloned());
        let mut current = self.map.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(map);
        drop(current);
        pool.keep(&nodes);
    }
}

async fn ask(pool: &Arc<Pool>, node: &Node, deadline: Instant) -> Result<SlotMap, Fault> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let call = Call {
        command: &command,
        asking: false,
        deadline,
        if_failing: IfFailing::Skip,
    };
    let answer = pool.send(node, call).await?;
    SlotMap::read(&answer, node).ok_or_else(|| {
        Fault::new(
            Class::Garbled,
            "CLUSTER SLOTS was answered with something else",
        )
        .at(node)
    })
}
