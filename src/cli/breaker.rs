//! `celeriac breaker list|show|open|close`: the circuit breakers of all workers, and opening and closing them by hand.
//!
//! Where a breaker stands is told by the board that all workers share; what was counted, by each worker that uses it. A
//! change by hand reaches the workers within about a second, and leaves a record in the store's audit.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::breaker::{Board, BoardError, BreakerRecord, BreakerState};
use celeriac_actors::ids::{BreakerName, TaskName};
use celeriac_actors::ports::Broker;
use celeriac_actors::time::Clock as _;
use clap::Subcommand;

use super::Global;
use super::exit::{Exit, Failure};
use super::output;
use super::session::{Session, operator};
use crate::admin::breakers::{Breaker, Overview, checked_length};
use crate::admin::fault::Fault;
use crate::app::App;
use crate::clock::SystemClock;
use crate::suggest::did_you_mean;

pub(super) mod overview;

/// Shows circuit breakers, and opens and closes them by hand.
#[derive(Debug, Subcommand)]
pub(crate) enum BreakerCommand {
    /// List the breakers that workers use or that stand open.
    List,
    /// Show one breaker, with what each worker counts.
    Show {
        /// Its name: of a kind of task, or of what tasks depend on.
        name: BreakerName,
    },
    /// Open a breaker: the tasks that need it are parked, which uses up none of their attempts.
    Open {
        /// Its name.
        name: BreakerName,
        /// How long, such as `10m`; then a single task tries. Without it: until it is closed by hand.
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: Option<Duration>,
    },
    /// Close a breaker: tasks that need it run again.
    Close {
        /// Its name.
        name: BreakerName,
    },
}

/// Reads for how long a breaker is to be open.
fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    checked_length(length).map_err(|why| {
        format!(
            "{why}; without --for it is until it is closed by hand, and `breaker close` closes it"
        )
    })
}

pub(crate) fn run(command: &BreakerCommand, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    let broker = session.existing_broker()?;
    Session::block_on(async {
        match command {
            BreakerCommand::List => list(&session, broker).await,
            BreakerCommand::Show { name } => show(&session, broker, name).await,
            BreakerCommand::Open { name, length } => {
                let now = SystemClock.now();
                let who = operator();
                let step = move |record: &BreakerRecord| Some(record.opened_by(&who, *length, now));
                change((&session, app), broker, name, "breaker.open", step).await
            }
            BreakerCommand::Close { name } => {
                let known = look(&broker).await?;
                if known.find(name).is_none() {
                    return Err(Failure::from(known.unknown(name)));
                }
                let now = SystemClock.now();
                let who = operator();
                let step = move |record: &BreakerRecord| record.closed_by(&who, now);
                change((&session, app), broker, name, "breaker.close", step).await
            }
        }
    })?
}

async fn look(broker: &Arc<dyn Broker>) -> Result<Overview, Failure> {
    Ok(Session::insist(|| Overview::read(broker)).await?)
}

async fn list(session: &Session, broker: Arc<dyn Broker>) -> Result<Exit, Failure> {
    let overview = look(&broker).await?;
    if session.json {
        output::json(&serde_json::json!({ "breakers": overview.document() }));
    } else if overview.breakers.is_empty() {
        output::line("no worker uses a circuit breaker, and none is open");
    } else {
        output::line(&overview.table(SystemClock.now(), |_| true));
    }
    Ok(Exit::Ok)
}

async fn show(
    session: &Session,
    broker: Arc<dyn Broker>,
    name: &BreakerName,
) -> Result<Exit, Failure> {
    let overview = look(&broker).await?;
    let Some(breaker) = overview.find(name) else {
        return Err(Failure::from(overview.unknown(name)));
    };
    if session.json {
        output::json(&breaker.document());
    } else {
        output::line(&breaker.draw(SystemClock.now()));
    }
    Ok(Exit::Ok)
}

/// Changes a breaker by hand, writes the audit, and says what holds now.
async fn change(
    (session, app): (&Session, &App),
    broker: Arc<dyn Broker>,
    name: &BreakerName,
    action: &str,
    step: impl Fn(&BreakerRecord) -> Option<BreakerRecord> + Send + Sync,
) -> Result<Exit, Failure> {
    let (board, now) = (Board::of(Arc::clone(&broker)), SystemClock.now());
    let changed = Session::insist(|| board.change(name, now, &step)).await;
    let (record, changed) = changed?;
    if changed {
        audit(session, action, &record).await?;
    }
    let used = look(&broker).await?;
    let is_used = used.find(name).is_some_and(|it| !it.workers.is_empty());
    if !is_used && record.state != BreakerState::Closed {
        let known = used.breakers.iter().filter(|it| !it.workers.is_empty());
        let hint = did_you_mean(name.as_str(), known.map(|it| it.record.name.as_str()));
        let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
        output::complain(&format!(
            "celeriac: no worker uses the breaker {name} now, so it holds up nothing{}{hint}",
            kind(app, name)
        ));
    }
    let breaker = Breaker::new(record);
    if session.json {
        let mut document = breaker.document();
        document["changed"] = changed.into();
        output::json(&document);
    } else if changed {
        output::line(&breaker.sentence(now));
    } else {
        output::line(&format!("{}; nothing was changed", breaker.sentence(now)));
    }
    Ok(Exit::Ok)
}

/// Says so where a kind of task of this program has this name and no breaker of its own.
fn kind(app: &App, name: &BreakerName) -> &'static str {
    let policy = TaskName::new(name.as_str()).ok();
    let policy = policy.and_then(|task| app.registry().policy_of(&task));
    match policy {
        Some(policy) if policy.own_breaker().is_none() => {
            ": the kind of task of this name has no breaker (`Policy::breaker` gives it one)"
        }
        _ => "",
    }
}

/// Writes into the audit what was done.
async fn audit(session: &Session, action: &str, record: &BreakerRecord) -> Result<(), Failure> {
    let entry = crate::admin::breakers::audited(action, record);
    let store = session.store();
    let written = async {
        let store = store?;
        Ok::<(), Failure>(Session::insist(|| store.record(entry.clone())).await?)
    };
    written.await.map_err(|failure| {
        let error = anyhow::anyhow!("it is done, but not recorded in the audit: {failure}");
        Failure::unavailable(error)
    })
}

impl From<BoardError> for Failure {
    fn from(error: BoardError) -> Self {
        Fault::from(error).into()
    }
}
