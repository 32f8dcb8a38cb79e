//! Results: kept under a key of their own each, told of on a channel of the same name.

use std::time::Duration;

use celeriac_actors::ids::{QueueName, TaskId};
use celeriac_actors::lease::{FinalRecord, MAX_BATCH};
use redis::Value;

use super::decode::{self, Parts};
use super::{RedisBroker, Reply};

/// How often somebody who waits for a result looks, whatever the channels say.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl RedisBroker {
    /// Waits until something is kept of one of `tasks`, of which nothing is kept yet: what is there needs no subscription.
    pub(super) async fn watch_results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
    ) -> Reply<Vec<FinalRecord>> {
        let channels = tasks
            .iter()
            .map(|task| self.result_keys().record(queue, *task));
        let hub = match &self.elsewhere {
            Some(elsewhere) => &elsewhere.channels,
            None => &self.channels,
        };
        let ear = hub.listen(channels.collect()).await;
        loop {
            let found = self.results(queue, tasks).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            // Rung or not: it is time to look.
            drop(tokio::time::timeout(LOOK_AGAIN, ear.rung()).await);
        }
    }

    /// Returns what is kept of tasks.
    pub(super) async fn results(
        &self,
        queue: &QueueName,
        tasks: &[TaskId],
    ) -> Reply<Vec<FinalRecord>> {
        let mut all = Vec::new();
        for some in tasks.chunks(MAX_BATCH as usize) {
            let mut found = Vec::new();
            if self.elsewhere.is_some() {
                let key = self.keys.of(queue, "results");
                let mut command = redis::cmd("HMGET");
                command.arg(&key);
                for task in some {
                    command.arg(task.as_uuid().simple().to_string());
                }
                records(some, self.query(&key, &command).await?, &mut found)?;
            }
            if found.len() == some.len() {
                all.append(&mut found);
                continue;
            }
            let keys = self.result_keys();
            let mut command = redis::cmd("MGET");
            for task in some {
                command.arg(keys.record(queue, *task));
            }
            let slot = super::slot(&keys.root(queue));
            match self.result_links().query(slot, &command).await {
                Ok(there) => records(some, there, &mut found)?,
                // What waits here to be taken there is known although that server is away.
                Err(error) if found.is_empty() => return Err(error),
                Err(_) => {}
            }
            all.append(&mut found);
        }
        Ok(all)
    }
}

/// Adds what was found of tasks to what is known of others.
fn records(tasks: &[TaskId], values: Value, found: &mut Vec<FinalRecord>) -> Reply<()> {
    for (task, value) in tasks.iter().zip(Parts::of(values)?.rest()) {
        if value != Value::Nil && found.iter().all(|record| record.id != *task) {
            found.push(decode::record(*task, &decode::bytes(value)?)?);
        }
    }
    Ok(())
}
