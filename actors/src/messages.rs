//! Every message between our actors, each with who sends it and what the reply proves.

use actix::Message;

/// The queue may have something: look. Sent by `Waker` to one idle `Consumer`; a lost one is healed by the look that
/// every consumer takes by itself each few seconds.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Look {
    /// What may have changed.
    pub at: LookAt,
}

/// What a consumer should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookAt {
    /// Ready tasks.
    Ready,
    /// Revocations.
    Revocations,
}

/// Fetch nothing more, give back what is not started, and finish what runs. Sent by the runtime to every `Consumer`;
/// the reply comes when the consumer holds nothing any more, or at once when it is stopped meanwhile.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Drop what still runs, give it back uncounted, and end. Sent by the runtime to every `Consumer` at the end of the grace
/// period; the reply comes when that is settled.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct GiveBack;

/// A due time came nearer: look when the next task is due. Sent by `Waker` to `RetryScheduler`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DueChanged;

/// The dead outbox may have something. Sent by `Waker` to `DeadLetter`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct DeadArrived;
