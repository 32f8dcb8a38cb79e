//! What a child writes: lines of its standard output and error, logged as lines of the attempt it runs.
//!
//! A child that writes without end costs its pipe's buffer and a few kilobytes: lines are cut, those beyond a rate and a
//! total are counted and dropped, and the last ones are kept as evidence.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use celeriac_actors::ports::LAST_LINES;
use slog::{Logger, info, warn};
use tokio::time::Instant;

/// The longest line that is logged, in bytes.
const MAX_LINE: usize = 2_000;

/// The longest line that is kept as evidence, in bytes.
const MAX_LAST: usize = 500;

/// How many lines of an attempt are logged at once; as many again each [`REFILL`].
const BURST: u32 = 200;

/// How long it takes until a full burst may be logged again.
const REFILL: Duration = Duration::from_secs(2);

/// How many lines of an attempt are logged in all.
const MAX_LINES: u32 = 5_000;

/// The output of one child.
#[derive(Debug)]
pub(super) struct Output {
    state: Mutex<State>,
    /// Standard output and error, both not blocking.
    pipes: [OwnedFd; 2],
}

#[derive(Debug)]
struct State {
    lines: Lines,
    partial: [Vec<u8>; 2],
    ended: [bool; 2],
    buffer: Box<[u8]>,
}

/// Which of a child's outputs.
const NAMES: [&str; 2] = ["stdout", "stderr"];

impl Output {
    pub(super) fn new(pipes: [OwnedFd; 2]) -> Self {
        let state = State {
            lines: Lines::new(Instant::now()),
            partial: [const { Vec::new() }; 2],
            ended: [false; 2],
            buffer: vec![0; 16 << 10].into_boxed_slice(),
        };
        let state = Mutex::new(state);
        Self { state, pipes }
    }

    pub(super) fn pipe(&self, index: usize) -> &OwnedFd {
        &self.pipes[index]
    }

    /// Reads what is there of one pipe, a bounded part of it, by `read`; returns whether there may be more some time.
    pub(super) fn read(
        &self,
        index: usize,
        read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> bool {
        self.lock().read(index, 4, read)
    }

    /// Reads it directly.
    fn drain(&self, state: &mut State, index: usize, at_most: usize) {
        let pipe = &self.pipes[index];
        state.read(index, at_most, |buffer| Ok(rustix::io::read(pipe, buffer)?));
    }

    /// Says for whom lines are from here on.
    pub(super) fn begin(&self, log: Logger) {
        let mut state = self.lock();
        for index in 0..2 {
            // What was written between attempts is nobody's.
            self.drain(&mut state, index, 4);
        }
        state.lines = Lines::new(Instant::now());
        state.lines.log = Some(log);
    }

    /// Reads what an attempt wrote until its end; what comes later is nobody's. Returns its last lines.
    pub(super) fn finish(&self) -> Vec<String> {
        let mut state = self.lock();
        for (index, name) in NAMES.into_iter().enumerate() {
            self.drain(&mut state, index, 64);
            let partial = std::mem::take(&mut state.partial[index]);
            if !partial.is_empty() {
                state.lines.line(name, &partial);
            }
        }
        state.lines.close()
    }

    /// Logs a line that came another way, within the same bounds.
    pub(super) fn allows_a_line(&self) -> bool {
        self.lock().lines.allows()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Lines are taken one by one, so a poisoned state is still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(
        &mut self,
        index: usize,
        at_most: usize,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> bool {
        for _ in 0..at_most {
            if self.ended[index] {
                return false;
            }
            match read(&mut self.buffer) {
                Ok(0) => self.ended[index] = true,
                Ok(count) => self.take(index, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => self.ended[index] = true,
            }
        }
        !self.ended[index]
    }

    fn take(&mut self, index: usize, count: usize) {
        let partial = &mut self.partial[index];
        let mut pieces = self.buffer[..count].split(|byte| *byte == b'\n');
        // Of a line without end, only its beginning is kept.
        let extend = |partial: &mut Vec<u8>, piece: &[u8]| {
            let room = MAX_LINE.saturating_sub(partial.len());
            partial.extend_from_slice(&piece[..piece.len().min(room)]);
        };
        if let Some(first) = pieces.next() {
            extend(partial, first);
        }
        for piece in pieces {
            self.lines.line(NAMES[index], partial);
            partial.clear();
            extend(partial, piece);
        }
    }
}

/// The lines of one attempt.
#[derive(Debug)]
struct Lines {
    log: Option<Logger>,
    last: VecDeque<String>,
    tokens: u32,
    refilled: Instant,
    logged: u32,
    dropped: u64,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self {
            log: None,
            last: VecDeque::new(),
            tokens: BURST,
            refilled: now,
            logged: 0,
            dropped: 0,
        }
    }

    fn line(&mut self, stream: &'static str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches('\r');
        if text.is_empty() {
            return;
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        let kept = celeriac_actors::failure::cut(text.to_owned(), MAX_LAST);
        self.last.push_back(kept);
        if self.allows()
            && let Some(log) = &self.log
        {
            let text = celeriac_actors::failure::cut(text.to_owned(), MAX_LINE);
            info!(log, "task wrote"; "stream" => stream, "line" => text);
        }
    }

    /// Counts a line; returns whether it may be logged.
    fn allows(&mut self) -> bool {
        if self.tokens == 0 && self.refilled.elapsed() >= REFILL {
            self.tokens = BURST;
            self.refilled = Instant::now();
        }
        let allowed = self.tokens > 0 && self.logged < MAX_LINES;
        if allowed {
            self.tokens -= 1;
            self.logged += 1;
        } else {
            self.dropped += 1;
        }
        allowed
    }

    fn close(&mut self) -> Vec<String> {
        if let Some(log) = self.log.take()
            && self.dropped > 0
        {
            warn!(log, "task wrote more lines than are logged"; "dropped" => self.dropped);
        }
        self.dropped = 0;
        std::mem::take(&mut self.last).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pipes() -> (Output, [std::io::PipeWriter; 2]) {
        let ends = [(); 2].map(|()| std::io::pipe().unwrap());
        let [(a, wa), (b, wb)] = ends;
        let readers = [a, b].map(|reader| {
            let reader = OwnedFd::from(reader);
            rustix::io::ioctl_fionbio(&reader, true).unwrap();
            reader
        });
        (Output::new(readers), [wa, wb])
    }

    #[tokio::test]
    async fn the_last_lines_are_kept_and_no_line_without_end() {
        let (output, [mut out, mut err]) = pipes();
        output.begin(Logger::root(slog::Discard, slog::o!()));
        for number in 0..10 {
            writeln!(out, "line {number}").unwrap();
        }
        assert!(output.read(0, |buffer| Ok(rustix::io::read(output.pipe(0), buffer)?)));
        write!(err, "{}", "x".repeat(10_000)).unwrap();
        let last = output.finish();
        assert_eq!(last.len(), LAST_LINES);
        assert_eq!(last[LAST_LINES - 2], "line 9");
        assert!(last[LAST_LINES - 1].starts_with("xxx") && last[LAST_LINES - 1].len() <= MAX_LAST);
        drop(out);
        let gone = |buffer: &mut [u8]| Ok(rustix::io::read(output.pipe(0), buffer)?);
        assert!(!output.read(0, gone), "its writer is gone");
    }

    #[test]
    fn lines_beyond_the_rate_are_counted() {
        let mut lines = Lines::new(Instant::now());
        let allowed = (0..1_000).filter(|_| lines.allows()).count();
        assert_eq!(allowed, usize::try_from(BURST).unwrap());
        assert_eq!(lines.dropped, 1_000 - u64::from(BURST));
    }
}
