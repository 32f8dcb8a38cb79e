//! Frames of every version ever written, kept as files: they must be readable for ever.
//!
//! A change that makes one of these fail needs a new version and a reader for the old one, never a new sample.

use std::time::Duration;

use celeriac::failure::{Failure, FailureKind};
use celeriac::frame::{FrameLimits, decode_value, encode, encode_value, open};
use celeriac::ids::{TaskId, TaskName};
use celeriac::time::Timestamp;
use celeriac_actors::envelope::{Envelope, Overrides};
use celeriac_actors::header::{Header, Priority};
use serde_json::{Value, json};

const PLAIN: &[u8] = include_bytes!("golden/v1-plain.frame");
const COMPRESSED: &[u8] = include_bytes!("golden/v1-compressed.frame");
const HISTORY: &[u8] = include_bytes!("golden/v1-history.frame");

/// The plainest frame there is.
fn plain() -> (Header, Envelope, Value) {
    let header = Header {
        compressed: false,
        want_outcome: false,
        priority: Priority::NORMAL,
        deliveries: 0,
        strikes: 0,
        attempts: 0,
        id: TaskId::from_bytes([0x42; 16]),
        enqueued_at: Timestamp::from_millis(1_767_225_600_000),
        expires_at: None,
    };
    let envelope = Envelope::new(TaskName::new("billing.process_subscription").unwrap());
    (
        header,
        envelope,
        json!({ "subscription_id": "sub-42", "cents": 900 }),
    )
}

/// One whose body is worth compressing.
fn compressed() -> (Header, Envelope, Value) {
    let (header, envelope, _) = plain();
    let header = Header {
        compressed: true,
        want_outcome: true,
        ..header
    };
    (header, envelope, json!({ "text": "celeriac ".repeat(500) }))
}

/// One that uses every field.
fn history() -> (Header, Envelope, Value) {
    let (header, envelope, args) = plain();
    let header = Header {
        priority: Priority::HIGHEST,
        deliveries: 3,
        strikes: 1,
        attempts: 2,
        expires_at: Some(Timestamp::from_millis(1_767_312_000_000)),
        ..header
    };
    let failure = Failure::new(FailureKind::Panic, "broken glass")
        .with_causes(["a stone".to_owned()])
        .with_place(
            Some("src/glass.rs:7:9".to_owned()),
            Some("0: glass".to_owned()),
        )
        .of(
            2,
            "host:1:00000000",
            Timestamp::from_millis(1_767_225_601_000),
            Duration::from_millis(1_500),
        );
    let envelope = Envelope {
        overrides: Overrides {
            soft_limit_ms: Some(1_000),
            hard_limit_ms: Some(2_000),
            max_attempts: Some(7),
            result_ttl_ms: Some(60_000),
            ..Overrides::default()
        },
        headers: [("trace".to_owned(), "abc".to_owned())].into(),
        history: vec![failure],
        revival: 1,
        snoozes: 0,
        unknown_since: Some(Timestamp::from_millis(1_767_225_602_000)),
        ..envelope
    };
    (header, envelope, args)
}

#[test]
fn samples_of_version_1_are_read_as_they_were_meant() {
    let limits = FrameLimits::default();
    for (bytes, (header, envelope, args)) in [
        (PLAIN, plain()),
        (COMPRESSED, compressed()),
        (HISTORY, history()),
    ] {
        assert_eq!(Header::read(bytes).unwrap(), header);
        let opened = open(&header, bytes, &limits).unwrap();
        assert_eq!(opened.envelope, envelope);
        assert_eq!(decode_value::<Value>(opened.args(), &limits).unwrap(), args);
    }
}

/// What is written today is what was written when the samples were made; compression may differ between releases of zstd.
#[test]
fn version_1_is_still_written_the_same() {
    for (bytes, (header, envelope, args)) in [(PLAIN, plain()), (HISTORY, history())] {
        let args = encode_value(&args).unwrap();
        let written = encode(header, &envelope, &args, &FrameLimits::default()).unwrap();
        assert!(written == bytes, "the frame of {:?} changed", envelope.task);
    }
}
