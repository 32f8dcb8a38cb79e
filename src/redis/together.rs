//! Steps that several queues ask for at the same moment travel in one call, where all slots are one server's.
//!
//! Whoever asks first waits a moment for the others, calls for all, and hands out the answers. A process with ten idle
//! queues so costs its server as many calls as one with a single queue.

use std::sync::{Mutex, MutexGuard, PoisonError};

use celeriac_actors::ports::BrokerError;
use tokio::sync::oneshot;

use super::Reply;

/// Questions, and where their answers go.
type Asked<Q, A> = Vec<(Q, oneshot::Sender<Reply<A>>)>;

/// Collects what is asked for at the same moment.
#[derive(Debug)]
pub(super) struct Together<Q, A> {
    waiting: Mutex<Asked<Q, A>>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
        }
    }
}

impl<Q, A> Together<Q, A> {
    /// Asks, with whoever else does at this moment: `call` is given all questions and has an answer to each, in order.
    ///
    /// Dropped, it takes its companions' answers along: they are told that the outcome is unknown.
    pub(super) async fn ask<F>(&self, question: Q, call: impl FnOnce(Vec<Q>) -> F) -> Reply<A>
    where
        F: Future<Output = Reply<Vec<A>>>,
    {
        let (answer, answered) = oneshot::channel();
        let leads = {
            let mut waiting = self.lock();
            waiting.push((question, answer));
            waiting.len() == 1
        };
        if leads {
            let mut leader = Leader {
                of: self,
                is_waiting: true,
            };
            tokio::task::yield_now().await;
            let (questions, answers): (Vec<_>, Vec<_>) = leader.take().into_iter().unzip();
            match call(questions).await {
                Ok(all) => {
                    for (answer, to) in all.into_iter().zip(answers) {
                        // Who gave up needs no answer.
                        let _told = to.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for to in answers {
                        let _told = to.send(Err(error.clone()));
                    }
                }
            }
        }
        let lost = || BrokerError::Unavailable("the call was given up".to_owned());
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    fn lock(&self) -> MutexGuard<'_, Asked<Q, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever calls for all. Dropped before that, it sends the others away, so that the next one who asks leads.
struct Leader<'a, Q, A> {
    of: &'a Together<Q, A>,
    is_waiting: bool,
}

impl<Q, A> Leader<'_, Q, A> {
    fn take(&mut self) -> Asked<Q, A> {
        self.is_waiting = false;
        std::mem::take(&mut *self.of.lock())
    }
}

impl<Q, A> Drop for Leader<'_, Q, A> {
    fn drop(&mut self) {
        if self.is_waiting {
            self.take();
        }
    }
}

#[cfg(test)]
mod unit {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_at_one_moment_is_one_call() {
        let together = Together::default();
        let calls = AtomicUsize::new(0);
        let double = |questions: Vec<u32>| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { Ok(questions.into_iter().map(|q| q * 2).collect()) }
        };
        let asked = (1..=4).map(|question| together.ask(question, double));
        let answers: Vec<_> = join_all(asked).await;
        assert_eq!(answers, [Ok(2), Ok(4), Ok(6), Ok(8)]);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_leaves_the_way_free() {
        let together = Together::default();
        let echo = |questions: Vec<u32>| async move { Ok(questions) };
        let mut leader = Box::pin(together.ask(1, echo));
        assert!(
            (&mut leader).now_or_never().is_none(),
            "it waits for others"
        );
        let mut other = Box::pin(together.ask(2, echo));
        assert!((&mut other).now_or_never().is_none());
        drop(leader);
        assert!(matches!(other.await, Err(BrokerError::Unavailable(_))));
        assert_eq!(together.ask(3, echo).await, Ok(3));
    }
}
