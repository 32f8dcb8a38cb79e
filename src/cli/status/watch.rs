//! `celeriac status --watch`: the same look again and again, until somebody has seen enough.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::ports::Broker;
use celeriac_actors::time::Clock as _;
use tokio::signal::unix::{SignalKind, signal};

use super::look;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::cli::session::Session;
use crate::clock::SystemClock;

/// Clears a terminal and goes to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

/// Shows the whole every `pause`, until a signal comes or nobody reads it any more. A broker that is away is said, and
/// looked for again.
pub(super) async fn run(
    session: &Session,
    broker: &Arc<dyn Broker>,
    pause: Duration,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Unavailable, error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let watch = async {
        while !output::is_closed() {
            show(session, broker).await;
            tokio::time::sleep(pause).await;
        }
    };
    tokio::select! {
        () = watch => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(Exit::Ok)
}

async fn show(session: &Session, broker: &Arc<dyn Broker>) {
    let name = session.config.broker.to_string();
    let looked = Session::insist(|| look(broker, &session.config)).await;
    let now = SystemClock.now();
    let status = match looked {
        Ok(status) => status,
        Err(error) => return output::complain(&format!("celeriac: {now}: {error}")),
    };
    if session.json {
        return output::json(&status.document(&name, now));
    }
    let text = status.draw(&name, now);
    if std::io::stdout().is_terminal() {
        output::line(&format!("{CLEAR}{now}\n\n{text}"));
    } else {
        output::line(&format!("{now}\n\n{text}\n"));
    }
}
