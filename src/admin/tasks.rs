//! Stored tasks as rows of a list.

use celeriac_actors::envelope::Envelope;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::StoredTask;
use celeriac_actors::route;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use crate::look::revoked::{Revoked, fate};
use crate::look::search::open;

/// One stored task.
pub(crate) struct Row {
    pub(crate) queue: QueueName,
    pub(crate) state: TaskState,
    pub(crate) due: Option<Timestamp>,
    pub(crate) worker: Option<String>,
    /// What it says of itself, or why it says nothing.
    pub(crate) job: Result<Told, String>,
    /// What a revocation means for it.
    pub(crate) fate: Option<&'static str>,
    pub(crate) bytes: usize,
}

pub(crate) struct Told {
    pub(crate) header: celeriac_actors::header::Header,
    pub(crate) envelope: Envelope,
}

impl Told {
    pub(crate) fn last_failure(&self) -> Option<&str> {
        let last = self.envelope.history.last()?;
        Some(&last.message)
    }
}

impl Row {
    pub(crate) fn of(queue: &QueueName, task: StoredTask, limits: &FrameLimits) -> Self {
        let bytes = task.frame.len();
        let told = open(task.frame, limits).map(|job| Told {
            header: job.header,
            envelope: job.envelope,
        });
        Self {
            queue: queue.clone(),
            state: task.state,
            due: task.due,
            worker: task.holder.map(|(worker, _)| worker.to_string()),
            job: told,
            fate: None,
            bytes,
        }
    }

    /// Finds out whether it was revoked.
    pub(crate) fn judge(&mut self, revoked: &Revoked) {
        if let Ok(told) = &self.job {
            let terminate = revoked.of(&self.queue, &told.header, &told.envelope);
            self.fate = terminate.map(|terminate| fate(self.state, terminate));
        }
    }

    pub(crate) fn is_of(&self, pattern: Option<&str>) -> bool {
        match (pattern, &self.job) {
            (None, _) => true,
            (Some(pattern), Ok(told)) => route::matches(pattern, told.envelope.task.as_str()),
            (Some(_), Err(_)) => false,
        }
    }

    pub(crate) fn document(&self) -> Value {
        let mut document = json!({
            "queue": self.queue,
            "state": self.state,
            "due": self.due.map(|due| due.to_string()),
            "worker": self.worker,
            "bytes": self.bytes,
            "revoked": self.fate,
        });
        match &self.job {
            Ok(told) => {
                let header = &told.header;
                document["id"] = json!(header.id);
                document["task"] = json!(told.envelope.task);
                document["priority"] = json!(header.priority);
                document["attempts"] = header.attempts.into();
                document["deliveries"] = header.deliveries.into();
                document["revival"] = told.envelope.revival.into();
                document["enqueued_at"] = header.enqueued_at.to_string().into();
                document["expires_at"] = json!(header.expires_at.map(|at| at.to_string()));
                document["last_failure"] = json!(told.last_failure());
            }
            Err(reason) => document["garbage"] = json!(reason),
        }
        document
    }
}
