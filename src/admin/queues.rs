//! The queues of a broker: what they hold, what they have counted, and whether the two agree.

use std::collections::BTreeMap;

use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{Broker, BrokerError, Counters, QueueStatus};
use serde_json::{Value, json};

use super::fault::Fault;
use crate::config::Config;
use crate::look::Patience;

/// The queue of the doctor's own task.
pub(crate) const DOCTORS_QUEUE: &str = "celeriac.doctor";

/// Returns whether a queue is nothing but what `doctor --task` left behind: nobody else puts tasks there.
pub(crate) fn is_trace(queue: &QueueStatus) -> bool {
    queue.queue.as_str() == DOCTORS_QUEUE && queue.held() == 0
}

/// Reads every queue the broker has heard of, but for a trace of the doctor's, and those that are configured and have not
/// been used yet.
pub(crate) async fn read(
    broker: &dyn Broker,
    config: &Config,
) -> Result<Vec<QueueStatus>, BrokerError> {
    let mut used = broker.queues().await?;
    used.retain(|queue| !is_trace(queue));
    let configured = config
        .queues
        .keys()
        .map(|name| (name.clone(), unused(name)));
    let mut all: BTreeMap<QueueName, QueueStatus> = configured.collect();
    all.extend(used.into_iter().map(|queue| (queue.queue.clone(), queue)));
    Ok(all.into_values().collect())
}

pub(crate) fn unused(queue: &QueueName) -> QueueStatus {
    QueueStatus {
        queue: queue.clone(),
        ready: 0,
        scheduled: 0,
        retrying: 0,
        active: 0,
        dead_outbox: 0,
        paused: false,
        consumers: 0,
        oldest_ready: None,
        counters: Counters::default(),
    }
}

/// Returns a queue as a document.
pub(crate) fn document(queue: &QueueStatus) -> Value {
    let mut document = json!(queue);
    document["held"] = queue.held().into();
    document["outstanding"] = json!(queue.counters.outstanding());
    document
}

/// Whether every task that came in has ended or is still there, by the broker's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    came: u128,
    ended: u128,
    held: u128,
}

impl Audit {
    pub(crate) fn of(queues: &[QueueStatus]) -> Self {
        let mut audit = Self::default();
        for queue in queues {
            let counters = &queue.counters;
            audit.came += u128::from(counters.enqueued) + u128::from(counters.revived);
            for ended in [
                counters.succeeded,
                counters.dead,
                counters.cancelled,
                counters.expired,
            ] {
                audit.ended += u128::from(ended);
            }
            audit.held += u128::from(queue.held());
        }
        audit
    }

    /// Tasks that came in and are neither ended nor held; what there is too much counts as made up.
    fn verdict(&self) -> (u128, u128) {
        let known = self.ended + self.held;
        (
            self.came.saturating_sub(known),
            known.saturating_sub(self.came),
        )
    }

    pub(crate) fn document(&self) -> Value {
        let (lost, made_up) = self.verdict();
        json!({
            "came": self.came,
            "ended": self.ended,
            "outstanding": self.came.saturating_sub(self.ended),
            "held": self.held,
            "lost": lost,
            "made_up": made_up,
        })
    }
}

impl std::fmt::Display for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lost, made_up) = self.verdict();
        write!(
            f,
            "audit: {} came in = {} ended + {} held; lost = {lost}",
            self.came, self.ended, self.held
        )?;
        if made_up > 0 {
            write!(f, ", made up = {made_up}")?;
        }
        Ok(())
    }
}

/// Finds a queue that the configuration declares or the broker has heard of.
///
/// # Errors
/// [`Fault::Missing`], with what was meant.
pub(crate) async fn find(
    (broker, patience): (&dyn Broker, Patience),
    config: &Config,
    name: &str,
) -> Result<QueueName, Fault> {
    let known = match super::enqueue::known_queue(config, name) {
        Ok(queue) => return Ok(queue),
        Err(why) => why,
    };
    let used = patience.insist(|| broker.queues()).await?;
    let found = used.into_iter().find(|queue| queue.queue.as_str() == name);
    found.map(|queue| queue.queue).ok_or(Fault::Missing(known))
}
