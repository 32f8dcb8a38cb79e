//! Adding elsewhere: a producer without a broker of its own hands its tasks, prepared, to a producer that has one.

use async_trait::async_trait;

use super::{Added, EnqueueError, Prepared};

/// What is to be done with tasks that are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Only ask the hooks.
    Vet,
    /// Ask the hooks, then add.
    VetAndAdd,
    /// Add what the hooks were asked about before.
    Add,
}

/// Who adds tasks for a producer: the worker, for the process of an isolated attempt. Its hooks are asked there, and its
/// spool takes what its broker does not.
#[async_trait]
pub trait Elsewhere: std::fmt::Debug + Send + Sync + 'static {
    /// Takes the step with all of `tasks`; nothing is added where only hooks are asked.
    ///
    /// # Errors
    /// As [`Producer::add`](super::Producer::add).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    async fn take(&self, tasks: Vec<Prepared>, step: Step) -> Result<Added, EnqueueError>;
}
