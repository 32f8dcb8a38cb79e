//! Lines of an input of any length: split, numbered, bounded, and read as orders. Pure but for [`feed`].

use std::io::{self, ErrorKind, Read};

use tokio::sync::mpsc;

use super::super::text::brief;
use crate::admin::enqueue::order::Order;

/// How much is read from the input at once.
const CHUNK: usize = 64 << 10;

/// A line with its number, counted from 1; without its line break.
pub(in super::super) type Numbered = (u64, Result<Vec<u8>, TooLong>);

/// A line has more bytes than allowed; the rest of it is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the line has more than {0} bytes")]
pub(in super::super) struct TooLong(usize);

/// Cuts what comes in into lines. Holds at most one line, and of that at most `max` bytes.
#[derive(Debug)]
pub(super) struct Splitter {
    max: usize,
    number: u64,
    part: Vec<u8>,
    /// Whether the line under way was too long and is being skipped.
    skipping: bool,
}

impl Splitter {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            number: 0,
            part: Vec::new(),
            skipping: false,
        }
    }

    /// Takes the next bytes; returns the lines that end in them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Numbered> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = self.max.saturating_sub(self.part.len());
            if piece.len() > room {
                self.skipping = true;
                self.part = Vec::new();
            }
            if !self.skipping {
                self.part.extend_from_slice(piece);
            }
            if pieces.peek().is_some() {
                lines.push(self.end());
            }
        }
        lines
    }

    /// Returns the last line, when the input does not end with a line break.
    pub(super) fn finish(&mut self) -> Option<Numbered> {
        (self.skipping || !self.part.is_empty()).then(|| self.end())
    }

    fn end(&mut self) -> Numbered {
        self.number += 1;
        let line = std::mem::take(&mut self.part);
        let too_long = std::mem::take(&mut self.skipping);
        let line = if too_long {
            Err(TooLong(self.max))
        } else {
            Ok(line)
        };
        (self.number, line)
    }
}

/// Reads an input to its end and hands its lines over as they come; ends early when nobody takes them.
pub(in super::super) fn feed(
    mut input: impl Read,
    max: usize,
    lines: &mpsc::Sender<io::Result<Vec<Numbered>>>,
) {
    let mut splitter = Splitter::new(max);
    let mut buffer = vec![0; CHUNK];
    loop {
        let (read, is_over) = match input.read(&mut buffer) {
            Ok(0) => (Ok(splitter.finish().into_iter().collect()), true),
            Ok(count) => (Ok(splitter.push(&buffer[..count])), false),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => (Err(error), true),
        };
        if lines.blocking_send(read).is_err() || is_over {
            return;
        }
    }
}

/// Reads one line; `None` when it is blank.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn parse(line: &[u8]) -> Result<Option<Order>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("no UTF-8 at byte {}", error.valid_up_to() + 1))?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return Err(format!(
            "`{}` is no object such as {{\"task\": \"demo.echo\", \"args\": {{\"value\": 1}}}}",
            brief(text, 30)
        ));
    }
    Order::read(text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::enqueue::asks::Asks;
    use celeriac_actors::header::Priority;
    use celeriac_actors::ports::When;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn a_line_says_everything() {
        let line = br#" {"task":"a.b","args":{"x":1},"queue":"q","countdown":"2s","priority":9,
            "id":"018f0000-0000-7000-8000-000000000001"} "#;
        let order = parse(line).unwrap().unwrap();
        assert_eq!(
            (order.task.as_str(), order.queue.as_deref()),
            ("a.b", Some("q"))
        );
        assert_eq!(order.args, Some(json!({ "x": 1 })));
        assert_eq!(order.asks, Asks::default());
        assert_eq!(order.when, Some(When::After(Duration::from_secs(2))));
        assert_eq!(
            (order.priority, order.id.is_some()),
            (Priority::HIGHEST, true)
        );

        let line = br#"{"task":"a","expires":"1h","retry_until":"2026-01-31T12:00:00Z","soft_limit":"1m 500ms",
            "hard_limit":"2m","max_attempts":3,"headers":{"tenant":"7"}}"#;
        let asks = parse(line).unwrap().unwrap().asks;
        assert_eq!(asks.expires, Some(When::After(Duration::from_secs(3_600))));
        assert!(matches!(asks.retry_until, Some(When::At(_))));
        let limits = (asks.soft_limit, asks.hard_limit);
        let expected = [60_500, 120_000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(limits, expected.into());
        assert_eq!(asks.max_attempts, Some(3));
        assert_eq!(asks.headers["tenant"], "7");

        let nothing = parse(br#"{"task":"a","args":null}"#).unwrap().unwrap();
        assert_eq!(nothing.args, Some(json!(null)));
        assert_eq!(parse(br#"{"task":"a"}"#).unwrap().unwrap().args, None);
        assert!(parse(b" \r").unwrap().is_none());
    }

    #[test]
    fn mistakes_are_named() {
        for (line, said) in [
            (&b"{"[..], "EOF while parsing"),
            (b"[]", "`[]` is no object such as {\"task\""),
            (br#"["a.b",1,null,null,null,null,5]"#, "is no object"),
            (b"7", "`7` is no object"),
            (br#"{"args":1}"#, "missing field `task`"),
            (
                br#"{"task":"a","quee":"x"}"#,
                "unknown field `quee`, expected one of",
            ),
            (br#"{"task":"a","task":"b"}"#, "duplicate field `task`"),
            (
                br#"{"task":"a","args":{"k":1,"k":2}}"#,
                "`k` is given twice",
            ),
            (
                br#"{"task":"a","args":99999999999999999999}"#,
                "more than 64 bits",
            ),
            (
                br#"{"task":"a","priority":10}"#,
                "a priority is 0 (last) to 9",
            ),
            (br#"{"task":"a","id":"7"}"#, "invalid"),
            (br#"{"task":"a","eta":"x"}"#, "eta `x`"),
            (br#"{"task":"a","expires":"x"}"#, "expires `x`"),
            (br#"{"task":"a","soft_limit":"5"}"#, "soft_limit `5`"),
            (br#"{"task":"a","mode":"alone"}"#, "mode `alone`: a mode is"),
            (br#"{"task":"a","max_attempts":70000}"#, "expected u16"),
            (
                br#"{"task":"a","headers":{"k":1}}"#,
                "invalid type: integer `1`, expected a string",
            ),
            (b"{\"task\":\"\xff\"}", "no UTF-8 at byte 10"),
            (br#"{"task":"a"} x"#, "trailing characters (column 14)"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_costs_only_itself() {
        let mut splitter = Splitter::new(4);
        let lines = splitter.push(b"abcd\nabcde\n\nx");
        let expected = [
            (1, Ok(b"abcd".to_vec())),
            (2, Err(TooLong(4))),
            (3, Ok(Vec::new())),
        ];
        assert_eq!(lines, expected);
        assert_eq!(splitter.push(b"yz12"), []);
        assert!(splitter.part.is_empty());
        assert_eq!(splitter.finish(), Some((4, Err(TooLong(4)))));
        assert_eq!(splitter.finish(), None);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_they_come(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(1_usize..20, 0..60),
            max in 0_usize..12,
        ) {
            let mut whole = Splitter::new(max);
            let mut expected = whole.push(&text);
            expected.extend(whole.finish());

            let mut splitter = Splitter::new(max);
            let mut lines = Vec::new();
            let mut rest = &text[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                lines.extend(splitter.push(now));
                prop_assert!(splitter.part.len() <= max);
                rest = later;
            }
            lines.extend(splitter.push(rest));
            lines.extend(splitter.finish());
            prop_assert_eq!(lines, expected);
        }

        #[test]
        fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            drop(parse(&line));
        }
    }
}
