//! The keys of log lines. One name per idea, everywhere; dashboards depend on them, so they are never renamed.
//!
//! Payloads (arguments, results) and secrets have no key and never will.

/// The worker process: its random identity, not its host's name.
pub const WORKER: &str = "worker";
/// The queue a line is about.
pub const QUEUE: &str = "queue";
/// The kind of task, such as `billing.charge`.
pub const TASK: &str = "task";
/// The id of one task.
pub const ID: &str = "id";
/// The attempt's number, from 1.
pub const ATTEMPT: &str = "attempt";
/// The lease's holder: the incarnation of a consumer.
pub const LEASE: &str = "lease";
/// How long something took, in whole milliseconds.
pub const ELAPSED_MS: &str = "elapsed_ms";
/// What went wrong, with its causes.
pub const ERROR: &str = "error";
/// How many lines were dropped because their reader was too slow.
pub const DROPPED: &str = "dropped";
