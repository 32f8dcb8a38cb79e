//! What commands print: results to standard output, complaints to standard error. A reader that has gone away is no
//! error: whoever pipes into `head` has seen enough.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a line to standard output.
pub(crate) fn line(text: &str) {
    // A closed pipe ends the output, not the command.
    let _gone = writeln!(io::stdout().lock(), "{text}");
}

/// Writes a value as one line of JSON to standard output.
pub(crate) fn json<T: Serialize>(value: &T) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => complain(&format!("celeriac: cannot be written as JSON: {error}")),
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(text: &str) {
    // Nobody is left to tell.
    let _gone = writeln!(io::stderr().lock(), "{text}");
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
