//! The signals that end a daemon.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::super::exit::{Exit, Failure};

/// How long after a signal another one still counts as the same.
const ECHO: Duration = Duration::from_millis(50);

/// The signals that ask for an end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::GaveUp, anyhow::Error::from(error));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }

    /// Lets pass what comes together with a signal and means the same: `timeout` signals the process and its group, a
    /// terminal the whole foreground.
    pub(super) async fn echo_over(&mut self) {
        tokio::time::sleep(ECHO).await;
        while self.next().now_or_never().is_some() {}
    }
}
