//! Tasks that are no Rust types: given by name, with arguments and results as plain values, run by something that has an
//! end of its own, such as a process.

use std::future::Future;
use std::ops::Deref;

use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use super::{AttemptEnd, Runner};
use crate::context::{Abort, AttemptContext, AttemptProcess, Phase};
use crate::frame::{decode_value, encode_value};
use crate::mode::Mode;
use crate::ports::{Death, Stop};
use crate::task::TaskError;

/// An attempt of a task that is no Rust type. It is told when it is to end, and must: it is not dropped before.
#[derive(Clone, Debug)]
pub struct ForeignAttempt(AttemptContext);

impl ForeignAttempt {
    /// Completes when the attempt is to be ended, with why. Whoever runs it has [`KILL_GRACE`](crate::ports::KILL_GRACE)
    /// at a hard limit, and none otherwise.
    pub async fn stopped(&self) -> Stop {
        self.0.until_aborted().await.into()
    }

    /// Says in which process it runs, so that it can be ended without the thread that waits for it.
    pub fn runs_in(&self, process: std::sync::Arc<dyn AttemptProcess>) {
        self.0.runs_in(process);
    }

    /// Returns the instant of its hard limit by the worker's clock.
    #[must_use]
    pub fn ends_at(&self) -> crate::time::Timestamp {
        let now = self.0.worker_context().clock.now();
        now.plus(self.0.remaining())
    }

    /// Returns how large its result may be, in bytes.
    #[must_use]
    pub fn max_result(&self) -> usize {
        self.0.worker_context().results.max_size
    }
}

impl Deref for ForeignAttempt {
    type Target = AttemptContext;

    fn deref(&self) -> &AttemptContext {
        &self.0
    }
}

impl From<Abort> for Stop {
    fn from(abort: Abort) -> Self {
        match abort {
            Abort::HardLimit => Self::HardLimit,
            // It is to end at once, as when it is given back.
            Abort::Released | Abort::Revoked => Self::Released,
        }
    }
}

/// Why an attempt of a task that is no Rust type did not succeed.
#[derive(Debug)]
pub enum ForeignError {
    /// It failed.
    Failed(TaskError),
    /// What ran it died, or was ended when the attempt was [`stopped`](ForeignAttempt::stopped).
    Died(Death),
}

impl<E: Into<TaskError>> From<E> for ForeignError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs such a task by a function of its arguments.
pub(crate) struct ForeignRunner<F> {
    function: F,
}

impl<F> ForeignRunner<F> {
    pub(crate) const fn new(function: F) -> Self {
        Self { function }
    }
}

impl<F, R> Runner for ForeignRunner<F>
where
    F: Fn(Value, ForeignAttempt) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Value, ForeignError>> + 'static,
{
    fn start(&self, context: AttemptContext) -> LocalBoxFuture<'static, AttemptEnd> {
        let function = self.function.clone();
        Box::pin(async move {
            if context.aborted().is_some() {
                return AttemptEnd::Aborted;
            }
            let _apart = context.isolated();
            let args = decode_value(context.job().args(), &context.worker_context().limits);
            let args: Value = match args {
                Ok(args) => args,
                Err(error) => return AttemptEnd::Undecodable(error.to_string()),
            };
            context.set_phase(Phase::Started);
            match function(args, ForeignAttempt(context)).await {
                Ok(Value::Null) => AttemptEnd::Returned(Ok(Vec::new())),
                Ok(value) => {
                    AttemptEnd::Returned(encode_value(&value).map_err(TaskError::permanent))
                }
                Err(ForeignError::Failed(error)) => AttemptEnd::Returned(Err(error)),
                Err(ForeignError::Died(death)) => AttemptEnd::Died(death),
            }
        })
    }

    fn can(&self, mode: Mode) -> bool {
        // What runs it is no part of the program, so neither is it of the program's children.
        mode == Mode::Inline
    }
}
