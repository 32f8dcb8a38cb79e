//! Opening the broker of a daemon, which waits for it for as long as it takes, or until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::ids::WorkerId;
use celeriac_actors::ports::Broker;
use slog::{Logger, info, warn};

use super::super::exit::{Exit, Failure};
use super::super::session::Session;
use super::signals::Signals;

/// Opens the broker, again and again while it is away: a daemon waits for its broker and never ends because of it.
/// `None` when it was told to stop before the broker was there: nothing runs yet, so there is nothing to finish.
pub(super) async fn open_patiently(
    session: &Session,
    worker: &WorkerId,
    (signals, log): (&mut Signals, &Logger),
) -> Result<Option<Arc<dyn Broker>>, Failure> {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut failures = 0;
    loop {
        let attempt = async {
            let failure = match open_aside(session, worker).await {
                Err(failure) if failure.exit() == Exit::Unavailable => failure,
                outcome => return Some(outcome),
            };
            if failures == 0 {
                warn!(log, "the broker cannot be opened; retrying until it can"; "error" => %failure);
            }
            failures += 1;
            tokio::time::sleep(backoff.delay(failures, &mut rand::rng())).await;
            None
        };
        tokio::select! {
            outcome = attempt => {
                if let Some(outcome) = outcome {
                    return outcome.map(Some);
                }
            }
            () = signals.next() => {
                let _unheard = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                info!(log, "told to stop before the broker could be opened; stopped");
                return Ok(None);
            }
        }
    }
}

/// Opens the broker on a thread of its own, for opening blocks; nobody waits for the thread when the process ends.
async fn open_aside(session: &Session, worker: &WorkerId) -> Result<Arc<dyn Broker>, Failure> {
    let (session, worker) = (session.clone(), worker.clone());
    let (opened, outcome) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("open".to_owned());
    let started = thread.spawn(move || {
        // Nobody listens any more when the process ends.
        drop(opened.send(session.broker(Some(&worker))));
    });
    drop(started.map_err(Failure::unavailable)?);
    let lost = |_| Failure::new(Exit::GaveUp, anyhow::anyhow!("opening the broker panicked"));
    outcome.await.map_err(lost)?
}
