//! Adding tasks, and making those ready whose time has come.

use std::sync::Arc;

use super::state::{Channel, Now, Queue, State, Waiting};
use crate::fence::{Numbered, check_enqueue, judge_enqueue};
use crate::ids::QueueName;
use crate::lease::{MAX_BATCH, Promoted};
use crate::ports::{BrokerError, EnqueueCall, EnqueueKind, When};
use crate::state::TaskState;
use crate::time::Timestamp;

impl State {
    pub(super) fn enqueue(
        &mut self,
        call: &Arc<EnqueueCall>,
        now: Now,
    ) -> Result<Timestamp, BrokerError> {
        let channel = self.channels.get_mut(&call.channel);
        let known = channel.filter(|channel| channel.forget_at > now.wall);
        let last = known.as_ref().map(|channel| channel.last.number);
        match (judge_enqueue(last, call.number), known) {
            (Numbered::Repeat, Some(channel)) => return channel.repeat(call, now),
            (Numbered::Astray, _) => {
                let number = call.number;
                return invalid(format!("call {number} does not follow {last:?}"));
            }
            (_, Some(channel)) if channel.last.queue != call.queue => {
                return invalid("misuse: a channel serves one queue".into());
            }
            _ => {}
        }
        check_enqueue(call).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        self.queue(&call.queue).add(call, now);
        let channel = Channel {
            last: Arc::clone(call),
            reply: now.wall,
            forget_at: now.wall.plus(call.remember),
        };
        self.channels.insert(call.channel, channel);
        Ok(now.wall)
    }

    pub(super) fn promote_due(&mut self, name: &QueueName, limit: u32, now: Now) -> Promoted {
        let mut promoted = Promoted {
            now: now.wall,
            ..Promoted::default()
        };
        let Some(queue) = self.queues.get_mut(name) else {
            return promoted;
        };
        while let Some(first) = queue.waiting.first_entry() {
            let due = first.key().0;
            if due > now.wall || promoted.moved >= limit.min(MAX_BATCH) {
                promoted.next_due = Some(due);
                break;
            }
            let waiting = first.remove();
            queue.push_back(waiting.frame);
            promoted.moved += 1;
        }
        if promoted.moved > 0 {
            queue.ring();
        }
        promoted
    }
}

impl Channel {
    fn repeat(&mut self, call: &Arc<EnqueueCall>, now: Now) -> Result<Timestamp, BrokerError> {
        if *self.last != **call {
            return invalid("misuse: a repeated call differs from the first".into());
        }
        self.forget_at = now.wall.plus(call.remember);
        Ok(self.reply)
    }
}

impl Queue {
    fn add(&mut self, call: &EnqueueCall, now: Now) {
        for task in &call.tasks {
            match due(task.when, now.wall) {
                None => self.push_back(task.frame.clone()),
                Some(due) => {
                    let waiting = Waiting {
                        frame: task.frame.clone(),
                        state: TaskState::Scheduled,
                    };
                    self.push_waiting(due, waiting);
                }
            }
        }
        let added = call.tasks.len() as u64;
        match call.kind {
            EnqueueKind::New => self.counters.enqueued += added,
            EnqueueKind::Revival => self.counters.revived += added,
        }
        self.ring();
    }
}

/// Returns until when a task waits; `None` when it is ready at once.
fn due(when: When, now: Timestamp) -> Option<Timestamp> {
    let at = match when {
        When::Now => now,
        When::After(delay) => now.plus(delay),
        When::At(at) => at,
    };
    (at > now).then_some(at)
}

fn invalid<T>(why: String) -> Result<T, BrokerError> {
    Err(BrokerError::Invalid(why))
}
