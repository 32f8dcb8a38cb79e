//! `celeriac dead list`: the newest dead letters, one a line.

use celeriac_actors::ports::DeadLetter;

use super::super::exit::{Exit, Failure};
use super::super::{output, when};
use super::desk::Desk;
use super::filter::Filters;
use crate::admin::letter::Brief;

/// How many letters are shown to people who do not say how many they want.
const SHOWN: u64 = 50;
/// How much of a message fits beside the rest.
const MESSAGE: usize = 72;

const HEAD: [&str; 8] = [
    "ID", "BURIED", "QUEUE", "TASK", "REASON", "STATUS", "ATTEMPTS", "MESSAGE",
];

pub(super) async fn run(desk: &Desk, filters: &Filters) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let json = desk.session.json;
    let limit = filters.limit.or((!json).then_some(SHOWN));
    let mut pages = desk.pages(filter, limit);
    let mut shown = 0;
    loop {
        let letters = pages.next().await?;
        if letters.is_empty() {
            break;
        }
        if json {
            letters
                .iter()
                .for_each(|letter| output::json(&Brief::of(letter)));
        } else {
            print(&letters, shown == 0);
        }
        shown += letters.len() as u64;
    }
    if shown == 0 && !json {
        output::complain("no dead letters");
    } else if pages.has_more() && !json {
        output::complain(&format!("the newest {shown}; --limit N shows more"));
    }
    Ok(Exit::Ok)
}

fn print(letters: &[DeadLetter], with_head: bool) {
    let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
    let table = output::table(&HEAD, &rows);
    let body = match with_head {
        true => &table[..],
        false => table.split_once('\n').map_or("", |(_, rows)| rows),
    };
    output::line(body);
}

fn row(letter: &DeadLetter) -> Vec<String> {
    let task = letter.task.as_ref();
    vec![
        letter.id.to_string(),
        when::to_the_second(letter.buried_at),
        letter.queue.to_string(),
        task.map_or_else(|| "?".to_owned(), ToString::to_string),
        letter.reason.to_string(),
        letter.status.to_string(),
        letter.attempts.to_string(),
        output::plain(&output::short(letter.message(), MESSAGE)),
    ]
}
