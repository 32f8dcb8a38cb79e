//! `celeriac dead stats`: how many dead letters there are, by what.

use celeriac_actors::ports::StatsRow;

use super::super::exit::{Exit, Failure};
use super::super::output;
use super::desk::Desk;
use super::filter::Filters;

/// How many lines of each kind are shown to people who do not say how many they want.
const SHOWN: u64 = 20;

pub(super) async fn run(desk: &Desk, filters: &Filters) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let stats = desk.stats(&filter).await?;
    if desk.session.json {
        output::json(&stats);
        return Ok(Exit::Ok);
    }
    output::line(&output::counted(stats.total, "dead letter"));
    let limit = usize::try_from(filters.limit.unwrap_or(SHOWN)).unwrap_or(usize::MAX);
    for (title, rows) in [
        ("QUEUE", &stats.by_queue),
        ("TASK", &stats.by_task),
        ("REASON", &stats.by_reason),
        ("STATUS", &stats.by_status),
        ("DAY", &stats.by_day),
    ] {
        if !rows.is_empty() {
            output::line(&block(title, rows, limit));
        }
    }
    Ok(Exit::Ok)
}

/// Returns one kind of count, its numbers first so that names of any length stay readable.
fn block(title: &str, rows: &[StatsRow], limit: usize) -> String {
    let width = rows.iter().map(|row| row.count.to_string().len());
    let width = width.max().unwrap_or(0).max("COUNT".len());
    let mut lines = vec![format!("\n{:>width$}  {title}", "COUNT")];
    let shown = rows.iter().take(limit);
    lines.extend(shown.map(|row| format!("{:>width$}  {}", row.count, output::plain(&row.key))));
    let hidden = rows.iter().skip(limit).map(|row| row.count).sum::<u64>();
    if hidden > 0 {
        lines.push(format!("{hidden:>width$}  (others; --limit N shows more)"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_counted() {
        let row = |key: &str, count| StatsRow {
            key: key.to_owned(),
            count,
        };
        let rows = [row("billing", 12), row("kyb", 3), row("default", 1)];
        assert_eq!(
            block("QUEUE", &rows, 1),
            "\nCOUNT  QUEUE\n   12  billing\n    4  (others; --limit N shows more)"
        );
    }
}
