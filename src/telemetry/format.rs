//! Formats: one record into one line, JSON for machines or text for people. The instant comes in as the record's tag.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Drain, FnValue, Level, OwnedKVList, PushFnValue, Record, o};
use slog_term::{Decorator, FullFormat, RecordDecorator, ThreadSafeTimestampFn};

use super::escape;

/// A format: a drain that leaves its line in the buffer it was made with.
pub(super) type Format = Box<dyn Drain<Ok = (), Err = io::Error> + Send>;

/// The line in the making, shared between a format, which fills it, and the writer, which empties it.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Vec<u8>>>);

impl Line {
    /// Returns what was written since the last time.
    pub(super) fn take(&self) -> Vec<u8> {
        self.with(std::mem::take)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|line| line.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes lines of JSON: `ts`, `level` and `msg` first, then the record's keys.
pub(super) fn json(line: &Line) -> Format {
    let format = slog_json::Json::new(line.clone())
        .set_newlines(false)
        // One call each: the pairs of one `o!` come out in reverse.
        .add_key_value(o!("ts" => FnValue(|record: &Record| record.tag().to_owned())))
        .add_key_value(o!("level" => FnValue(|record: &Record| word(record.level()))))
        .add_key_value(
            o!("msg" => PushFnValue(|record: &Record, serializer| serializer.emit(record.msg()))),
        )
        .build();
    Box::new(Closed {
        format,
        line: line.clone(),
    })
}

/// Returns the level as it is written in the configuration.
fn word(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

/// Escapes what JSON lets pass, and ends the line.
struct Closed<D> {
    format: D,
    line: Line,
}

impl<D: Drain<Ok = (), Err = io::Error>> Drain for Closed<D> {
    type Ok = ();
    type Err = io::Error;

    fn log(&self, record: &Record, values: &OwnedKVList) -> io::Result<()> {
        self.format.log(record, values)?;
        let json = self.line.take();
        self.line.with(|line| {
            escape::push_json(line, &String::from_utf8_lossy(&json));
            line.push(b'\n');
        });
        Ok(())
    }
}

/// Makes lines for people, in colour when asked.
pub(super) fn term(line: &Line, color: bool) -> Format {
    let paint = Paint {
        line: line.clone(),
        color,
    };
    Box::new(
        FullFormat::new(paint)
            .use_custom_header_print(header)
            .build(),
    )
}

fn header(
    _: &dyn ThreadSafeTimestampFn<Output = io::Result<()>>,
    line: &mut dyn RecordDecorator,
    record: &Record,
    _: bool,
) -> io::Result<bool> {
    line.start_timestamp()?;
    write!(line, "{} ", record.tag())?;
    line.start_level()?;
    write!(line, "{:<8}", word(record.level()))?;
    line.start_whitespace()?;
    write!(line, " ")?;
    line.start_msg()?;
    write!(line, "{}", record.msg())?;
    Ok(true)
}

/// Gives `slog-term` the line to write to, and escapes everything that comes from a record.
struct Paint {
    line: Line,
    color: bool,
}

impl Decorator for Paint {
    fn with_record<F>(&self, record: &Record, _: &OwnedKVList, f: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        // Into a buffer of its own: a value that panics must not leave half a line behind.
        let mut painted = Painted {
            bytes: Vec::new(),
            level: record.level(),
            color: self.color,
            ours: true,
        };
        f(&mut painted)?;
        self.line.with(|line| line.append(&mut painted.bytes));
        Ok(())
    }
}

struct Painted {
    bytes: Vec<u8>,
    level: Level,
    color: bool,
    /// Whether the next text is punctuation of the format itself, which may end the line.
    ours: bool,
}

impl Painted {
    fn style(&mut self, code: &str, ours: bool) -> io::Result<()> {
        if self.color {
            write!(self.bytes, "\x1b[{code}m")?;
        }
        self.ours = ours;
        Ok(())
    }
}

impl Write for Painted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.ours {
            self.bytes.extend_from_slice(bytes);
        } else {
            escape::push_plain(&mut self.bytes, &String::from_utf8_lossy(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RecordDecorator for Painted {
    fn reset(&mut self) -> io::Result<()> {
        self.style("0", false)
    }

    fn start_whitespace(&mut self) -> io::Result<()> {
        self.style("0", true)
    }

    fn start_timestamp(&mut self) -> io::Result<()> {
        self.style("2", false)
    }

    fn start_level(&mut self) -> io::Result<()> {
        let code = match self.level {
            Level::Critical | Level::Error => "31",
            Level::Warning => "33",
            Level::Info => "32",
            Level::Debug | Level::Trace => "36",
        };
        self.reset()?;
        self.style(code, false)
    }

    fn start_key(&mut self) -> io::Result<()> {
        self.style("2", false)
    }
}
