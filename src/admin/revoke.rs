//! Revoking tasks: one by its id wherever it is, or all that a rule means, with a record in the audit.

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::revocation::{Revocation, Selector};
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;

use super::census::Census;
use super::fault::Fault;
use crate::client::RevokeOptions;
use crate::look::hunt::{Found, Hunt};
use crate::store::{AuditEntry, Store};

/// How long a revocation is remembered beyond the time of the last task that was seen to wait.
const BEYOND: std::time::Duration = std::time::Duration::from_secs(86_400);

/// One revocation on its way.
pub(crate) struct Revoking<'a> {
    /// How tasks are looked for; its id only matters where one is revoked.
    pub(crate) hunt: Hunt<'a>,
    /// Where it is recorded, or why there is none.
    pub(crate) store: Result<&'a Store, String>,
    pub(crate) revocation: Revocation,
    /// Only in this queue; `None` is all of them.
    pub(crate) queue: Option<&'a str>,
    pub(crate) now: Timestamp,
    /// Who revokes, for the audit.
    pub(crate) actor: String,
}

/// Where a revocation was written.
pub(crate) struct Written {
    pub(crate) queues: Vec<QueueName>,
    pub(crate) forget_at: Timestamp,
}

impl Revoking<'_> {
    /// Revokes one task, wherever it is.
    pub(crate) async fn one(&self) -> Result<(Found, Place, Written), Fault> {
        // Looked for first: how long the revocation must be remembered depends on when the task is due.
        let found = self.hunt.find(self.queue).await?;
        let due = found.stored.as_ref().and_then(|(_, task)| task.due);
        let written = self.write(due).await?;
        let place = Place::of(&found);
        self.record(&format!("{}, {}", place.word(), self.how()))
            .await?;
        Ok((found, place, written))
    }

    /// Revokes all that a rule means.
    pub(crate) async fn all(&self, rule: &Selector) -> Result<(Census, Written), Fault> {
        let hunt = &self.hunt;
        let bounds = (hunt.limits, hunt.patience);
        let census = Census::take(hunt.broker, rule, self.queue, bounds).await?;
        let written = self.write(census.last_due).await?;
        self.record(&format!("{census}, {}", self.how())).await?;
        Ok((census, written))
    }

    /// Tells the broker; remembered beyond the time of what waits.
    async fn write(&self, due: Option<Timestamp>) -> Result<Written, Fault> {
        let (broker, patience) = (self.hunt.broker, self.hunt.patience);
        let usual = self.now.plus(RevokeOptions::REMEMBER);
        let forget_at = due.map_or(usual, |due| usual.max(due.plus(BEYOND)));
        let queues = match self.queue.and_then(|name| QueueName::new(name).ok()) {
            Some(queue) => vec![queue],
            None => {
                let known = patience.insist(|| broker.queues()).await?;
                known.into_iter().map(|status| status.queue).collect()
            }
        };
        let all = std::slice::from_ref(&self.revocation);
        for queue in &queues {
            patience
                .insist(|| broker.revoke(queue, all, forget_at))
                .await?;
        }
        Ok(Written { queues, forget_at })
    }

    /// Writes into the audit what was done.
    async fn record(&self, detail: &str) -> Result<(), Fault> {
        let entry = AuditEntry {
            at: self.now,
            actor: self.actor.clone(),
            action: "task.revoke".to_owned(),
            target: self.revocation.of.to_string(),
            detail: detail.to_owned(),
        };
        let unwritten = |why: &dyn std::fmt::Display| {
            Fault::Away(format!(
                "it is revoked, but not recorded in the audit: {why}"
            ))
        };
        let store = self.store.as_ref().map_err(|why| unwritten(why))?;
        let written = self.hunt.patience.insist(|| store.record(entry.clone()));
        written.await.map_err(|error| unwritten(&error))
    }

    pub(crate) const fn how(&self) -> &'static str {
        if self.revocation.terminate {
            "attempts that run are ended"
        } else {
            "attempts that run are asked to stop"
        }
    }

    /// Returns what holds now, for programs.
    pub(crate) fn document(
        &self,
        written: &Written,
        (looked, total): (u64, u64),
    ) -> serde_json::Value {
        serde_json::json!({
            "terminate": self.revocation.terminate,
            "queues": written.queues,
            "remembered_until": written.forget_at.to_string(),
            "searched": looked,
            "of": total,
        })
    }

    /// Returns what holds now of one task, for programs.
    pub(crate) fn document_of(
        &self,
        id: TaskId,
        (found, place, written): (&Found, &Place, &Written),
    ) -> serde_json::Value {
        let due = found.stored.as_ref().and_then(|(_, task)| task.due);
        let mut document = self.document(written, (found.looked, found.total));
        document["id"] = serde_json::json!(id);
        document["found"] = serde_json::json!(place.word());
        document["queue"] = serde_json::json!(found.stored.as_ref().map(|(queue, _)| queue));
        document["due"] = serde_json::json!(due.map(|due| due.to_string()));
        document["worker"] = serde_json::json!(place.worker());
        document
    }
}

/// Where a task was when it was revoked.
#[derive(Debug)]
pub(crate) enum Place {
    Running(String),
    Waiting(TaskState, Option<Timestamp>),
    Ended(TaskState),
    Unknown,
}

impl Place {
    fn of(found: &Found) -> Self {
        match (&found.stored, &found.end) {
            (Some((_, task)), _) => match &task.holder {
                Some((worker, _)) => Self::Running(worker.to_string()),
                None => Self::Waiting(task.state, task.due),
            },
            (None, Some((_, end))) => Self::Ended(end.state),
            (None, None) if found.is_nothing() => Self::Unknown,
            (None, None) => Self::Ended(TaskState::Dead),
        }
    }

    pub(crate) fn word(&self) -> String {
        match self {
            Self::Running(worker) => format!("running on {worker}"),
            Self::Waiting(state, _) | Self::Ended(state) => state.to_string(),
            Self::Unknown => "not found".to_owned(),
        }
    }

    fn worker(&self) -> Option<&str> {
        match self {
            Self::Running(worker) => Some(worker),
            _ => None,
        }
    }

    /// Returns whether nothing was there to be revoked, which ends a command with an error that says so.
    pub(crate) const fn is_a_miss(&self, all_was_searched: bool) -> bool {
        match self {
            Self::Unknown => all_was_searched,
            Self::Ended(state) => !matches!(state, TaskState::Cancelled),
            Self::Running(_) | Self::Waiting(..) => false,
        }
    }

    pub(crate) const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}
