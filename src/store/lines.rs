//! Dead letters as lines of JSON, to be taken elsewhere and back: nothing is lost, and everything but the bytes can be read.
//!
//! Arguments are the text of their JSON, as they are stored: a number or the order of keys would not survive being read as
//! values. Frames are base64. Instants are RFC 3339, or milliseconds since 1970 beyond the year 9999.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ids::{BurialId, QueueName, TaskName};
use celeriac_actors::ports::{DeadLetter, DeadStatus};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::{Timestamp, millis};
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::base64;

/// The version of a line that this code writes.
const FORMAT: u32 = 1;

/// From here on an instant has no RFC 3339 that everybody reads: some hours before the year 10000.
const LAST_READABLE: u64 = 253_402_200_000_000;

/// How many letters a batch has.
const BATCH: usize = 200;
/// A batch is full earlier when its letters take more than this.
const BATCH_BYTES: usize = 8 << 20;

/// Why a line is no dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineError(String);

/// A dead letter on its way; written as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LetterLine {
    v: u32,
    id: String,
    queue: QueueName,
    task: Option<TaskName>,
    reason: DeadReason,
    status: DeadStatus,
    note: String,
    buried_at: Instant,
    enqueued_at: Option<Instant>,
    attempts: u16,
    deliveries: u8,
    revivals: u32,
    worker: String,
    /// For people and their tools; computed anew where the line is read.
    #[serde(default)]
    fingerprint: Option<Fingerprint>,
    headers: BTreeMap<String, String>,
    args: Option<String>,
    failures: Vec<Attempt>,
    frame: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edited: Option<Bytes>,
}

/// A failed attempt, its names in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    attempt: u16,
    at: Instant,
    worker: String,
    elapsed_ms: u64,
    kind: FailureKind,
    message: String,
    causes: Vec<String>,
    location: Option<String>,
    backtrace: Option<String>,
}

impl From<&DeadLetter> for LetterLine {
    fn from(letter: &DeadLetter) -> Self {
        Self {
            v: FORMAT,
            id: letter.id.to_string(),
            queue: letter.queue.clone(),
            task: letter.task.clone(),
            reason: letter.reason,
            status: letter.status,
            note: letter.note.clone(),
            buried_at: Instant(letter.buried_at),
            enqueued_at: letter.enqueued_at.map(Instant),
            attempts: letter.attempts,
            deliveries: letter.deliveries,
            revivals: letter.revivals,
            worker: letter.worker.clone(),
            fingerprint: Some(Fingerprint::of(letter)),
            headers: letter.headers.clone(),
            args: letter.args.clone(),
            failures: letter.failures.iter().map(Attempt::from).collect(),
            frame: Bytes(letter.frame.clone()),
            edited: letter.edited.clone().map(Bytes),
        }
    }
}

impl LetterLine {
    /// Reads a line; `None` when it is blank.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(line: &[u8]) -> Result<Option<DeadLetter>, LineError> {
        let text = std::str::from_utf8(line)
            .map_err(|error| LineError(format!("no UTF-8 at byte {}", error.valid_up_to() + 1)))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Ok(None);
        }
        let line: Self = serde_json::from_str(text).map_err(|error| LineError(place(&error)))?;
        line.into_letter().map(Some)
    }

    fn into_letter(self) -> Result<DeadLetter, LineError> {
        if self.v != FORMAT {
            let found = self.v;
            return Err(LineError(format!(
                "this version reads lines with `v` {FORMAT}, found {found}: import it with the version that wrote it"
            )));
        }
        let id: BurialId = self.id.parse().map_err(|_| {
            LineError(format!(
                "`id` {:?} is not of the form TASK_ID-NUMBER",
                self.id
            ))
        })?;
        Ok(DeadLetter {
            id,
            queue: self.queue,
            task: self.task,
            reason: self.reason,
            note: self.note,
            frame: self.frame.0,
            args: self.args,
            headers: self.headers,
            failures: self.failures.into_iter().map(Failure::from).collect(),
            attempts: self.attempts,
            deliveries: self.deliveries,
            enqueued_at: self.enqueued_at.map(|at| at.0),
            buried_at: self.buried_at.0,
            worker: self.worker,
            status: self.status,
            revivals: self.revivals,
            edited: self.edited.map(|edited| edited.0),
        })
    }
}

impl From<&Failure> for Attempt {
    fn from(failure: &Failure) -> Self {
        Self {
            attempt: failure.attempt,
            at: Instant(failure.at),
            worker: failure.worker.clone(),
            elapsed_ms: millis(failure.elapsed),
            kind: failure.kind,
            message: failure.message.clone(),
            causes: failure.causes.clone(),
            location: failure.location.clone(),
            backtrace: failure.backtrace.clone(),
        }
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        Self {
            attempt: attempt.attempt,
            at: attempt.at.0,
            worker: attempt.worker,
            elapsed: Duration::from_millis(attempt.elapsed_ms),
            kind: attempt.kind,
            message: attempt.message,
            causes: attempt.causes,
            location: attempt.location,
            backtrace: attempt.backtrace,
        }
    }
}

/// Says what is wrong without the line number of the JSON, which is always 1.
fn place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instant(Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_millis() {
            millis if millis >= LAST_READABLE => serializer.serialize_u64(millis),
            _ => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Instant;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an instant such as \"2026-01-31T12:00:00.250Z\"")
            }

            fn visit_u64<E: serde::de::Error>(self, millis: u64) -> Result<Instant, E> {
                Ok(Instant(Timestamp::from_millis(millis)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Instant, E> {
                let read = text.parse::<jiff::Timestamp>().ok();
                let millis = read.and_then(|at| u64::try_from(at.as_millisecond()).ok());
                match millis {
                    Some(millis) => self.visit_u64(millis),
                    None => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = base64::decode(&text);
        bytes
            .map(Self)
            .ok_or_else(|| D::Error::custom("bytes are no base64"))
    }
}

/// Letters on their way into a store, in batches of bounded size.
///
/// A batch is inserted by [`DeadLetters::insert`](celeriac_actors::ports::DeadLetters::insert), which leaves those that are
/// there already as they are, so it may be repeated.
#[derive(Debug, Default)]
pub struct LetterBatch {
    letters: Vec<DeadLetter>,
    bytes: usize,
}

impl LetterBatch {
    /// Adds a letter; returns a batch when it is full.
    pub fn push(&mut self, letter: DeadLetter) -> Option<Vec<DeadLetter>> {
        let edited = letter.edited.as_ref().map_or(0, Vec::len);
        let args = letter.args.as_ref().map_or(0, String::len);
        self.bytes += letter.frame.len() + edited + args;
        self.letters.push(letter);
        let is_full = self.letters.len() >= BATCH || self.bytes >= BATCH_BYTES;
        is_full.then(|| self.take())
    }

    /// Takes what was added since the last batch.
    pub fn take(&mut self) -> Vec<DeadLetter> {
        self.bytes = 0;
        std::mem::take(&mut self.letters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            Just("\0\u{1b}[2J\r\n\u{2028}\u{feff}\"\\".to_owned())
        ]
    }

    fn failure() -> impl Strategy<Value = Failure> {
        let words = (text(), text(), proptest::option::of(text()), any::<u64>());
        (words, any::<u16>(), any::<u64>()).prop_map(
            |((message, worker, place, at), attempt, elapsed)| {
                let failure = Failure::new(FailureKind::HardLimit, message.clone());
                let failure = failure.with_causes([message]);
                let failure = failure.with_place(place.clone(), place);
                let at = Timestamp::from_millis(at);
                failure.of(attempt, &worker, at, Duration::from_millis(elapsed))
            },
        )
    }

    prop_compose! {
        fn letter()(
            (task, number, frame) in (any::<[u8; 16]>(), any::<u64>(), any::<Vec<u8>>()),
            (note, worker, args) in (text(), text(), proptest::option::of(text())),
            headers in proptest::collection::btree_map(text(), text(), 0..3),
            failures in proptest::collection::vec(failure(), 0..3),
            (attempts, deliveries, revivals) in (any::<u16>(), any::<u8>(), any::<u32>()),
            (buried_at, enqueued_at) in (any::<u64>(), proptest::option::of(0..LAST_READABLE + 9)),
            reason in prop::sample::select(&DeadReason::ALL),
            status in prop::sample::select(&DeadStatus::ALL),
            edited in proptest::option::of(any::<Vec<u8>>()),
        ) -> DeadLetter {
            DeadLetter {
                id: BurialId { task: celeriac_actors::ids::TaskId::from_bytes(task), number },
                queue: QueueName::new("q").unwrap(),
                task: number.is_multiple_of(2).then(|| TaskName::new("a.b").unwrap()),
                reason, note, frame, args, headers, failures, attempts, deliveries,
                enqueued_at: enqueued_at.map(Timestamp::from_millis),
                buried_at: Timestamp::from_millis(buried_at),
                worker, status, revivals, edited,
            }
        }
    }

    proptest! {
        #[test]
        fn any_letter_comes_back_from_one_line(letter in letter()) {
            let line = serde_json::to_string(&LetterLine::from(&letter)).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(LetterLine::parse(line.as_bytes()), Ok(Some(letter)));
        }

        #[test]
        fn any_line_is_read_or_refused(line in any::<Vec<u8>>()) {
            drop(LetterLine::parse(&line));
        }
    }

    /// The oldest line: it is read for ever.
    const LINE_1: &str = concat!(
        r#"{"v":1,"id":"07070707-0707-0707-0707-070707070707-3","queue":"billing","task":"demo.fail","reason":"exhausted","#,
        r#""status":"new","note":"","buried_at":"2026-01-31T12:00:00.250Z","enqueued_at":null,"attempts":1,"deliveries":0,"#,
        r#""revivals":0,"worker":"w","fingerprint":"9f3a01c2deadbeef","headers":{"tenant":"acme"},"args":"{\"a\":1}","#,
        r#""failures":[{"attempt":1,"at":"2026-01-31T12:00:00.000Z","worker":"w","elapsed_ms":7,"kind":"error","#,
        r#""message":"no","causes":["slow"],"location":null,"backtrace":null}],"frame":"zgD/"}"#,
    );

    #[test]
    fn format_1_is_read() {
        let letter = LetterLine::parse(LINE_1.as_bytes()).unwrap().unwrap();
        assert_eq!(
            (letter.id.number, &letter.frame[..]),
            (3, &[0xce, 0, 0xff][..])
        );
        assert_eq!(letter.buried_at.to_string(), "2026-01-31T12:00:00.250Z");
        assert_eq!(letter.failures[0].causes, ["slow"]);
        assert_eq!(LetterLine::parse(b" \r"), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        let with = |from: &str, to: &str| LINE_1.replace(from, to);
        for (line, said) in [
            (with("\"v\":1", "\"v\":2"), "with `v` 1, found 2"),
            (with("07-3", "07"), "TASK_ID-NUMBER"),
            (with("zgD/", "zgD"), "bytes are no base64"),
            (with("billing", "a/b"), "column"),
            (with("exhausted", "bored"), "unknown variant `bored`"),
            (
                with("2026-01-31T12:00:00.250Z", "noon"),
                "an instant such as",
            ),
            (with("\"note\"", "\"not\""), "unknown field `not`"),
            ("{".to_owned(), "EOF while parsing"),
            ("7".to_owned(), "invalid type: integer `7`"),
        ] {
            let error = LetterLine::parse(line.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let error = LetterLine::parse(b"\xff").unwrap_err();
        assert_eq!(error.to_string(), "no UTF-8 at byte 1");
    }

    #[test]
    fn batches_are_bounded_by_count_and_by_bytes() {
        let letter = LetterLine::parse(LINE_1.as_bytes()).unwrap().unwrap();
        let mut batch = LetterBatch::default();
        for _ in 1..BATCH {
            assert_eq!(batch.push(letter.clone()), None);
        }
        assert_eq!(batch.push(letter.clone()).unwrap().len(), BATCH);
        assert!(batch.take().is_empty());
        let large = DeadLetter {
            frame: vec![0; BATCH_BYTES / 2],
            ..letter
        };
        assert_eq!(batch.push(large.clone()), None);
        assert_eq!(batch.push(large).unwrap().len(), 2);
    }
}
