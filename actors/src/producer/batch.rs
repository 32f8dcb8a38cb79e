//! Tasks into calls: one queue each, bounded, in order. Pure.

use super::Prepared;
use crate::ids::QueueName;
use crate::lease::MAX_BATCH;
use crate::ports::NewTask;

/// The most bytes of frames in one call; a single larger frame travels alone.
pub(super) const MAX_CALL_BYTES: usize = 4 << 20;

/// Splits tasks into calls: one queue each, at most 500 tasks and 4 MiB, order kept within a queue.
pub(super) fn calls(tasks: Vec<Prepared>) -> Vec<(QueueName, Vec<NewTask>)> {
    type Batches = Vec<Vec<NewTask>>;
    let mut queues: Vec<(QueueName, Batches, usize)> = Vec::new();
    for Prepared { handle, task } in tasks {
        let at = queues
            .iter()
            .position(|(queue, ..)| *queue == handle.queue)
            .unwrap_or_else(|| {
                queues.push((handle.queue, vec![Vec::new()], 0));
                queues.len() - 1
            });
        let (_, batches, bytes) = &mut queues[at];
        let full = batches.last().is_some_and(|batch| {
            !batch.is_empty()
                && (batch.len() >= MAX_BATCH as usize || *bytes + task.frame.len() > MAX_CALL_BYTES)
        });
        if full {
            batches.push(Vec::new());
            *bytes = 0;
        }
        *bytes += task.frame.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(task);
        }
    }
    queues
        .into_iter()
        .flat_map(|(queue, batches, _)| {
            batches.into_iter().map(move |batch| (queue.clone(), batch))
        })
        .filter(|(_, batch)| !batch.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::TaskHandle;
    use super::*;
    use crate::ids::TaskId;
    use crate::ports::When;

    fn prepared(queue: &str, bytes: usize) -> Prepared {
        let handle = TaskHandle {
            queue: QueueName::new(queue).unwrap(),
            id: TaskId::fresh(),
        };
        Prepared {
            handle,
            task: NewTask {
                frame: vec![0; bytes],
                when: When::Now,
            },
        }
    }

    #[test]
    fn calls_are_of_one_queue_and_bounded() {
        let mut tasks: Vec<_> = (0..1_200).map(|_| prepared("a", 10)).collect();
        tasks.insert(3, prepared("b", 10));
        let sizes: Vec<_> = calls(tasks)
            .iter()
            .map(|(q, t)| (q.to_string(), t.len()))
            .collect();
        let expect = [("a", 500), ("a", 500), ("a", 200), ("b", 1)];
        assert_eq!(sizes, expect.map(|(q, n)| (q.to_owned(), n)));
    }

    #[test]
    fn a_frame_larger_than_a_call_travels_alone() {
        let tasks = vec![
            prepared("a", 10),
            prepared("a", MAX_CALL_BYTES + 1),
            prepared("a", 10),
        ];
        let sizes: Vec<_> = calls(tasks).iter().map(|(_, t)| t.len()).collect();
        assert_eq!(sizes, [1, 1, 1]);
        assert!(calls(Vec::new()).is_empty());
    }
}
