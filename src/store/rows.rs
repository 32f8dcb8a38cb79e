//! The row of a dead letter, and its way into the domain and back.

use celeriac_actors::failure::Failure;
use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ids::{BurialId, QueueName, TaskId, TaskName};
use celeriac_actors::ports::{DeadLetter, DeadStatus, StoreError};
use celeriac_actors::time::Timestamp;
use diesel::prelude::*;
use std::collections::BTreeMap;

use super::schema::dead_letters;
use super::stats::DAY;

/// The version of the JSON in `headers` and `failures` that this code writes.
const FORMAT: i32 = 1;

/// The last instant of the last whole day that 63 bits of milliseconds hold.
const LAST: i64 = i64::MAX / DAY * DAY - 1;

/// The stored form of a burial's id: byte order is id order, and a task's burials lie side by side.
pub(super) type Key = [u8; 24];

#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = dead_letters, treat_none_as_default_value = false)]
pub(super) struct LetterRow {
    pub(super) id: Vec<u8>,
    pub(super) queue: String,
    pub(super) task: Option<String>,
    pub(super) reason: String,
    pub(super) status: String,
    pub(super) buried_at: i64,
    enqueued_at: Option<i64>,
    attempts: i32,
    deliveries: i32,
    revivals: i64,
    pub(super) fingerprint: String,
    worker: String,
    note: String,
    format: i32,
    headers: String,
    failures: String,
    args: Option<String>,
    frame: Vec<u8>,
    edited: Option<Vec<u8>>,
}

/// Returns the stored form of a burial's id.
pub(super) fn key(id: BurialId) -> Key {
    let mut key = [0; 24];
    key[..16].copy_from_slice(id.task.as_bytes());
    key[16..].copy_from_slice(&id.number.to_be_bytes());
    key
}

/// Returns the first and the last key that a burial of `task` can have.
pub(super) fn keys_of(task: TaskId) -> (Key, Key) {
    let at = |number| key(BurialId { task, number });
    (at(u64::MIN), at(u64::MAX))
}

/// Returns an instant as a number; later ones than the last become the last.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).map_or(LAST, |millis| millis.min(LAST))
}

/// Returns the status with a stored name.
pub(super) fn status(name: &str) -> Option<DeadStatus> {
    DeadStatus::ALL
        .into_iter()
        .find(|status| status.as_str() == name)
}

/// Returns a number as an instant.
pub(super) fn instant(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// PostgreSQL cannot hold a NUL in text; neither does SQLite show one.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl LetterRow {
    /// Returns by what the letter is counted, for an order in which batches cannot lock each other out.
    pub(super) fn counted_by(&self) -> (i64, &str, &str, &str) {
        let task = self.task.as_deref().unwrap_or("?");
        (self.buried_at / DAY, &self.queue, task, &self.reason)
    }
}

impl TryFrom<&DeadLetter> for LetterRow {
    type Error = StoreError;

    fn try_from(letter: &DeadLetter) -> Result<Self, StoreError> {
        // Both are plain structures of text and numbers; this is for a future field that is not.
        let unwritable = |error: serde_json::Error| {
            StoreError::Schema(format!(
                "dead letter {} cannot be written: {error}",
                letter.id
            ))
        };
        Ok(Self {
            id: key(letter.id).to_vec(),
            queue: letter.queue.to_string(),
            task: letter.task.as_ref().map(ToString::to_string),
            reason: letter.reason.as_str().to_owned(),
            status: letter.status.as_str().to_owned(),
            buried_at: millis(letter.buried_at),
            enqueued_at: letter.enqueued_at.map(millis),
            attempts: letter.attempts.into(),
            deliveries: letter.deliveries.into(),
            revivals: letter.revivals.into(),
            fingerprint: Fingerprint::of(letter).to_string(),
            worker: without_nul(&letter.worker),
            note: without_nul(&letter.note),
            format: FORMAT,
            headers: serde_json::to_string(&letter.headers).map_err(unwritable)?,
            failures: serde_json::to_string(&letter.failures).map_err(unwritable)?,
            args: letter.args.as_deref().map(without_nul),
            frame: letter.frame.clone(),
            edited: letter.edited.clone(),
        })
    }
}

impl TryFrom<LetterRow> for DeadLetter {
    type Error = StoreError;

    fn try_from(row: LetterRow) -> Result<Self, StoreError> {
        let id = burial_id(&row.id).ok_or_else(|| unreadable("?", "id"))?;
        let bad = |column: &str| unreadable(&id.to_string(), column);
        if row.format != FORMAT {
            return Err(bad("format"));
        }
        let headers: BTreeMap<String, String> =
            serde_json::from_str(&row.headers).map_err(|_| bad("headers"))?;
        let failures: Vec<Failure> =
            serde_json::from_str(&row.failures).map_err(|_| bad("failures"))?;
        Ok(Self {
            id,
            queue: QueueName::new(&row.queue).map_err(|_| bad("queue"))?,
            task: row
                .task
                .map(TaskName::new)
                .transpose()
                .map_err(|_| bad("task"))?,
            reason: row.reason.parse().map_err(|_| bad("reason"))?,
            note: row.note,
            frame: row.frame,
            args: row.args,
            headers,
            failures,
            attempts: u16::try_from(row.attempts).map_err(|_| bad("attempts"))?,
            deliveries: u8::try_from(row.deliveries).map_err(|_| bad("deliveries"))?,
            enqueued_at: row.enqueued_at.map(instant),
            buried_at: instant(row.buried_at),
            worker: row.worker,
            status: status(&row.status).ok_or_else(|| bad("status"))?,
            revivals: u32::try_from(row.revivals).map_err(|_| bad("revivals"))?,
            edited: row.edited,
        })
    }
}

/// Reads the stored form of a burial's id.
pub(super) fn burial_id(bytes: &[u8]) -> Option<BurialId> {
    let (task, number) = bytes.split_first_chunk::<16>()?;
    Some(BurialId {
        task: TaskId::from_bytes(*task),
        number: u64::from_be_bytes(number.try_into().ok()?),
    })
}

/// Says that a column of a letter is not what this version writes.
pub(super) fn unreadable(id: &str, column: &str) -> StoreError {
    StoreError::Schema(format!(
        "dead letter {id} has a {column} that this version cannot read: run the version that wrote it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS_1: &str = r#"{"tenant":"acme"}"#;
    const FAILURES_1: &str = concat!(
        r#"[{"n":1,"t":5,"w":"w","d":7,"k":"error","m":"no"},"#,
        r#"{"n":2,"t":6,"w":"w","d":8,"k":"hard_limit","m":"late","c":["slow"],"l":"a.rs:1:1","b":"0: main"}]"#,
    );

    /// The oldest form of the JSON columns: it is read for ever.
    #[test]
    fn format_1_is_read_and_written() {
        let row = LetterRow {
            id: key(BurialId {
                task: TaskId::from_bytes([7; 16]),
                number: 3,
            })
            .to_vec(),
            queue: "billing".to_owned(),
            task: None,
            reason: "exhausted".to_owned(),
            status: "new".to_owned(),
            buried_at: 9,
            enqueued_at: None,
            attempts: 2,
            deliveries: 0,
            revivals: 0,
            fingerprint: String::new(),
            worker: "w".to_owned(),
            note: String::new(),
            format: 1,
            headers: HEADERS_1.to_owned(),
            failures: FAILURES_1.to_owned(),
            args: None,
            frame: vec![0xce],
            edited: None,
        };
        let letter = DeadLetter::try_from(row).unwrap();
        assert_eq!(letter.id.number, 3);
        assert_eq!(letter.failures[1].causes, ["slow"]);
        let written = LetterRow::try_from(&letter).unwrap();
        assert_eq!(
            (written.headers, written.failures),
            (HEADERS_1.to_owned(), FAILURES_1.to_owned())
        );
    }

    #[test]
    fn what_a_newer_version_wrote_is_named() {
        let id = BurialId {
            task: TaskId::from_bytes([7; 16]),
            number: 3,
        };
        let error = unreadable(&id.to_string(), "reason");
        assert!(
            error
                .to_string()
                .contains("07070707-0707-0707-0707-070707070707-3 has a reason")
        );
    }
}
