//! A step with its caller: run as often as needed, answered once.

use celeriac_actors::ports::BrokerError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::errors::StepError;
use super::steps::Step;
use super::tx::Tx;

/// A step whose kind is forgotten.
pub(super) trait Job: std::fmt::Debug + Send {
    /// Runs the step and keeps its reply.
    ///
    /// # Errors
    /// What SQLite said: the transaction is to be undone. A decision of the step is kept as its reply instead.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), diesel::result::Error>;

    /// Gives the caller the reply kept.
    fn answer(self: Box<Self>);

    /// Gives the caller an error instead.
    fn fail(self: Box<Self>, error: BrokerError);

    /// Returns whether the reply must wait until the commit survives a power cut.
    fn is_durable(&self) -> bool;

    /// Returns roughly how many bytes it writes.
    fn weight(&self) -> usize;

    /// Returns whether its caller still waits.
    fn is_wanted(&self) -> bool;
}

/// What a caller gets.
pub(super) type Reply<T> = Result<T, BrokerError>;

/// A [`Step`] with its caller.
#[derive(Debug)]
pub(super) struct Call<S: Step> {
    step: S,
    caller: oneshot::Sender<Reply<S::Reply>>,
    reply: Option<Reply<S::Reply>>,
    durable: bool,
    _permit: OwnedSemaphorePermit,
}

impl<S: Step> Call<S> {
    /// Wraps a step; returns where its reply comes.
    pub(super) fn new(
        step: S,
        permit: OwnedSemaphorePermit,
    ) -> (Self, oneshot::Receiver<Reply<S::Reply>>) {
        let (caller, reply) = oneshot::channel();
        let call = Self {
            step,
            caller,
            reply: None,
            durable: false,
            _permit: permit,
        };
        (call, reply)
    }
}

impl<S: Step> Job for Call<S>
where
    S::Reply: std::fmt::Debug,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), diesel::result::Error> {
        tx.durable = false;
        let reply = match self.step.run(tx) {
            Ok(reply) => Ok(reply),
            Err(StepError::Decided(error)) => Err(error),
            Err(StepError::Sql(error)) => return Err(error),
        };
        self.durable = tx.durable && reply.is_ok();
        self.reply = Some(reply);
        Ok(())
    }

    fn answer(self: Box<Self>) {
        let missing = || Err(BrokerError::Unavailable("the step was not run".to_owned()));
        // A caller that went away leaves the outcome to its repeat.
        drop(self.caller.send(self.reply.unwrap_or_else(missing)));
    }

    fn fail(self: Box<Self>, error: BrokerError) {
        drop(self.caller.send(Err(error)));
    }

    fn is_durable(&self) -> bool {
        self.durable
    }

    fn weight(&self) -> usize {
        self.step.weight()
    }

    fn is_wanted(&self) -> bool {
        !self.caller.is_closed()
    }
}
