//! Attempts on threads of the blocking pool.
//!
//! Such an attempt waits for its thread with its clock stopped. Its thread marks it before it claims it, so whoever drops
//! the attempt either keeps it from beginning or sees the mark: it never runs beside itself.

use std::cell::RefCell;
use std::future::Future;
use std::io;

use futures_util::future::LocalBoxFuture;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::AttemptEnd;
use crate::blocking::BlockingError;
use crate::context::{AttemptContext, BlockingMark};
use crate::task::TaskError;

/// Withdraws an attempt that nobody waits for any more, if it has not begun.
pub(crate) struct Withdrawal(pub(crate) AttemptContext);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw();
    }
}

/// Runs `body` as the attempt on a thread of the pool.
pub(super) fn on_pool(
    context: &AttemptContext,
    body: impl FnOnce(AttemptContext) -> AttemptEnd + Send + 'static,
) -> LocalBoxFuture<'static, AttemptEnd> {
    let context = context.clone();
    Box::pin(async move {
        context.hold();
        let _withdrawal = Withdrawal(context.clone());
        let (timed, begun) = (context.clone(), context.clone());
        let overdue = Box::new(move || timed.overdue());
        let pool = &context.worker_context().blocking;
        let ended = pool.run_timed(overdue, move || {
            let _held = BlockingMark::new(begun.clone());
            if begun.is_revoked() {
                // It has waited for its thread until nobody wants it any more; whoever fetches it next cancels it.
                return AttemptEnd::Aborted;
            }
            if begun.claim() {
                body(begun)
            } else {
                AttemptEnd::Lost
            }
        });
        match ended.await {
            Ok(end) => end,
            Err(BlockingError::Panicked(report)) => AttemptEnd::Panicked(report),
            Err(BlockingError::NoThread(_)) => AttemptEnd::Unavailable,
        }
    })
}

thread_local! {
    /// The runtime of this thread, made when the first future comes.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Waits on this thread for the end of an attempt's future, or until the attempt is aborted.
pub(super) fn wait_for(
    body: impl Future<Output = Result<Vec<u8>, TaskError>>,
    context: &AttemptContext,
) -> AttemptEnd {
    let until_over = async {
        tokio::select! {
            biased;
            returned = body => AttemptEnd::Returned(returned),
            _why = context.until_aborted() => AttemptEnd::Aborted,
        }
    };
    RUNTIME.with_borrow_mut(|runtime| {
        // One that unwinds leaves none behind: the next future gets a fresh one.
        let made = runtime.take().map_or_else(make, Ok);
        match made {
            Ok(made) => {
                let end = LocalSet::new().block_on(&made, until_over);
                *runtime = Some(made);
                end
            }
            Err(error) => AttemptEnd::Returned(Err(error.into())),
        }
    })
}

fn make() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
}
