//! The end of what a program writes: as much of it as is worth keeping, however much there is.

use std::collections::VecDeque;

/// How many bytes are kept.
const KEPT: usize = 4 << 10;

/// The longest line that is told, in bytes.
const MAX_LINE: usize = 500;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(KEPT)..];
        let over = (self.bytes.len() + new.len()).saturating_sub(KEPT);
        self.bytes.drain(..over);
        self.bytes.extend(new);
    }

    /// Returns the last `count` lines, oldest first.
    pub(super) fn lines(&self, count: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        let last = &lines[lines.len().saturating_sub(count)..];
        let cut = |line: &&str| celeriac_actors::failure::cut((*line).to_owned(), MAX_LINE);
        last.iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_there_and_no_more_than_is_kept() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n").as_bytes());
        }
        assert_eq!(tail.lines(2), ["line 99998", "line 99999"]);
        assert!(tail.bytes.len() <= KEPT);
        tail.push(&[b'x'; 3 * KEPT]);
        assert_eq!(tail.bytes.len(), KEPT);
        assert!(tail.lines(5)[0].len() <= MAX_LINE);
    }
}
