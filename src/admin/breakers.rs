//! All breakers as one sees them from outside: the board, and what the living workers count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::breaker::{
    Board, BoardError, BreakerPolicy, BreakerRecord, BreakerState, BreakerView,
};
use celeriac_actors::ids::{BreakerName, TaskName, WorkerId};
use celeriac_actors::ports::Broker;
use serde_json::{Value, json};

use super::fault::Fault;
use crate::look::Away;
use crate::look::workers::{self, Worker};
use crate::store::AuditEntry;
use crate::suggest::did_you_mean;

/// The longest time for which a breaker is opened by hand.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Checks for how long a breaker is to be open.
pub(crate) fn checked_length(length: Duration) -> Result<Duration, &'static str> {
    match length >= BreakerPolicy::MIN_OPEN && length <= LONGEST {
        true => Ok(length),
        false => Err("it can be open for 10ms to 365days"),
    }
}

/// One breaker, with the workers that use it.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    /// Where it stands, by the board.
    pub(crate) record: BreakerRecord,
    /// What each living worker that uses it tells.
    pub(crate) workers: Vec<(WorkerId, BreakerView)>,
}

/// All breakers that are used or stand on the board, by name.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) breakers: Vec<Breaker>,
}

impl Overview {
    pub(crate) async fn read(broker: &Arc<dyn Broker>) -> Result<Self, BoardError> {
        let board = Board::of(Arc::clone(broker)).read().await?;
        let workers = workers::read(&**broker).await?;
        Ok(Self::of(board, &workers))
    }

    /// Puts together what the board and the workers tell.
    pub(crate) fn of(board: BTreeMap<BreakerName, BreakerRecord>, workers: &[Worker]) -> Self {
        let known = board.into_iter();
        let mut all: BTreeMap<BreakerName, Breaker> = known
            .map(|(name, record)| (name, Breaker::new(record)))
            .collect();
        for worker in workers.iter().filter(|worker| worker.record.alive) {
            for view in worker.detail.iter().flat_map(|detail| &detail.breakers) {
                let name = &view.record.name;
                let new = || Breaker::new(BreakerRecord::closed(name.clone()));
                let breaker = all.entry(name.clone()).or_insert_with(new);
                let of = (worker.record.worker.clone(), view.clone());
                breaker.workers.push(of);
            }
        }
        Self {
            breakers: all.into_values().collect(),
        }
    }

    /// Says that there is no such breaker, and which was meant.
    pub(crate) fn unknown(&self, name: &BreakerName) -> Fault {
        let known = self.breakers.iter().map(|it| it.record.name.as_str());
        let hint = did_you_mean(name.as_str(), known.clone());
        let hint = hint.unwrap_or_else(|| match known.collect::<Vec<_>>() {
            known if known.is_empty() => "no worker uses one, and none is open".to_owned(),
            known => format!("there are {}", known.join(", ")),
        });
        Fault::Missing(format!("there is no breaker `{name}`; {hint}"))
    }

    pub(crate) fn find(&self, name: &BreakerName) -> Option<&Breaker> {
        self.breakers.iter().find(|it| it.record.name == *name)
    }

    pub(crate) fn document(&self) -> Value {
        self.breakers.iter().map(Breaker::document).collect()
    }
}

impl Breaker {
    pub(crate) fn new(record: BreakerRecord) -> Self {
        Self {
            record,
            workers: Vec::new(),
        }
    }

    /// Returns whether nothing passes but a probe.
    pub(crate) fn is_shut(&self) -> bool {
        self.record.state != BreakerState::Closed
    }

    pub(crate) fn sum(&self, of: impl Fn(&BreakerView) -> u32) -> u64 {
        self.workers
            .iter()
            .map(|(_, view)| u64::from(of(view)))
            .sum()
    }

    pub(crate) fn tasks(&self) -> Vec<&TaskName> {
        let all = self.workers.iter().flat_map(|(_, view)| &view.tasks);
        let mut tasks: Vec<&TaskName> = all.collect();
        tasks.sort();
        tasks.dedup();
        tasks
    }

    pub(crate) fn document(&self) -> Value {
        let record = &self.record;
        let workers = self.workers.iter().map(|(worker, view)| {
            json!({
                "worker": worker,
                "state": view.record.state,
                "calls": view.calls,
                "failures": view.failures,
                "parked": view.parked,
            })
        });
        json!({
            "name": record.name,
            "state": record.state,
            "since": (record.turn > 0).then(|| record.since.to_string()),
            "until": record.until.map(|until| until.to_string()),
            "openings": record.openings,
            "by": record.by,
            "cause": record.cause,
            "calls": self.sum(|view| view.calls),
            "failures": self.sum(|view| view.failures),
            "parked": self.sum(|view| view.parked),
            "tasks": self.tasks(),
            "workers": workers.collect::<Vec<_>>(),
        })
    }
}

/// Returns what the audit says of a change by hand.
pub(crate) fn audited(action: &str, record: &BreakerRecord) -> AuditEntry {
    AuditEntry {
        at: record.since,
        actor: record.by.clone(),
        action: action.to_owned(),
        target: record.name.to_string(),
        detail: match record.until {
            Some(until) => format!("until {until}"),
            None => record.state.as_str().to_owned(),
        },
    }
}

impl Away for BoardError {
    fn is_away(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_outage(),
            _ => matches!(self, Self::Contended),
        }
    }
}
