//! Threads on which the store's blocking calls run: as many as it has connections, behind a queue with a bound.
//!
//! They belong to no runtime: a caller may await them from an actix arbiter, from any tokio runtime, or from another
//! executor. When the queue is full, callers wait; a call that nobody waits for any more is not begun.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// How many calls wait per thread before callers do.
const BACKLOG_PER_THREAD: usize = 16;

type Call = Box<dyn FnOnce() + Send>;

/// A bounded pool of threads for blocking calls. Dropping it lets them finish what is queued and end.
pub(super) struct Threads {
    calls: mpsc::Sender<Call>,
}

/// A call ended without an answer: it panicked, or its threads are gone.
#[derive(Debug)]
pub(super) struct Unanswered;

impl Threads {
    /// Starts `count` threads.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (calls, queue) = mpsc::channel::<Call>(count * BACKLOG_PER_THREAD);
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..count {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("celeriac-store-{number}"))
                .spawn(move || while serve(&queue) {})?;
        }
        Ok(Self { calls })
    }

    /// Runs `work` on one of the threads and waits for what it returns.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether `work` runs; it always runs to its end or not at all.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let call: Call = Box::new(move || {
            if !answer.is_closed() {
                // Whoever asked may leave while the work runs; then nobody needs the answer.
                drop(answer.send(work()));
            }
        });
        self.calls.send(call).await.map_err(|_| Unanswered)?;
        answered.await.map_err(|_| Unanswered)
    }
}

/// Serves one call; returns `false` when there will be none any more.
fn serve(queue: &Mutex<mpsc::Receiver<Call>>) -> bool {
    // Held while waiting: the other threads wait for the lock instead of the queue.
    let next = queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .blocking_recv();
    let Some(call) = next else { return false };
    // A panic answers its caller by the drop of the answer's channel; the thread serves on.
    drop(catch_unwind(AssertUnwindSafe(call)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_unanswered_and_the_thread_serves_on() {
        let threads = Threads::start(1).unwrap();
        let panicked = threads
            .run::<()>(|| std::panic::resume_unwind(Box::new("boom")))
            .await;
        assert!(panicked.is_err());
        assert_eq!(threads.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait_and_loses_none() {
        let threads = Arc::new(Threads::start(2).unwrap());
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..500_u32 {
            let threads = Arc::clone(&threads);
            calls.spawn(async move { threads.run(move || number).await.unwrap() });
        }
        let mut answers = calls.join_all().await;
        answers.sort_unstable();
        assert_eq!(answers, (0..500).collect::<Vec<_>>());
    }
}
