//! What commands print: results to standard output, complaints to standard error. A reader that has gone away is no
//! error: whoever pipes into `head` has seen enough.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

pub(crate) use crate::admin::text::{counted, plain, short, size};
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
