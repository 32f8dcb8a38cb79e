//! `celeriac doctor`: looks at everything that a worker needs, and says what to do about what is wrong. Changes nothing.

mod data;
mod finding;
mod machine;
mod place;
#[cfg(feature = "redis")]
mod redis;
mod sample;

use std::sync::Arc;

use celeriac_actors::ports::Broker;
use clap::Args;

use self::finding::{Blame, Finding, Verdict};
use super::Global;
use super::exit::{Exit, Failure};
use super::output;
use super::session::{Session, sources};
use crate::app::App;
use crate::config::{Loaded, Severity, check_programs, load};

/// Checks everything that a worker needs.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Also send a task through and time each hop.
    #[arg(long)]
    task: bool,
}

/// Prints findings as they come, and remembers the worst.
struct Round {
    json: bool,
    worst: Option<Blame>,
    failures: u64,
    warnings: u64,
}

impl Round {
    fn note(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            match finding.verdict {
                Verdict::Ok => {}
                Verdict::Warning => self.warnings += 1,
                Verdict::Failure(blame) => {
                    self.failures += 1;
                    self.worst = self.worst.max(Some(blame));
                }
            }
            if self.json {
                output::json(&finding);
            } else {
                output::line(&finding.to_string());
            }
        }
    }

    fn end(&self) -> Exit {
        if !self.json {
            let failures = output::counted(self.failures, "failure");
            let warnings = output::counted(self.warnings, "warning");
            output::complain(&format!("{failures}, {warnings}"));
        }
        match self.worst {
            None => Exit::Ok,
            Some(Blame::Data) => Exit::Unavailable,
            Some(Blame::Configuration) => Exit::Usage,
        }
    }
}

pub(crate) fn run(args: &DoctorArgs, global: &Global, app: &App) -> Result<Exit, Failure> {
    let mut round = Round {
        json: global.json,
        worst: None,
        failures: 0,
        warnings: 0,
    };
    let sources = sources(global, app, &[]);
    let mut loaded = load(&sources);
    let programs = check_programs(&sources, &loaded);
    loaded.report.mistakes.extend(programs);
    round.note(configuration(&loaded));
    let notes = loaded.notes.clone();
    let Ok(config) = loaded.into_result() else {
        return Ok(round.end());
    };
    let mut session = Session::new(config, notes, global.json);
    session.complains = false;
    round.note(place::check(&session));
    Session::block_on(async {
        let broker = data::broker(&session, &mut round).await;
        round.note(data::results(&session));
        let store = data::store(&session, &mut round).await;
        round.note(data::spool(&session));
        let newest = data::newest(broker.as_ref(), store.as_ref()).await;
        round.note(machine::check(&session.config, newest));
        if args.task {
            let works = round.worst.is_none();
            round.note(task(&session, broker.and_then(|broker| broker.open), works).await);
        }
    })?;
    Ok(round.end())
}

async fn task(session: &Session, broker: Option<Arc<dyn Broker>>, works: bool) -> Vec<Finding> {
    if works {
        sample::send(session, broker).await
    } else {
        vec![Finding::warning(
            "task",
            "no task was sent: something else is wrong",
        )]
    }
}

/// What the configuration says of itself.
fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let mut findings: Vec<Finding> = loaded
        .report
        .mistakes
        .iter()
        .map(|mistake| {
            let place = match mistake.key.as_str() {
                "" => mistake.source.to_string(),
                key => format!("`{key}` ({})", mistake.source),
            };
            let text = format!("{place}: {}", mistake.found);
            let allowed = match mistake.allowed.as_str() {
                "" => None,
                allowed => Some(format!("allowed: {allowed}")),
            };
            let advice: Vec<String> = allowed.into_iter().chain(mistake.hint.clone()).collect();
            let finding = match mistake.severity {
                Severity::Error => Finding::failure(Blame::Configuration, "config", text),
                Severity::Warning => Finding::warning("config", text),
            };
            finding.advise(advice.join("; "))
        })
        .collect();
    findings.extend(
        loaded
            .notes
            .iter()
            .map(|note| Finding::ok("config", &note.message)),
    );
    if loaded.report.mistakes.is_empty() {
        findings.push(Finding::ok("config", "no mistakes"));
    }
    findings
}
