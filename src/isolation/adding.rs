//! How the follow-up tasks of an isolated attempt are added: by the producer of its worker, as any other attempt's are, with
//! the program's hooks asked there and its spool behind the broker.

use celeriac_actors::ids::{QueueName, TaskName};
use celeriac_actors::ports::NewTask;
use celeriac_actors::producer::{EnqueueError, Prepared, Producer, Step};
use serde::{Deserialize, Serialize};

use super::wire::{Batch, Due};

/// Tasks of a child for the producer of its worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Adding {
    tasks: Vec<(QueueName, Vec<u8>, Option<Due>)>,
    vet: bool,
    add: bool,
}

impl Adding {
    pub(super) fn new(tasks: Vec<Prepared>, step: Step) -> Self {
        let stored = |prepared: Prepared| {
            let NewTask { frame, when } = prepared.task().clone();
            (prepared.handle.queue, frame, Due::of(when))
        };
        Self {
            tasks: tasks.into_iter().map(stored).collect(),
            vet: step != Step::Add,
            add: step != Step::Vet,
        }
    }

    /// Does what the child wants with them.
    pub(super) async fn carry_out(self, producer: &Producer) -> Result<(usize, usize), Refusal> {
        let prepare = |(queue, frame, due)| {
            let when = Due::when(due);
            Prepared::of(queue, NewTask { frame, when })
        };
        let tasks: Result<Vec<Prepared>, _> = self.tasks.into_iter().map(prepare).collect();
        let tasks = tasks.map_err(|error| Refusal::from(EnqueueError::Frame(error)))?;
        if self.vet {
            producer.vet(&tasks).await?;
        }
        if !self.add {
            return Ok((0, 0));
        }
        let added = producer.add_vetted(tasks).await?;
        Ok((added.accepted, added.spooled))
    }
}

/// Why tasks were not added: what may come of a producer whose tasks are prepared.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Refusal {
    Vetoed(TaskName, String),
    Refused(usize, String),
    Unavailable(usize, usize, String, Option<Box<Batch>>),
    Rejected(usize, String),
}

impl From<EnqueueError> for Refusal {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::Vetoed { task, reason } => Self::Vetoed(task, reason),
            EnqueueError::Refused { accepted, reason } => Self::Refused(accepted, reason),
            EnqueueError::Unavailable {
                accepted,
                unknown,
                reason,
                call,
            } => {
                let call = call.map(|call| Box::new(Batch::from(&*call)));
                Self::Unavailable(accepted, unknown, reason, call)
            }
            EnqueueError::Rejected { accepted, reason } => Self::Rejected(accepted, reason),
            other => Self::Rejected(0, other.to_string()),
        }
    }
}

impl From<Refusal> for EnqueueError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Vetoed(task, reason) => Self::Vetoed { task, reason },
            Refusal::Refused(accepted, reason) => Self::Refused { accepted, reason },
            Refusal::Unavailable(accepted, unknown, reason, call) => Self::Unavailable {
                accepted,
                unknown,
                reason,
                call: call.map(|batch| std::sync::Arc::new((*batch).into())),
            },
            Refusal::Rejected(accepted, reason) => Self::Rejected { accepted, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_arrives_as_it_was() {
        let errors = [
            EnqueueError::Vetoed {
                task: "a.task".parse().unwrap(),
                reason: "no".to_owned(),
            },
            EnqueueError::Refused {
                accepted: 1,
                reason: "full".to_owned(),
            },
            EnqueueError::Unavailable {
                accepted: 2,
                unknown: 3,
                reason: "away".to_owned(),
                call: None,
            },
            EnqueueError::Rejected {
                accepted: 4,
                reason: "odd".to_owned(),
            },
        ];
        for error in errors {
            let said = format!("{error:?}");
            let arrived = EnqueueError::from(Refusal::from(error));
            assert_eq!(format!("{arrived:?}"), said);
        }
    }
}
