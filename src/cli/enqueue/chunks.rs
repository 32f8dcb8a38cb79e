//! The tasks whose ends are waited for, in chunks that one call may ask for. Pure.

use celeriac_actors::ids::{TaskId, TaskName};
use celeriac_actors::lease::MAX_BATCH;
use tokio::time::Instant;

/// The most tasks of one call.
const CHUNK: usize = MAX_BATCH as usize;

/// A task whose end is waited for.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) id: TaskId,
    pub(super) task: TaskName,
    pub(super) since: Instant,
}

/// Tasks in chunks of at most 500; the one in front had the last end in it.
#[derive(Debug, Default)]
pub(super) struct Chunks(pub(super) Vec<Vec<Expected>>);

impl Chunks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, tasks: Vec<Expected>) {
        for task in tasks {
            match self.0.last_mut().filter(|chunk| chunk.len() < CHUNK) {
                Some(chunk) => chunk.push(task),
                None => self.0.push(vec![task]),
            }
        }
    }

    /// Removes a task; several of them where an id was given to several.
    pub(super) fn take(&mut self, at: usize, id: TaskId) -> Vec<Expected> {
        self.0[at].extract_if(.., |task| task.id == id).collect()
    }

    /// Moves the chunk to the front, fills it up from the one behind it, and forgets it when it is empty.
    pub(super) fn settle(&mut self, at: usize) {
        self.0[..=at].rotate_right(1);
        if self.0.len() > 1 && self.0[0].len() + self.0[1].len() <= CHUNK {
            let mut next = self.0.remove(1);
            self.0[0].append(&mut next);
        }
        if self.0[0].is_empty() {
            self.0.remove(0);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn expected(number: u128) -> Expected {
        Expected {
            id: TaskId::from(uuid::Uuid::from_u128(number)),
            task: TaskName::new("t").unwrap(),
            since: Instant::now(),
        }
    }

    fn sizes(chunks: &Chunks) -> Vec<usize> {
        chunks.0.iter().map(Vec::len).collect()
    }

    #[test]
    fn chunks_stay_bounded_and_full() {
        let mut chunks = Chunks::default();
        chunks.add((0..1_200).map(expected).collect());
        assert_eq!(sizes(&chunks), [500, 500, 200]);

        // The chunk that had an end comes to the front and is filled up where the next one fits.
        for number in 500..900 {
            assert_eq!(chunks.take(1, expected(number).id).len(), 1);
        }
        chunks.settle(1);
        assert_eq!(sizes(&chunks), [100, 500, 200]);
        for number in 0..400 {
            chunks.take(1, expected(number).id);
        }
        chunks.settle(1);
        assert_eq!(sizes(&chunks), [200, 200]);
    }

    #[test]
    fn an_id_given_twice_ends_twice() {
        let mut chunks = Chunks::default();
        chunks.add(vec![expected(1), expected(1)]);
        assert_eq!(chunks.take(0, expected(1).id).len(), 2);
        chunks.settle(0);
        assert!(chunks.is_empty());
    }
}
