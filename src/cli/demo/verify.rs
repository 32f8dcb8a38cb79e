//! The account: every task of the plan against how it really ended, and every digest against one of our own.

use std::collections::HashMap;

use celeriac_actors::frame::decode_value;
use celeriac_actors::ids::TaskId;
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{DeadLetter, DeadStatus};
use celeriac_actors::state::{DeadReason, TaskState};
use serde_json::Value;

use super::plan::{End, Plan, Planned};
use super::stage::Stage;
use crate::cli::demo_tasks::{Digest, digest};

/// The most differences that are told.
const TOLD: usize = 10;

/// Compares all ends with the plan; returns what is wrong, one line each.
pub(super) async fn ends(stage: &Stage, plan: &Plan<'_>) -> anyhow::Result<Vec<String>> {
    let broker = stage.client.broker();
    let (_, letters) = stage.dead().await?;
    let letters: HashMap<TaskId, DeadLetter> = letters
        .into_iter()
        .map(|letter| (letter.id.task, letter))
        .collect();
    let (mut wrong, mut digests) = (Vec::new(), 0_usize);
    for task in &plan.tasks {
        let record = broker.result(&task.queue, task.id).await?;
        let found = Found {
            record,
            letter: letters.get(&task.id),
            stage,
        };
        if let Err(difference) = found.against(task) {
            wrong.push(format!("task {} of {}: {difference}", task.id, task.queue));
        } else if matches!(task.end, End::Digest(_) | End::Revived(_)) {
            digests += 1;
        }
    }
    let all = plan.tasks.len();
    let right = all - wrong.len();
    let text = format!("{right} of {all} ended as they must; {digests} digests computed once more");
    stage.progress.say("verified", &text);
    let more = wrong.len().saturating_sub(TOLD);
    wrong.truncate(TOLD);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Ok(wrong)
}

/// What is known of one task's end.
struct Found<'a> {
    record: Option<FinalRecord>,
    letter: Option<&'a DeadLetter>,
    stage: &'a Stage,
}

impl Found<'_> {
    fn against(&self, task: &Planned) -> Result<(), String> {
        match &task.end {
            End::Output(expected) => self.succeeded_with(expected),
            End::Digest(path) => self.digested(path),
            End::Dead(reason) => self.died(*reason, DeadStatus::New),
            End::Revived(path) => {
                self.died(DeadReason::Permanent, DeadStatus::Revived)?;
                self.digested(path)
            }
        }
    }

    fn output(&self) -> Result<Value, String> {
        let record = self.record.as_ref().ok_or("nothing is known of its end")?;
        if record.state != TaskState::Succeeded {
            return Err(format!("it is {} instead of succeeded", record.state));
        }
        if record.body.is_empty() {
            return Ok(Value::Null);
        }
        let limits = self.stage.client.producer().limits();
        decode_value(&record.body, limits).map_err(|error| error.to_string())
    }

    fn succeeded_with(&self, expected: &Value) -> Result<(), String> {
        let output = self.output()?;
        if output == *expected {
            Ok(())
        } else {
            Err(format!("returned {output} instead of {expected}"))
        }
    }

    fn digested(&self, path: &str) -> Result<(), String> {
        let (bytes, sha256) = digest(path, &|| false).map_err(|error| error.to_string())?;
        let expected = Digest {
            path: path.to_owned(),
            bytes,
            sha256,
        };
        let expected = serde_json::to_value(expected).map_err(|error| error.to_string())?;
        self.succeeded_with(&expected)
    }

    fn died(&self, reason: DeadReason, status: DeadStatus) -> Result<(), String> {
        let letter = self.letter.ok_or("it is no dead letter")?;
        if (letter.reason, letter.status) == (reason, status) {
            return Ok(());
        }
        Err(format!(
            "its dead letter is {} ({}) instead of {reason} ({status})",
            letter.reason, letter.status
        ))
    }
}
