//! `celeriac dead show`: one dead letter, with everything that is known of it.

use celeriac_actors::failure::Failure as Failed;
use celeriac_actors::frame::FrameLimits;
use celeriac_actors::letters::edited_args;
use celeriac_actors::ports::DeadLetter;
use celeriac_actors::time::Timestamp;
use serde_json::Value;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted, plain, size};
use super::super::text;
use super::desk::Desk;
use crate::admin::dead::Wanted;
use crate::admin::letter::{Full, HEX_HEAD, args, parsed};

pub(super) async fn run(desk: &Desk, wanted: Wanted) -> Result<Exit, Failure> {
    let letter = desk.find(wanted, false).await?;
    let limits = desk.session.limits();
    if desk.session.json {
        output::json(&Full::of(&letter, &limits));
    } else {
        output::line(&render(&letter, desk.now, &limits).join("\n"));
    }
    Ok(Exit::Ok)
}

/// Returns the letter as lines for people.
fn render(letter: &DeadLetter, now: Timestamp, limits: &FrameLimits) -> Vec<String> {
    let mut lines = vec![format!("dead letter {}", letter.id)];
    lines.extend(facts(letter, now));
    if !letter.headers.is_empty() {
        lines.push("headers".to_owned());
        let headers = letter.headers.iter();
        lines.extend(headers.map(|(key, value)| format!("  {} = {}", plain(key), plain(value))));
    }
    match args(letter) {
        Some(args) => lines.extend(block("arguments", &args)),
        None => {
            lines.push("arguments cannot be decoded; the stored bytes begin with".to_owned());
            lines.extend(dump(&letter.frame));
        }
    }
    if let Some(args) = edited_args(letter, limits) {
        lines.extend(block("arguments of its revival", &parsed(&args)));
    }
    if !letter.failures.is_empty() {
        lines.push("failed attempts".to_owned());
        lines.extend(letter.failures.iter().flat_map(attempt));
    }
    for failed in &letter.failures {
        if let Some(backtrace) = &failed.backtrace {
            lines.push(format!("backtrace of attempt {}", failed.attempt));
            lines.extend(backtrace.lines().map(|line| format!("  {}", plain(line))));
        }
    }
    lines
}

/// Returns a value under its title.
fn block(title: &str, value: &Value) -> Vec<String> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let lines = text.lines().map(|line| format!("  {}", plain(line)));
    std::iter::once(title.to_owned()).chain(lines).collect()
}

/// Returns what has one value each.
fn facts(letter: &DeadLetter, now: Timestamp) -> Vec<String> {
    let at = |at: Timestamp| format!("{at} ({})", text::when(at, now));
    let task = letter.task.as_ref();
    let rescued = match letter.deliveries {
        0 => String::new(),
        times => format!(", rescued {}", counted(times.into(), "time")),
    };
    let facts = [
        ("queue", letter.queue.to_string()),
        (
            "task",
            task.map_or_else(
                || "? (its bytes do not tell)".to_owned(),
                ToString::to_string,
            ),
        ),
        ("reason", letter.reason.to_string()),
        ("note", plain(&letter.note)),
        ("status", letter.status.to_string()),
        ("buried", at(letter.buried_at)),
        ("enqueued", letter.enqueued_at.map(at).unwrap_or_default()),
        ("worker", plain(&letter.worker)),
        ("attempts", format!("{}{rescued}", letter.attempts)),
        ("revivals", letter.revivals.to_string()),
        ("stored", size(letter.frame.len() as u64)),
    ];
    let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(key, value)| format!("  {key:<9} {value}"))
        .collect()
}

/// Returns one failed attempt: when, where, for how long, and what it said.
fn attempt(failed: &Failed) -> Vec<String> {
    let mut lines = vec![
        format!(
            "  {}  {}  {}  after {}  {}",
            failed.attempt,
            failed.at,
            plain(&failed.worker),
            humantime::format_duration(failed.elapsed),
            failed.kind.as_str()
        ),
        format!("     {}", plain(&failed.message)),
    ];
    let causes = failed.causes.iter();
    lines.extend(causes.map(|cause| format!("     caused by: {}", plain(cause))));
    let location = failed.location.iter();
    lines.extend(location.map(|location| format!("     at {}", plain(location))));
    lines
}

/// Returns the first bytes, sixteen a line, with the characters that they may be.
fn dump(bytes: &[u8]) -> Vec<String> {
    let rows = bytes[..bytes.len().min(HEX_HEAD)].chunks(16).enumerate();
    let mut lines: Vec<String> = rows
        .map(|(at, row)| {
            let digits: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            let shown = |byte: &u8| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '.',
            };
            let text: String = row.iter().map(shown).collect();
            format!("  {:04x}  {:<47}  {text}", at * 16, digits.join(" "))
        })
        .collect();
    let more = bytes.len().saturating_sub(HEX_HEAD);
    if more > 0 {
        lines.push(format!("  and {} more", counted(more as u64, "byte")));
    }
    if lines.is_empty() {
        lines.push("  (nothing)".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_dumped_sixteen_a_line_with_what_follows() {
        let lines = dump(&[b"{\"a\":1}\x00\xff\x1b".to_vec(), vec![0; 300]].concat());
        assert_eq!(
            lines[0],
            "  0000  7b 22 61 22 3a 31 7d 00 ff 1b 00 00 00 00 00 00  {\"a\":1}........."
        );
        assert_eq!(lines.len(), 17);
        assert_eq!(lines[16], "  and 54 bytes more");
        assert_eq!(dump(&[]), ["  (nothing)"]);
    }
}
