//! One running attempt, as its consumer polls it.
//!
//! Notes which attempt has the thread while its code is polled, catches what it throws (its destructors included), and
//! drops it for real when it is aborted; one in a process of its own is polled on until that process has ended. Invariant: after the end nothing of the task's future is left.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;

use crate::consumer::ConsumerSetup;
use crate::context::AttemptContext;
use crate::panics::catch_call;
use crate::registry::Kind;
use crate::runner::AttemptEnd;
use crate::table::AttemptTable;

/// A running attempt. Completes with itself taken apart.
pub(crate) struct Flight {
    tag: u64,
    context: AttemptContext,
    kind: Arc<Kind>,
    body: Option<LocalBoxFuture<'static, AttemptEnd>>,
    setup: Arc<ConsumerSetup>,
    table: Arc<AttemptTable>,
    started: bool,
}

/// An attempt that ended.
pub(crate) struct Landed {
    pub(crate) tag: u64,
    pub(crate) context: AttemptContext,
    pub(crate) kind: Arc<Kind>,
    pub(crate) end: AttemptEnd,
    /// The table of the incarnation that started it; a later one must not settle it.
    pub(crate) table: Arc<AttemptTable>,
}

impl Flight {
    pub(crate) fn new(
        tag: u64,
        (context, kind): (AttemptContext, Arc<Kind>),
        body: LocalBoxFuture<'static, AttemptEnd>,
        setup: Arc<ConsumerSetup>,
        table: Arc<AttemptTable>,
    ) -> Self {
        Self {
            tag,
            context,
            kind,
            body: Some(body),
            setup,
            table,
            started: false,
        }
    }

    /// Starts the attempt, unless the delivery was taken meanwhile. Only now, when the thread is there for it: what waits
    /// behind a task that blocks the thread can still be taken and run elsewhere.
    fn start(&mut self) -> bool {
        if !self.started {
            self.started = self.table.start(self.tag, &self.context);
            if self.started {
                self.setup.started(&self.context, &self.kind);
            }
        }
        self.started
    }

    /// Drops the task's future; a destructor that panics makes the end a panic.
    fn drop_body(&mut self, end: AttemptEnd) -> AttemptEnd {
        let body = self.body.take();
        self.setup.gauge.enter(self.context.key());
        let dropped = catch_call(|| drop(body));
        self.setup.gauge.leave();
        match (dropped, end) {
            // What was ended from outside stays ended for that reason.
            (Ok(()), end) | (Err(_), end @ AttemptEnd::Aborted) => end,
            (Err(panic), _) => AttemptEnd::Panicked(panic),
        }
    }
}

impl Future for Flight {
    type Output = Landed;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Landed> {
        let this = &mut *self;
        let end = if !this.start() {
            AttemptEnd::Lost
        } else if this.context.poll_aborted(cx).is_ready() && !this.context.is_isolated() {
            AttemptEnd::Aborted
        } else {
            let Some(body) = this.body.as_mut() else {
                return Poll::Pending;
            };
            this.setup.gauge.enter(this.context.key());
            let polled = catch_call(|| body.as_mut().poll(cx));
            this.setup.gauge.leave();
            match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(end)) => end,
                Err(panic) => AttemptEnd::Panicked(panic),
            }
        };
        let end = this.drop_body(end);
        let (tag, context) = (this.tag, this.context.clone());
        Poll::Ready(Landed {
            tag,
            context,
            kind: Arc::clone(&this.kind),
            end,
            table: Arc::clone(&this.table),
        })
    }
}

impl Drop for Flight {
    /// A consumer that ends drops its flights: what the task's destructors throw must not end the lane's thread.
    fn drop(&mut self) {
        if !self.context.is_blocking() {
            // Else it is still the one suspect that runs, until its delivery leaves the table.
            self.context.leave_gate();
        }
        let body = self.body.take();
        if body.is_some() {
            // Nobody is left to tell; the hook has recorded nothing outside of the guard.
            drop(catch_call(|| drop(body)));
        }
    }
}
