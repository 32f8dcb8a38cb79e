//! Ending what waits, from outside.

use super::state::{Now, Queue, State};
use crate::fence::check_purge;
use crate::ids::QueueName;
use crate::lease::{MAX_BATCH, purged};
use crate::ports::BrokerError;
use crate::state::TaskState;

impl State {
    pub(super) fn purge(
        &mut self,
        name: &QueueName,
        state: TaskState,
        (limit, now): (u32, Now),
    ) -> Result<u32, BrokerError> {
        check_purge(state).map_err(|error| BrokerError::Invalid(error.to_string()))?;
        let Some(queue) = self.queues.get_mut(name) else {
            return Ok(0);
        };
        let mut ended = 0;
        while ended < limit.min(MAX_BATCH)
            && let Some(frame) = queue.first_of(state)
        {
            if let Some(record) = purged(&frame) {
                queue.keep(&record, now.wall);
            }
            ended += 1;
        }
        queue.counters.cancelled += u64::from(ended);
        Ok(ended)
    }
}

impl Queue {
    /// Takes out the task that would be fetched or become due first.
    fn first_of(&mut self, state: TaskState) -> Option<Vec<u8>> {
        if state == TaskState::Ready {
            return self.pop();
        }
        let mut waiting = self.waiting.iter();
        let (first, _) = waiting.find(|(_, waiting)| waiting.state == state)?;
        let first = *first;
        self.waiting.remove(&first).map(|waiting| waiting.frame)
    }
}
