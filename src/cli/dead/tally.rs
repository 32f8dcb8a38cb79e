//! What became of each letter of a change, and how the change ends.

use celeriac_actors::ids::BurialId;
use serde_json::json;

use super::super::exit::{Exit, Failure};
use super::super::output;

/// Counts what became of the letters of one change, and says it of each.
#[derive(Debug)]
pub(super) struct Tally {
    /// What is done to letters, such as `revived`.
    done_word: &'static str,
    json: bool,
    done: u64,
    failed: u64,
}

impl Tally {
    pub(super) const fn new(done_word: &'static str, json: bool) -> Self {
        Self {
            done_word,
            json,
            done: 0,
            failed: 0,
        }
    }

    /// Notes what became of a letter.
    pub(super) fn note(&mut self, id: BurialId, became: Result<Option<&str>, &str>) {
        match became {
            Ok(where_to) => self.done(id, where_to),
            Err(why) => self.failed(id, why),
        }
    }

    /// Notes a letter to which it was done; `where_to` is where its task is now.
    pub(super) fn done(&mut self, id: BurialId, where_to: Option<&str>) {
        self.done += 1;
        if self.json {
            output::json(
                &json!({ "id": id.to_string(), "outcome": self.done_word, "queue": where_to }),
            );
        } else {
            let where_to = where_to.map_or_else(String::new, |queue| format!(" to {queue}"));
            output::line(&format!("{} {id}{where_to}", self.done_word));
        }
    }

    /// Notes a letter to which it could not be done; the others go on.
    pub(super) fn failed(&mut self, id: BurialId, why: &str) {
        self.failed += 1;
        if self.json {
            output::json(&json!({ "id": id.to_string(), "outcome": "failed", "error": why }));
        } else {
            output::complain(&format!("not {}: {}", self.done_word, output::plain(why)));
        }
    }

    /// Returns the numbers, for the audit.
    pub(super) fn summary(&self) -> String {
        match self.failed {
            0 => format!("{} {}", self.done, self.done_word),
            failed => format!("{} {}, {failed} failed", self.done, self.done_word),
        }
    }

    /// Returns whether nothing was there to be changed.
    pub(super) const fn is_empty(&self) -> bool {
        self.done + self.failed == 0
    }

    /// Ends the change: 1 when some letters could not be changed.
    pub(super) fn end(self) -> Result<Exit, Failure> {
        if self.failed > 0 {
            return Err(Failure::new(
                Exit::TaskFailed,
                anyhow::anyhow!(self.summary()),
            ));
        }
        if !self.json {
            let nothing = if self.is_empty() {
                "no dead letter matches: "
            } else {
                ""
            };
            output::complain(&format!("{nothing}{}", self.summary()));
        }
        Ok(Exit::Ok)
    }
}
