//! Places: byte offsets of a text as lines and columns.

use serde::Serialize;

/// A place in a text, both counted from one; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
}

/// The places of one text, counted once: a file of many keys is asked for each of them.
pub(super) struct Places {
    /// The byte offsets at which lines start.
    lines: Vec<usize>,
    /// The number of characters that start before each byte offset, the end included.
    characters: Vec<usize>,
}

impl Places {
    /// Counts the places of `text`.
    pub(super) fn of(text: &str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let mut characters = Vec::with_capacity(text.len() + 1);
        let mut count = 0;
        for offset in 0..text.len() {
            characters.push(count);
            count += usize::from(text.is_char_boundary(offset));
        }
        characters.push(count);
        Self {
            lines: std::iter::once(0).chain(ends).collect(),
            characters,
        }
    }

    /// Returns the place of byte `offset`; the end of the text when it lies behind it.
    pub(super) fn at(&self, offset: usize) -> Position {
        let offset = offset.min(self.characters.len() - 1);
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.lines[line - 1];
        Position {
            line,
            column: self.characters[offset] - self.characters[start] + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters() {
        let places = Places::of("a = 1\nö = ü\n");
        let at = |offset| (places.at(offset).line, places.at(offset).column);
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(6), (2, 1));
        assert_eq!(at(11), (2, 5));
        assert_eq!(at(999), (3, 1));
        assert_eq!(Places::of("").at(0), Position { line: 1, column: 1 });
    }
}
