//! One task as it is written in JSON: in a line of an input, or in the body of a request.

use std::collections::BTreeMap;

use celeriac_actors::header::Priority;
use celeriac_actors::ids::TaskId;
use serde::{Deserialize, Deserializer};

use super::asks::{Asks, limit, mode, moment};
use super::order::Order;
use super::when;
use crate::admin::values::{Typed, refuse_lossy};

/// One task of an input, as it is written there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: String,
    #[serde(default, deserialize_with = "given")]
    args: Option<Typed>,
    queue: Option<String>,
    id: Option<TaskId>,
    countdown: Option<String>,
    eta: Option<String>,
    #[serde(default)]
    priority: Priority,
    expires: Option<String>,
    retry_until: Option<String>,
    soft_limit: Option<String>,
    hard_limit: Option<String>,
    max_attempts: Option<u16>,
    mode: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// `null` is an argument too: only a missing key is none.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Typed>, D::Error> {
    Typed::deserialize(deserializer).map(Some)
}

impl Order {
    /// Reads a task that is written as a JSON object.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| place(&error))?;
        refuse_lossy(text)?;
        Ok(Self {
            when: when::read(line.countdown.as_deref(), line.eta.as_deref())?,
            task: line.task,
            args: line.args.map(|Typed(value)| value),
            queue: line.queue,
            id: line.id,
            priority: line.priority,
            asks: Asks {
                expires: moment("expires", line.expires.as_deref())?,
                retry_until: moment("retry_until", line.retry_until.as_deref())?,
                soft_limit: limit("soft_limit", line.soft_limit.as_deref())?,
                hard_limit: limit("hard_limit", line.hard_limit.as_deref())?,
                max_attempts: line.max_attempts,
                mode: mode("mode", line.mode.as_deref())?,
                headers: line.headers,
            },
        })
    }
}

/// Says what is wrong without the line number of the JSON, which is always 1.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_suffix(&format!(
        " at line {} column {}",
        error.line(),
        error.column()
    )) {
        Some(what) => format!("{what} (column {})", error.column()),
        None => text,
    }
}
