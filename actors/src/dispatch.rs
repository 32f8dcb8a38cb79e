//! Where an attempt runs: decides by what the task, its policy and its kind say, and starts it there.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use crate::context::{AttemptContext, WorkerContext};
use crate::isolated::isolate;
use crate::middleware::around;
use crate::mode::Mode;
use crate::registry::Kind;
use crate::runner::AttemptEnd;
use crate::task::TaskError;

impl Kind {
    /// Starts an attempt in its mode, with the program's chain around it. A suspect of poisoning is isolated where that
    /// is possible, whatever its mode.
    pub(crate) fn start(
        &self,
        context: AttemptContext,
        suspect: bool,
    ) -> LocalBoxFuture<'static, AttemptEnd> {
        let body = self.dispatch(context.clone(), suspect);
        around(&self.links, context, body)
    }

    /// Returns whether a suspect runs in a process of its own here: then the worker's death says nothing about it.
    pub(crate) fn isolates_suspects(&self, worker: &WorkerContext) -> bool {
        worker.isolation.is_some() && self.runner.can(Mode::Isolated)
    }

    fn dispatch(
        &self,
        context: AttemptContext,
        suspect: bool,
    ) -> LocalBoxFuture<'static, AttemptEnd> {
        let isolation = context.worker_context().isolation.clone();
        let isolation = isolation.filter(|_| self.runner.can(Mode::Isolated));
        if suspect && let Some(isolation) = &isolation {
            return isolate(Arc::clone(isolation), context);
        }
        let asked = context.limits().mode;
        match asked.unwrap_or_else(|| self.runner.usual_mode()) {
            Mode::Inline if self.runner.can(Mode::Inline) => self.runner.start(context),
            Mode::Inline | Mode::Blocking => match self.runner.start_blocking(&context) {
                Some(body) => body,
                None => refuse("this kind of task cannot run in mode `blocking`"),
            },
            Mode::Isolated => match isolation {
                Some(isolation) => isolate(isolation, context),
                None => refuse("this worker cannot run this kind of task in mode `isolated`"),
            },
        }
    }
}

/// Ends an attempt that asks for what cannot be: another attempt would ask for the same.
fn refuse(why: &'static str) -> LocalBoxFuture<'static, AttemptEnd> {
    let end = AttemptEnd::Returned(Err(TaskError::permanent(why)));
    Box::pin(std::future::ready(end))
}
