//! Where an attempt runs: decides by what the task, its policy and its kind say, and starts it there.

use futures_util::future::LocalBoxFuture;

use crate::context::{AttemptContext, Job, WorkerContext};
use crate::isolated::isolate;
use crate::middleware::around;
use crate::mode::Mode;
use crate::ports::ChildPlace;
use crate::registry::Kind;
use crate::runner::AttemptEnd;
use crate::task::TaskError;

/// How an attempt comes to run.
#[derive(Debug)]
pub(crate) enum Way {
    /// As its mode says.
    Usual,
    /// In a child, in a place that was waited for.
    InPlace(ChildPlace),
    /// As a suspect of poisoning.
    Suspect,
}

impl Kind {
    /// Starts an attempt in its mode, with the program's chain around it. A suspect of poisoning is isolated where that
    /// is possible, whatever its mode.
    pub(crate) fn start(
        &self,
        context: AttemptContext,
        way: Way,
    ) -> LocalBoxFuture<'static, AttemptEnd> {
        let body = self.dispatch(context.clone(), way);
        around(&self.links, context, body)
    }

    /// Returns whether a suspect runs in a process of its own here: then the worker's death says nothing about it.
    pub(crate) fn isolates_suspects(&self, worker: &WorkerContext) -> bool {
        worker.isolation.is_some() && self.runner.can(Mode::Isolated)
    }

    /// Returns whether an attempt of this task waits for a child process here.
    pub(crate) fn waits_for_a_child(&self, job: &Job) -> bool {
        let limits = self.policy.limits_for(&job.envelope.overrides);
        let mode = limits.mode.unwrap_or_else(|| self.runner.usual_mode());
        mode == Mode::Isolated && self.runner.can(Mode::Isolated)
    }

    fn dispatch(&self, context: AttemptContext, way: Way) -> LocalBoxFuture<'static, AttemptEnd> {
        let isolation = context.worker_context().isolation.clone();
        let isolation = isolation.filter(|_| self.runner.can(Mode::Isolated));
        let place = match way {
            Way::Usual => None,
            Way::InPlace(place) => Some(place),
            Way::Suspect => match isolation {
                Some(isolation) => return isolate(isolation, context, None),
                None => None,
            },
        };
        let asked = context.limits().mode;
        match asked.unwrap_or_else(|| self.runner.usual_mode()) {
            Mode::Inline if self.runner.can(Mode::Inline) => self.runner.start(context),
            Mode::Inline | Mode::Blocking => match self.runner.start_blocking(&context) {
                Some(body) => body,
                None => refuse("this kind of task cannot run in mode `blocking`"),
            },
            Mode::Isolated => match isolation {
                Some(isolation) => isolate(isolation, context, place),
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
