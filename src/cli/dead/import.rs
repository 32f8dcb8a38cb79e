//! `celeriac dead import`: takes what `dead export` wrote. Letters that are there already are left as they are.

use std::path::Path;

use celeriac_actors::ports::{DeadLetter, DeadLetters as _};
use serde_json::json;
use tokio::sync::mpsc;

use super::super::enqueue::{lines, open};
use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted, plain};
use super::super::session::Session;
use super::desk::Desk;
use crate::store::{LetterBatch, LetterLine};

/// The longest line: a letter with the largest frame there is, and its edited one.
const MAX_LINE: usize = 256 << 20;
/// How many pieces of the input may be read ahead.
const AHEAD: usize = 4;

/// What became of the lines.
#[derive(Default)]
struct Tally {
    added: u64,
    known: u64,
    bad: u64,
}

pub(super) async fn run(desk: &Desk, from: &Path) -> Result<Exit, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("{} cannot be read: {error}", from.display()))
    };
    let input = open(from).map_err(unreadable)?;
    let (lines, mut come) = mpsc::channel(AHEAD);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || lines::feed(input, MAX_LINE, &lines))
        .map_err(unreadable)?;
    let (mut tally, mut batch) = (Tally::default(), LetterBatch::default());
    let mut ended = Ok(());
    'input: while let Some(chunk) = come.recv().await {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                ended = Err(unreadable(error));
                break;
            }
        };
        for (number, line) in chunk {
            let line = line.map_err(|error| error.to_string());
            let letter = line.and_then(|line| LetterLine::parse(&line).map_err(|e| e.to_string()));
            let full = match letter {
                Ok(letter) => letter.and_then(|letter| batch.push(letter)),
                Err(error) => {
                    tally.bad += 1;
                    complain(desk.session.json, number, &error);
                    None
                }
            };
            if let Some(full) = full
                && let Err(failure) = store(desk, full, &mut tally).await
            {
                ended = Err(failure);
                break 'input;
            }
        }
    }
    if ended.is_ok() {
        ended = store(desk, batch.take(), &mut tally).await;
    }
    conclude(desk, from, &tally, ended).await
}

async fn store(desk: &Desk, letters: Vec<DeadLetter>, tally: &mut Tally) -> Result<(), Failure> {
    if letters.is_empty() {
        return Ok(());
    }
    let added = Session::insist(|| desk.store.insert(letters.clone())).await?;
    tally.added += added;
    tally.known += (letters.len() as u64).saturating_sub(added);
    Ok(())
}

/// Records and says what became of the lines: 64 when some were no letters, as for `enqueue --jsonl`.
async fn conclude(
    desk: &Desk,
    from: &Path,
    tally: &Tally,
    ended: Result<(), Failure>,
) -> Result<Exit, Failure> {
    let Tally { added, known, bad } = tally;
    let summary = format!(
        "imported {}, {known} were there already, {}",
        counted(*added, "dead letter"),
        counted(*bad, "bad line")
    );
    if *added > 0 {
        desk.record("dead.import", from.display().to_string(), summary.clone())
            .await?;
    }
    if desk.session.json {
        output::json(&json!({ "imported": added, "already_there": known, "bad_lines": bad }));
    } else {
        output::line(&summary);
    }
    ended?;
    Ok(if *bad > 0 { Exit::Usage } else { Exit::Ok })
}

fn complain(json: bool, number: u64, error: &str) {
    if json {
        output::complain(&json!({ "line": number, "error": error }).to_string());
    } else {
        output::complain(&format!("line {number}: {}", plain(error)));
    }
}
