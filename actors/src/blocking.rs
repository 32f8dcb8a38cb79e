//! The bounded pool for work that blocks its thread: what `attempt.blocking(…)` runs on.
//!
//! Threads are made on demand up to the bound and end when they have been idle for a while. Work that finds no thread
//! waits in a queue that is bounded by the attempts that can wait at once. Nothing ever joins a thread that hangs, so it
//! cannot hold up the end of the process. Work that has overstayed its limit is *stuck*: its thread is replaced by another
//! one, up to a bound of its own, and not missed when it comes back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::panics::{PanicReport, catch_call};

/// How long an idle thread waits for work before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Tells by how much work has overstayed its limit.
pub(crate) type Overdue = Box<dyn Fn() -> Duration + Send>;

struct Work {
    run: Box<dyn FnOnce() + Send>,
    overdue: Option<Overdue>,
}

/// How many threads hang in work that has overstayed its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stuck {
    /// How many.
    pub threads: usize,
    /// How many of them have for so long that they are given up on.
    pub given_up: usize,
    /// Whether more are given up on than are replaced.
    pub too_many: bool,
}

/// A pool of threads for blocking work. Cloning shares it.
#[derive(Clone, Debug)]
pub struct BlockingPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_threads: usize,
    max_stuck: usize,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    made: u64,
    /// How many threads there may be beyond the bound, in place of stuck ones.
    extra: usize,
    /// The work that runs and has a limit, by a number of its own.
    timed: BTreeMap<u64, Overdue>,
    begun: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queued", &self.queue.len())
            .field("threads", &self.threads)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

/// Why blocking work gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockingError {
    /// The work panicked.
    #[error("blocking work panicked: {0}")]
    Panicked(PanicReport),
    /// The operating system gives no more threads, and none is there to wait for.
    #[error("no thread could be started: {0}")]
    NoThread(String),
}

impl BlockingPool {
    /// Creates a pool of at most `max_threads` threads; 0 counts as 1. As many stuck ones are replaced. Starts none.
    #[must_use]
    pub fn new(max_threads: usize) -> Self {
        Self::replacing(max_threads, max_threads)
    }

    /// Creates a pool of at most `max_threads` threads, 0 counting as 1, that replaces at most `max_stuck` stuck ones.
    #[must_use]
    pub fn replacing(max_threads: usize, max_stuck: usize) -> Self {
        let shared = Shared {
            max_threads: max_threads.max(1),
            max_stuck,
            state: Mutex::default(),
            wake: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs `work` on a thread of the pool and returns what it returned.
    ///
    /// # Errors
    /// [`BlockingError::Panicked`] with the report of a panic; [`BlockingError::NoThread`].
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun; work that has not begun is dropped unrun.
    pub async fn run<T, F>(&self, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.run_work(None, work).await
    }

    /// As [`run`](Self::run), for work with a limit: `overdue` tells by how much it has overstayed it.
    pub(crate) async fn run_timed<T, F>(
        &self,
        overdue: Overdue,
        work: F,
    ) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.run_work(Some(overdue), work).await
    }

    async fn run_work<T, F>(&self, overdue: Option<Overdue>, work: F) -> Result<T, BlockingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let run = Box::new(move || {
            if !reply.is_closed() {
                // The receiver may be gone by now: then nobody wants the result any more.
                drop(reply.send(catch_call(work)));
            }
        });
        self.submit(Work { run, overdue })
            .map_err(|error| BlockingError::NoThread(error.to_string()))?;
        match answer.await {
            Ok(outcome) => outcome.map_err(BlockingError::Panicked),
            Err(_) => Err(BlockingError::NoThread(
                "the pool dropped the work".to_owned(),
            )),
        }
    }

    /// Returns how many threads there are and how many of them are idle.
    #[must_use]
    pub fn threads(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.threads, state.idle)
    }

    fn submit(&self, work: Work) -> std::io::Result<()> {
        let mut state = self.shared.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            self.shared.wake.notify_one();
            return Ok(());
        }
        if state.threads >= self.shared.max_threads + state.extra {
            return Ok(());
        }
        if let Err(error) = self.add_thread(&mut state)
            && state.threads == 0
        {
            state.queue.pop_back();
            return Err(error);
        }
        Ok(())
    }

    fn add_thread(&self, state: &mut State) -> std::io::Result<()> {
        state.made += 1;
        let name = format!("celeriac-block-{}", state.made);
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(name)
            .spawn(move || shared.serve())?;
        state.threads += 1;
        Ok(())
    }

    /// Counts the threads that hang in work that has overstayed its limit, and starts others in their place, up to the
    /// bound. One that has overstayed by `patience` is given up on; it counts in again when it comes back.
    #[must_use]
    pub fn make_up(&self, patience: Duration) -> Stuck {
        let mut state = self.shared.lock();
        let stuck = self.shared.stuck(&state, patience);
        state.extra = stuck.threads.min(self.shared.max_stuck);
        for _ in state.idle..state.queue.len() {
            let full = state.threads >= self.shared.max_threads + state.extra;
            // Without a thread the work waits for one that comes back.
            if full || self.add_thread(&mut state).is_err() {
                break;
            }
        }
        stuck
    }

    /// Returns how many threads hang in work that has overstayed its limit.
    #[must_use]
    pub fn stuck(&self) -> usize {
        let state = self.shared.lock();
        self.shared.stuck(&state, Duration::MAX).threads
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Work runs outside of the lock, so a poisoned one means nothing worse than a thread that could not be made.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        while let Some(Work { run, overdue }) = self.next() {
            let timed = overdue.map(|overdue| self.begin(overdue));
            run();
            if let Some(number) = timed {
                self.lock().timed.remove(&number);
            }
        }
    }

    fn stuck(&self, state: &State, patience: Duration) -> Stuck {
        let overdue = state.timed.values().map(|overdue| overdue());
        let (mut threads, mut given_up) = (0, 0);
        for overdue in overdue.filter(|overdue| !overdue.is_zero()) {
            threads += 1;
            given_up += usize::from(overdue >= patience);
        }
        Stuck {
            threads,
            given_up,
            too_many: given_up > self.max_stuck,
        }
    }

    fn begin(&self, overdue: Overdue) -> u64 {
        let mut state = self.lock();
        state.begun += 1;
        let number = state.begun;
        state.timed.insert(number, overdue);
        number
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        if state.threads > self.max_threads + state.extra {
            // It was replaced while it hung.
            state.threads -= 1;
            return None;
        }
        if let Some(work) = state.queue.pop_front() {
            return Some(work);
        }
        state.idle += 1;
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, IDLE, |state| state.queue.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let work = state.queue.pop_front();
        if work.is_none() {
            state.threads -= 1;
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Poll;

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_panic_is_an_error_with_its_place_and_the_thread_goes_on() {
        crate::panics::install();
        let pool = BlockingPool::new(1);
        block_on(async {
            let failed = pool.run(|| -> () { panic!("boom {}", 1) }).await;
            let Err(BlockingError::Panicked(report)) = failed else {
                panic!("{failed:?}")
            };
            assert_eq!(report.message, "boom 1");
            assert!(report.location.unwrap().contains("blocking.rs"));
            assert_eq!(pool.run(|| 7).await, Ok(7));
        });
        assert_eq!(pool.threads().0, 1);
    }

    #[test]
    fn threads_are_bounded_and_the_rest_waits() {
        let pool = BlockingPool::new(2);
        let (enter, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let left = Arc::new(Mutex::new(left));
        block_on(async {
            let runs: Vec<_> = (0..5)
                .map(|i| {
                    let (pool, enter, left) = (pool.clone(), enter.clone(), Arc::clone(&left));
                    async move {
                        pool.run(move || {
                            enter.send(i).unwrap();
                            left.lock().unwrap().recv().unwrap();
                            i
                        })
                        .await
                    }
                })
                .collect();
            let all = tokio::spawn(futures_util::future::join_all(runs));
            tokio::task::yield_now().await;
            entered.recv().unwrap();
            entered.recv().unwrap();
            assert_eq!(pool.threads(), (2, 0));
            assert!(entered.try_recv().is_err());
            for _ in 0..5 {
                leave.send(()).unwrap();
            }
            let done: Vec<i32> = all.await.unwrap().into_iter().map(Result::unwrap).collect();
            assert_eq!(done, [0, 1, 2, 3, 4]);
        });
    }

    #[test]
    fn abandoned_work_that_has_not_begun_is_not_run() {
        let pool = BlockingPool::new(1);
        let (leave, left) = mpsc::channel::<()>();
        block_on(async {
            let first = tokio::spawn({
                let pool = pool.clone();
                async move { pool.run(move || left.recv().unwrap()).await }
            });
            tokio::task::yield_now().await;
            let mut second = Box::pin(pool.run(|| panic!("must not run")));
            let pending =
                std::future::poll_fn(|cx| Poll::Ready(second.as_mut().poll(cx).is_pending()));
            assert!(pending.await);
            drop(second);
            leave.send(()).unwrap();
            first.await.unwrap().unwrap();
            assert_eq!(pool.run(|| 1).await, Ok(1));
        });
    }
}
