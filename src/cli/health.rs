//! `celeriac health`: the verdict about the whole, for people and for scripts, whichever process runs the work.

use std::path::PathBuf;
use std::time::Duration;

use celeriac_actors::health::{Facts, Health, Reach, Reason, Severity, Verdict};
use celeriac_actors::ports::{BrokerError, StoreError};
use celeriac_actors::time::Clock as _;
use clap::Args;

use super::Global;
use super::exit::{Exit, Failure};
use super::output::{self, plain};
use super::session::Session;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{BrokerTarget, StoreTarget};
use crate::monitor::{Rates, Seen, Sources, board};

/// How long the broker and the store have to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Says how the whole is: exit code 0 for healthy, 1 for degraded, 2 for critical, 3 for unknown.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {
    /// Print the verdict alone.
    #[arg(long)]
    quiet: bool,
}

pub(crate) fn run(args: &HealthArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let session = Session::open(global, app, &[])?;
    let health = Session::block_on(look(&session))??;
    if session.json {
        output::json(&health);
    } else if args.quiet {
        output::line(health.verdict.as_str());
    } else {
        output::line(&draw(&health));
    }
    Ok(Exit::Verdict(health.verdict))
}

async fn look(session: &Session) -> Result<Health, Failure> {
    let now = SystemClock.now();
    let thresholds = &session.config.health;
    let store = store(session).await;
    let broker = match session.broker_now() {
        Ok(broker) => broker,
        Err(failure) if failure.exit() == Exit::Unavailable => {
            let facts = Facts {
                broker: away(&failure),
                store,
                ..Facts::default()
            };
            let mut health = Health::at_once(&facts, thresholds, now);
            if session.is_unmade() {
                // Nothing was ever here: there is nothing to be well or ill.
                health.verdict = Verdict::Unknown;
            }
            return Ok(health);
        }
        Err(failure) => return Err(failure),
    };
    let read = async {
        let on_board = board(&broker).await?;
        Ok::<_, BrokerError>(Seen::read(&broker).await?.with_board(&on_board))
    };
    let seen = tokio::time::timeout(PATIENCE, read).await;
    let sources = Sources {
        directories: directories(session),
        broker,
    };
    let seen = match seen {
        Ok(Ok(seen)) => Ok(seen),
        Ok(Err(error)) => Err(away(&error)),
        Err(_) => Err(away(&format_args!("no answer within {PATIENCE:?}"))),
    };
    let seen = seen.as_ref().map_err(Clone::clone);
    let disks = sources.disks();
    let facts = sources.facts(seen, &Rates::default(), (store, disks, now));
    Ok(Health::at_once(&facts, thresholds, now))
}

fn away(error: &dyn std::fmt::Display) -> Reach {
    Reach::Away {
        since: Duration::ZERO,
        error: error.to_string(),
    }
}

/// Returns whether the store takes writes. One that was never made is none.
async fn store(session: &Session) -> Reach {
    if let StoreTarget::Sqlite { file } = &session.config.store.target
        && !file.exists()
    {
        return Reach::Unasked;
    }
    let store = match session.store() {
        Ok(store) => store,
        Err(failure) => return away(&failure),
    };
    match tokio::time::timeout(PATIENCE, store.probe()).await {
        Ok(Ok(())) => Reach::Here,
        // Nobody has needed it yet, or a migration waits: no outage.
        Ok(Err(StoreError::Schema(_))) => Reach::Unasked,
        Ok(Err(error)) => away(&error),
        Err(_) => away(&format_args!("it did not take a write within {PATIENCE:?}")),
    }
}

/// Returns the directories whose disks matter.
fn directories(session: &Session) -> Vec<PathBuf> {
    let mut directories = vec![session.config.data_dir.clone()];
    if let BrokerTarget::Embedded { dir } = &session.config.broker {
        directories.push(dir.clone());
    }
    directories
}

fn draw(health: &Health) -> String {
    let mut lines = vec![health.verdict.to_string()];
    lines.extend(health.reasons.iter().map(reason));
    lines.join("\n")
}

fn reason(reason: &Reason) -> String {
    let word = match reason.severity {
        Severity::Critical => "critical",
        Severity::Degraded => "degraded",
    };
    let figure = match reason.unit.as_str() {
        "" => String::new(),
        unit => format!(
            " ({} {unit}, threshold {})",
            number(reason.figure),
            number(reason.threshold)
        ),
    };
    format!(
        "  {word:<9}{:<16}{}{figure}\n  {:<25}{}",
        reason.kind,
        plain(&reason.text),
        "",
        plain(&reason.advice)
    )
}

fn number(figure: f64) -> String {
    let text = format!("{figure:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
