//! From a dead task to a dead letter: everything that can be read of its bytes, and nothing that cannot.
//!
//! Arguments are shown as JSON, written while they are decoded and only up to [`MAX_ARGS`], so that a letter costs no
//! more memory than it keeps. What JSON has no form for is written as an object with one key that starts with `$`:
//! `{"$bytes": "<base64>"}`, `{"$ext": [type, "<base64>"]}`, `{"$float": "NaN"}`. Keys that are no text become the
//! text of their JSON.

use crate::frame::{self, FrameLimits};
use crate::header::Header;
use crate::lease::DeadTask;
use crate::ports::{DeadLetter, DeadStatus};
use crate::redact;

mod json;

/// The longest arguments kept as they are, in bytes of JSON.
///
/// Longer ones become `{"$cut": "<their start>", "bytes": <bytes as MessagePack>}`.
pub const MAX_ARGS: usize = 64 << 10;

/// Returns the dead letter of a dead task. Bytes that do not decode leave their fields empty.
///
/// Pure: the same task always gives the same letter, so that storing it again changes nothing.
#[must_use]
pub fn letter_from(dead: &DeadTask, limits: &FrameLimits) -> DeadLetter {
    let mut letter = DeadLetter {
        id: dead.burial,
        queue: dead.queue.clone(),
        task: None,
        reason: dead.reason,
        note: dead.note.clone(),
        frame: dead.frame.clone(),
        args: None,
        headers: std::collections::BTreeMap::new(),
        failures: Vec::new(),
        attempts: 0,
        deliveries: 0,
        enqueued_at: None,
        buried_at: dead.buried_at,
        worker: dead.worker.to_string(),
        status: DeadStatus::New,
        revivals: 0,
        edited: None,
    };
    if let Err(reason) = read_frame(&mut letter, limits)
        && letter.note.is_empty()
    {
        letter.note = reason;
    }
    letter
}

/// Fills in what the letter's frame tells; says why there is no more.
fn read_frame(letter: &mut DeadLetter, limits: &FrameLimits) -> Result<(), String> {
    let header = Header::read(&letter.frame).map_err(|error| error.to_string())?;
    letter.attempts = header.attempts;
    letter.deliveries = header.deliveries;
    letter.enqueued_at = Some(header.enqueued_at);
    let opened = frame::open(&header, &letter.frame, limits).map_err(|error| error.to_string())?;
    let args = shown(&opened, limits);
    let envelope = opened.envelope;
    letter.task = Some(envelope.task);
    letter.headers = envelope.headers;
    letter.failures = envelope.history;
    letter.args = Some(args.map_err(|error| format!("the arguments do not decode: {error}"))?);
    Ok(())
}

/// Returns the arguments of an opened frame as JSON, those that are sensitive redacted.
fn shown(opened: &frame::Opened<'_>, limits: &FrameLimits) -> Result<String, String> {
    let args = json::args(opened.args(), limits.max_depth).map_err(|error| error.to_string());
    let sensitive = &opened.envelope.sensitive;
    if sensitive.is_empty() {
        return args;
    }
    Ok(args.map_or_else(|_| redact::all(), |args| redact::text(&args, sensitive)))
}

/// Returns the arguments that the revival of a letter sends, as JSON, where somebody edited them.
#[must_use]
pub fn edited_args(letter: &DeadLetter, limits: &FrameLimits) -> Option<String> {
    let frame = letter.edited.as_deref()?;
    let header = Header::read(frame).ok()?;
    let opened = frame::open(&header, frame, limits).ok()?;
    shown(&opened, limits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;
    use crate::failure::{Failure, FailureKind};
    use crate::header::Priority;
    use crate::ids::{BurialId, QueueName, TaskId, TaskName, WorkerId};
    use crate::state::DeadReason;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    fn dead(frame: Vec<u8>) -> DeadTask {
        DeadTask {
            burial: BurialId {
                task: TaskId::from_bytes([7; 16]),
                number: 3,
            },
            queue: QueueName::new("billing").unwrap(),
            reason: DeadReason::Exhausted,
            note: String::new(),
            frame,
            buried_at: Timestamp::from_millis(9),
            worker: WorkerId::new("w").unwrap(),
        }
    }

    fn framed(args: &[u8]) -> Vec<u8> {
        let header = Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 2,
            strikes: 0,
            attempts: 5,
            id: TaskId::from_bytes([7; 16]),
            enqueued_at: Timestamp::from_millis(1),
            expires_at: None,
        };
        let mut envelope = Envelope::new(TaskName::new("demo.fail").unwrap());
        envelope.headers.insert("tenant".into(), "acme".into());
        envelope
            .history
            .push(Failure::new(FailureKind::Error, "no"));
        frame::encode(header, &envelope, args, &FrameLimits::default()).unwrap()
    }

    #[test]
    fn a_readable_task_tells_everything() {
        let args =
            frame::encode_value(&serde_json::json!({ "id": 7, "on": [true, null] })).unwrap();
        let letter = letter_from(&dead(framed(&args)), &FrameLimits::default());
        assert_eq!(letter.task, Some(TaskName::new("demo.fail").unwrap()));
        assert_eq!(letter.args.as_deref(), Some(r#"{"id":7,"on":[true,null]}"#));
        assert_eq!(letter.headers["tenant"], "acme");
        assert_eq!((letter.attempts, letter.deliveries), (5, 2));
        assert_eq!(letter.failures[0].message, "no");
        assert_eq!(letter.note, "");
    }

    #[test]
    fn what_does_not_decode_is_kept_raw_with_a_note() {
        let garbage = letter_from(&dead(b"{\"a\":1}".to_vec()), &FrameLimits::default());
        assert_eq!(garbage.frame, b"{\"a\":1}");
        assert_eq!(
            (garbage.task, garbage.args, garbage.enqueued_at),
            (None, None, None)
        );
        assert_eq!(garbage.note, "a frame has at least 40 bytes, found 7");

        let broken = letter_from(&dead(framed(&[0x92, 0x01])), &FrameLimits::default());
        assert!(broken.task.is_some() && broken.args.is_none());
        assert!(
            broken.note.starts_with("the arguments do not decode"),
            "{}",
            broken.note
        );
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_letter(
            args in proptest::collection::vec(any::<u8>(), 0..300),
            junk in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            for frame in [framed(&args), junk] {
                let letter = letter_from(&dead(frame.clone()), &FrameLimits::default());
                prop_assert_eq!(&letter.frame, &frame);
                if let Some(args) = letter.args {
                    prop_assert!(args.len() <= MAX_ARGS + 64);
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&args).is_ok(), "{}", args);
                }
            }
        }
    }
}
