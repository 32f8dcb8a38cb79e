//! What commands print: results to standard output, complaints to standard error. A reader that has gone away is no
//! error: whoever pipes into `head` has seen enough.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::telemetry::escape;

/// Whether something that was to be read could not be written.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Whether whoever read the output has gone away.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. A closed pipe ends the output, not the command; a full disk is said once, and the
/// command ends with a failure.
pub(crate) fn line(text: &str) {
    let Err(error) = writeln!(io::stdout().lock(), "{text}") else {
        return;
    };
    if error.kind() == io::ErrorKind::BrokenPipe {
        CLOSED.store(true, Ordering::Relaxed);
    } else if !UNWRITTEN.swap(true, Ordering::Relaxed) {
        complain(&format!("celeriac: the output cannot be written: {error}"));
    }
}

/// Returns whether output was lost for another reason than a reader that went away.
pub(crate) fn is_unwritten() -> bool {
    UNWRITTEN.load(Ordering::Relaxed)
}

/// Returns whether whoever read the output has gone away.
pub(crate) fn is_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// Writes a value as one line of JSON to standard output.
pub(crate) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => {
            let mut safe = Vec::with_capacity(text.len());
            escape::push_json(&mut safe, &text);
            line(&String::from_utf8_lossy(&safe));
        }
        Err(error) => complain(&format!("celeriac: cannot be written as JSON: {error}")),
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell.
    let _gone = writeln!(io::stderr().lock(), "{text}");
}

/// Returns text of others as it may be shown on a terminal, on one line: control characters are named, not obeyed.
pub(crate) fn plain(text: &str) -> String {
    let mut safe = Vec::with_capacity(text.len());
    escape::push_plain(&mut safe, text);
    String::from_utf8_lossy(&safe).into_owned()
}

/// Returns the start of a text, at most `max` characters of it, with `…` where something is missing.
pub(crate) fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut start: String = text.chars().take(max.saturating_sub(1)).collect();
    start.push('…');
    start
}

/// Returns a count with its noun, such as `1 dead letter` or `2 dead letters`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns bytes in the largest unit that they fill.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => counted(bytes, "byte"),
    }
}

/// Asks on the terminal whether to go on; `None` when nobody is there to be asked.
pub(crate) fn confirm(question: &str) -> Option<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return None;
    }
    let _unseen = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Some(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Lays rows out in columns, each as wide as its widest cell; the last one is not padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let render = |cells: Vec<&str>| {
        let last = cells.len().saturating_sub(1);
        let padded = cells.iter().enumerate().map(|(at, cell)| {
            if at == last {
                (*cell).to_owned()
            } else {
                format!("{cell:<width$}", width = widths[at])
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = render(head.to_vec());
    let rows = rows
        .iter()
        .map(|row| render(row.iter().map(String::as_str).collect()));
    std::iter::once(head)
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(plain("a\x1b[2J\nü"), "a\\u{1b}[2J\\nü");
        assert_eq!(short("größer", 4), "grö…");
        assert_eq!(short("groß", 4), "groß");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        for (bytes, text) in [
            (1, "1 byte"),
            (1_023, "1023 bytes"),
            (1_536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(counted(0, "task"), "0 tasks");
    }
}
