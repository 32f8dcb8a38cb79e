//! `celeriac dead revive … --canary`: one letter first, then ten, then the rest, as long as they do not die again.

use std::time::Duration;

use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::DeadStatus;
use celeriac_actors::revival::canary::{Canary, CanaryCounts, CanaryEnd, CanaryNews, CanaryPlan};
use clap::Args;
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted, plain};
use super::super::session::Away as _;
use super::desk::Desk;
use super::filter::Filters;
use crate::admin::dead::describe;

/// How a canary is asked for.
#[derive(Args, Debug)]
pub(crate) struct CanaryArgs {
    /// Revive one, wait for its end, then ten, then the rest a hundred at a time; stop when too many die again.
    #[arg(long)]
    canary: bool,
    /// With `--canary`: the share of what was revived that may fail, 0 to 1.
    #[arg(long, value_name = "SHARE", requires = "canary", default_value = "0.1", value_parser = share)]
    bound: f64,
    /// With `--canary`: how long the ends of each stage are waited for.
    #[arg(long, value_name = "SPAN", requires = "canary", default_value = "10m", value_parser = humantime::parse_duration)]
    wait: Duration,
}

impl CanaryArgs {
    /// Returns the plan, where a canary is asked for.
    pub(super) fn plan(&self) -> Option<CanaryPlan> {
        self.canary.then_some(CanaryPlan {
            bound: self.bound,
            wait: self.wait,
            limit: None,
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, such as 0.1".to_owned())
}

/// How long a step is made again while the store or the broker is away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits between two of these.
const PAUSE: Duration = Duration::from_millis(200);

/// What ended it before its end.
enum Stopped {
    /// Somebody.
    Interrupted,
    /// The store or the broker.
    Failed(Failure),
}

pub(super) async fn run(desk: &Desk, filters: &Filters, plan: CanaryPlan) -> Result<Exit, Failure> {
    let mut filter = desk.filter(filters).await?;
    if filter
        .status
        .is_some_and(|status| status != DeadStatus::New)
    {
        return Err(Failure::usage(
            "a canary revives only dead letters that are new; leave --status out",
        ));
    }
    filter.status = Some(DeadStatus::New);
    let target = describe(&filter);
    let plan = CanaryPlan {
        limit: filters.limit,
        ..plan
    };
    let mut canary = Canary::new(filter, plan);
    let end = steps(desk, &mut canary).await;
    let counts = *canary.counts();
    if counts.revived + counts.refused > 0 {
        let detail = format!("canary: {}", summary(&counts));
        desk.record("dead.revive", target, detail).await?;
    }
    conclude(desk.session.json, &counts, &plan, end)
}

/// Makes steps until it ends or somebody wants it to.
async fn steps(desk: &Desk, canary: &mut Canary) -> Result<CanaryEnd, Stopped> {
    let broker = desk.broker().map_err(Stopped::Failed)?;
    let listen =
        |kind| signal(kind).map_err(|error| Stopped::Failed(Failure::new(Exit::GaveUp, error)));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut away_since = None;
    loop {
        match canary.step(&*desk.store, broker).await {
            Ok(CanaryNews::Over(end)) => return Ok(end),
            Ok(CanaryNews::Nothing) => desk.copy().await,
            Ok(news) => tell(desk.session.json, &news),
            Err(error) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if !error.is_away() || since.elapsed() >= PATIENCE {
                    return Err(Stopped::Failed(Failure::unavailable(error)));
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        away_since = None;
        // Heard between two steps: a revival that was begun is ended first.
        if interrupt.recv().now_or_never().is_some() || terminate.recv().now_or_never().is_some() {
            return Err(Stopped::Interrupted);
        }
    }
}

/// Says what a step brought.
fn tell(json: bool, news: &CanaryNews) {
    let line = |letter: &BurialId, outcome: &str, more: Value| {
        let mut line = json!({ "id": letter.to_string(), "outcome": outcome });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        output::json(&line);
    };
    match news {
        CanaryNews::Revived { letter, task } if json => {
            line(letter, "revived", json!({ "queue": task.queue }));
        }
        CanaryNews::Revived { letter, task } => {
            output::line(&format!("revived {letter} to {}", task.queue));
        }
        CanaryNews::Refused { letter, reason } if json => {
            line(letter, "failed", json!({ "error": reason }));
        }
        CanaryNews::Refused { reason, .. } => {
            output::complain(&format!("not revived: {}", plain(reason)));
        }
        CanaryNews::Ended { letter, state } if json => {
            line(letter, "ended", json!({ "state": state }));
        }
        CanaryNews::Ended { letter, state } => output::line(&format!("{state} {letter}")),
        CanaryNews::Nothing | CanaryNews::Over(_) => {}
    }
}

/// Returns the numbers, for people and for the audit.
fn summary(counts: &CanaryCounts) -> String {
    let mut text = format!(
        "{} revived, {} succeeded, {} failed",
        counts.revived, counts.succeeded, counts.failed
    );
    for (count, word) in [(counts.pending(), "not ended"), (counts.refused, "refused")] {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text
}

/// Says how it ended: 0 only when everything was revived and few enough failed.
fn conclude(
    json: bool,
    counts: &CanaryCounts,
    plan: &CanaryPlan,
    end: Result<CanaryEnd, Stopped>,
) -> Result<Exit, Failure> {
    let (exit, word, why) = match end {
        Ok(CanaryEnd::Done) if counts.refused == 0 => (Exit::Ok, "done", String::new()),
        Ok(CanaryEnd::Done) => (
            Exit::TaskFailed,
            "done",
            "some could not be revived".to_owned(),
        ),
        Ok(CanaryEnd::TooManyFailed) => (
            Exit::TaskFailed,
            "too_many_failed",
            format!("more than {} of what was revived failed", plan.bound),
        ),
        Ok(CanaryEnd::TooSlow) => (
            Exit::TaskFailed,
            "too_slow",
            format!(
                "{} did not end within {}; does a worker run?",
                counted(counts.pending(), "task"),
                humantime::format_duration(plan.wait)
            ),
        ),
        Err(Stopped::Interrupted) => (
            Exit::TaskFailed,
            "interrupted",
            "it was interrupted".to_owned(),
        ),
        Err(Stopped::Failed(failure)) => (failure.exit(), "failed", failure.to_string()),
    };
    if json {
        output::json(&json!({
            "outcome": word,
            "revived": counts.revived,
            "succeeded": counts.succeeded,
            "failed": counts.failed,
            "pending": counts.pending(),
            "refused": counts.refused,
        }));
    }
    let summary = summary(counts);
    if exit == Exit::Ok {
        if !json {
            output::complain(&summary);
        }
        return Ok(exit);
    }
    let rest = match word {
        "done" => "",
        _ => "; the rest is untouched",
    };
    Err(Failure::new(
        exit,
        anyhow::anyhow!("{why}: {summary}{rest}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lies_between_nothing_and_everything() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!((share("0"), share("1")), (Ok(0.0), Ok(1.0)));
        for text in ["-0.1", "1.1", "NaN", "inf", "10%", ""] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_all_is_success() {
        let ended = |end, refused| {
            let counts = CanaryCounts {
                revived: 11,
                succeeded: 9,
                failed: 1,
                refused,
            };
            conclude(false, &counts, &CanaryPlan::default(), end)
        };
        assert_eq!(ended(Ok(CanaryEnd::Done), 0).unwrap(), Exit::Ok);
        for (end, refused, said) in [
            (
                Ok(CanaryEnd::Done),
                1,
                "some could not be revived: 11 revived",
            ),
            (
                Ok(CanaryEnd::TooManyFailed),
                0,
                "more than 0.1 of what was revived failed: 11 revived",
            ),
            (Ok(CanaryEnd::TooSlow), 0, "1 task did not end within 10m"),
            (
                Err(Stopped::Interrupted),
                0,
                "it was interrupted: 11 revived, 9 succeeded, 1 failed, 1 not ended; the rest is untouched",
            ),
        ] {
            let failure = ended(end, refused).unwrap_err();
            assert_eq!(failure.exit(), Exit::TaskFailed);
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }
}
