//! What becomes of dead letters: revived, discarded, deleted.

use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{DeadFilter, DeadLetter, DeadStatus};
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::{Answer, Asked, json, serve};
use super::dead::{Written, letters};
use super::problem::Problem;
use super::routes::{Body, Endpoint, changes};
use super::tasks::SMALL;
use crate::admin::dead::{describe, read};
use crate::admin::when::When;

/// How many letters one request changes at most.
const MAX: u64 = 1_000;

const CHOICE: Option<Body> = Some(Body {
    max: SMALL,
    schema: choice_schema,
});

pub(super) const ROUTES: &[Endpoint] = &[
    changes(
        "/api/v1/dead/letters/{id}/revive",
        "Enqueue a dead task again, as a new life.",
        None,
        || serve(|asked| one(asked, Change::Revive)),
    ),
    changes(
        "/api/v1/dead/letters/{id}/discard",
        "Decide that a dead task stays dead; its letter is kept.",
        None,
        || serve(|asked| one(asked, Change::Discard)),
    ),
    changes(
        "/api/v1/dead/revive",
        "Enqueue all dead tasks that match again, newest first, at most 1000 a request.",
        CHOICE,
        || serve(|asked| many(asked, Change::Revive)),
    ),
    changes(
        "/api/v1/dead/discard",
        "Discard all new dead letters that match, newest first, at most 1000 a request.",
        CHOICE,
        || serve(|asked| many(asked, Change::Discard)),
    ),
    changes(
        "/api/v1/dead/purge",
        "Delete all dead letters that match for good, oldest first; never one that is being revived.",
        CHOICE,
        || serve(purge),
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Revive,
    Discard,
}

impl Change {
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Revive => ("dead.revive", "revived"),
            Self::Discard => ("dead.discard", "discarded"),
        }
    }
}

/// Which letters are meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    queue: Option<String>,
    task: Option<String>,
    reason: Option<String>,
    status: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    all: bool,
}

impl Choice {
    /// Reads it; what would mean everything must say so.
    fn filter(&self, asked: &Asked) -> Result<DeadFilter, Problem> {
        let moment = |key: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match text.parse::<When>() {
                Ok(when) => Ok(Some(when.instant(asked.now))),
                Err(why) => Err(Problem::invalid(format!("`{key}`: {why}"))),
            },
        };
        let written = Written {
            queue: self.queue.as_deref(),
            task: self.task.as_deref(),
            reason: self.reason.as_deref(),
            status: self.status.as_deref(),
        };
        let filter = DeadFilter {
            since: moment("since", &self.since)?,
            until: moment("until", &self.until)?,
            ..written.read()?
        };
        if filter == DeadFilter::default() && !self.all {
            let detail =
                "this needs a filter such as `\"reason\": \"exhausted\"`, or `\"all\": true`";
            return Err(Problem::invalid(detail));
        }
        Ok(filter)
    }
}

/// What became of the letters of a change.
struct Tally {
    word: &'static str,
    done: Vec<Value>,
    failed: Vec<Value>,
}

impl Tally {
    const fn new(word: &'static str) -> Self {
        Self {
            word,
            done: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn note(&mut self, id: BurialId, became: Result<Option<&str>, &str>) {
        let id = id.to_string();
        match became {
            Ok(queue) => self.done.push(json!({ "id": id, "queue": queue })),
            Err(why) => self.failed.push(json!({ "id": id, "error": why })),
        }
    }

    fn summary(&self) -> String {
        match self.failed.len() {
            0 => format!("{} {}", self.done.len(), self.word),
            failed => format!("{} {}, {failed} failed", self.done.len(), self.word),
        }
    }

    fn is_empty(&self) -> bool {
        self.done.is_empty() && self.failed.is_empty()
    }
}

async fn apply(
    asked: &Asked,
    change: Change,
    chosen: &[DeadLetter],
    tally: &mut Tally,
) -> Result<(), Problem> {
    let (desk, work) = (letters(asked)?, asked.work()?);
    let mut told = |id, became: Result<Option<&str>, &str>| tally.note(id, became);
    match change {
        Change::Revive => desk.revive(chosen, &work.broker, &mut told).await?,
        Change::Discard => desk.discard(chosen, &mut told).await?,
    }
    Ok(())
}

async fn one(asked: Asked, change: Change) -> Answer {
    let wanted = read(asked.segment("id"));
    let wanted = wanted.ok_or_else(|| {
        Problem::invalid("no id of a dead letter; it has the form TASK_ID-NUMBER")
    })?;
    asked.recordable().await?;
    let letter = letters(&asked)?.find(wanted, true).await?;
    let id = letter.id.to_string();
    let (action, word) = change.words();
    let mut tally = Tally::new(word);
    let ended = apply(&asked, change, &[letter], &mut tally).await;
    let detail = match &ended {
        Ok(()) => tally.summary(),
        Err(problem) => format!("not finished: {problem}"),
    };
    asked.record(action, id, detail).await?;
    ended?;
    match tally.failed.first() {
        None => json(&json!({ "outcome": word, "letter": tally.done.first() })),
        Some(failed) => Err(Problem::new(
            409,
            "conflict",
            failed["error"].as_str().unwrap_or_default(),
        )),
    }
}

async fn many(asked: Asked, change: Change) -> Answer {
    let choice: Choice = asked.body()?;
    let mut filter = choice.filter(&asked)?;
    let is_open = match filter.status {
        None | Some(DeadStatus::New) => true,
        Some(status) => change == Change::Revive && status == DeadStatus::Reviving,
    };
    if !is_open {
        return Err(Problem::invalid(
            "letters in this `status` are decided already; leave it out",
        ));
    }
    filter.status = Some(filter.status.unwrap_or(DeadStatus::New));
    asked.recordable().await?;
    let target = describe(&filter);
    let limit = choice.limit.unwrap_or(MAX).clamp(1, MAX);
    let (action, word) = change.words();
    let mut tally = Tally::new(word);
    let mut pages = letters(&asked)?.pages(filter, Some(limit));
    let ended = loop {
        let chosen = match pages.next().await {
            Ok(chosen) if chosen.is_empty() => break Ok(()),
            Ok(chosen) => chosen,
            Err(fault) => break Err(fault.into()),
        };
        if let Err(problem) = apply(&asked, change, &chosen, &mut tally).await {
            break Err(problem);
        }
    };
    if !tally.is_empty() {
        asked.record(action, target, tally.summary()).await?;
    }
    match ended {
        Ok(()) => {
            json(&json!({ word: tally.done, "failed": tally.failed, "more": pages.has_more() }))
        }
        Err(problem) => {
            let problem: Problem = problem;
            Err(problem.with(word, tally.done).with("failed", tally.failed))
        }
    }
}

async fn purge(asked: Asked) -> Answer {
    let choice: Choice = asked.body()?;
    let filter = choice.filter(&asked)?;
    asked.recordable().await?;
    let desk = letters(&asked)?;
    let there = desk.purgeable(&filter).await?;
    let (purged, ended) = desk
        .purge(&filter, there.min(choice.limit.unwrap_or(u64::MAX)))
        .await;
    let target = describe(&filter);
    if purged > 0 {
        let detail = format!("{purged} purged");
        asked.record("dead.purge", target.clone(), detail).await?;
    }
    ended.map_err(|fault| Problem::from(fault).with("purged", purged))?;
    json(&json!({ "purged": purged, "filter": target }))
}

fn choice_schema() -> Value {
    let text = |doc: &str| json!({ "type": "string", "description": doc });
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "queue": text("Only those that died in this queue."),
        "task": text("Only tasks of this kind."),
        "reason": text("Only those that died for this reason."),
        "status": text("Only those in this status."),
        "since": text("Only those buried then or later: RFC 3339, a day, or an age such as `2h`."),
        "until": text("Only those buried before."),
        "limit": { "type": "integer", "minimum": 1, "description": "At most so many." },
        "all": { "type": "boolean", "default": false, "description": "Without a filter: all of them." },
    } })
}
