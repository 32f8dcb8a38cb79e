//! Stored tasks as rows of a list.

use celeriac_actors::frame::FrameLimits;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::StoredTask;
use celeriac_actors::route;
use celeriac_actors::state::TaskState;
use celeriac_actors::time::Timestamp;
use serde_json::{Value, json};

use super::search::open;

/// One stored task.
pub(crate) struct Row {
    pub(crate) queue: QueueName,
    pub(crate) state: TaskState,
    pub(crate) due: Option<Timestamp>,
    pub(crate) worker: Option<String>,
    /// What it says of itself, or why it says nothing.
    pub(crate) job: Result<Told, String>,
    pub(crate) bytes: usize,
}

pub(crate) struct Told {
    pub(crate) header: celeriac_actors::header::Header,
    pub(crate) task: String,
    pub(crate) revival: u32,
    pub(crate) last_failure: Option<String>,
}

impl Row {
    pub(crate) fn of(queue: &QueueName, task: StoredTask, limits: &FrameLimits) -> Self {
        let bytes = task.frame.len();
        let told = open(task.frame, limits).map(|job| Told {
            header: job.header,
            task: job.envelope.task.to_string(),
            revival: job.envelope.revival,
            last_failure: job.envelope.history.last().map(|last| last.message.clone()),
        });
        Self {
            queue: queue.clone(),
            state: task.state,
            due: task.due,
            worker: task.holder.map(|(worker, _)| worker.to_string()),
            job: told,
            bytes,
        }
    }

    pub(crate) fn is_of(&self, pattern: Option<&str>) -> bool {
        match (pattern, &self.job) {
            (None, _) => true,
            (Some(pattern), Ok(told)) => route::matches(pattern, &told.task),
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
        });
        match &self.job {
            Ok(told) => {
                let header = &told.header;
                document["id"] = json!(header.id);
                document["task"] = json!(told.task);
                document["priority"] = json!(header.priority);
                document["attempts"] = header.attempts.into();
                document["deliveries"] = header.deliveries.into();
                document["revival"] = told.revival.into();
                document["enqueued_at"] = header.enqueued_at.to_string().into();
                document["expires_at"] = json!(header.expires_at.map(|at| at.to_string()));
                document["last_failure"] = json!(told.last_failure);
            }
            Err(reason) => document["garbage"] = json!(reason),
        }
        document
    }
}
