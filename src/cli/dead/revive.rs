//! `celeriac dead revive`: dead tasks start a new life, each in three steps that may be repeated.

use celeriac_actors::ports::{DeadLetter, DeadStatus};

use super::super::exit::{Exit, Failure};
use super::choice::Chosen;
use super::desk::Desk;
use super::tally::Tally;
use crate::admin::dead::describe;

pub(super) async fn run(desk: &Desk, chosen: Chosen) -> Result<Exit, Failure> {
    let mut tally = Tally::new("revived", desk.session.json);
    let (target, ended) = match chosen {
        Chosen::Ids(wanted) => {
            let letters = desk.find_all(&wanted).await?;
            let ids: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
            (ids.join(" "), revive_all(desk, &letters, &mut tally).await)
        }
        Chosen::Matching(filters) => {
            let mut filter = desk.filter(&filters).await?;
            filter.status = Some(filter.status.unwrap_or(DeadStatus::New));
            refuse_final(filter.status)?;
            let target = describe(&filter);
            let mut pages = desk.pages(filter, filters.limit);
            let ended = loop {
                let letters = pages.next().await?;
                if letters.is_empty() {
                    break Ok(());
                }
                if let Err(failure) = revive_all(desk, &letters, &mut tally).await {
                    break Err(failure);
                }
            };
            (target, ended)
        }
    };
    if !tally.is_empty() {
        desk.record("dead.revive", target, tally.summary()).await?;
    }
    ended?;
    tally.end()
}

/// Revives letters one by one; ends early only when the broker or the store is away.
async fn revive_all(desk: &Desk, letters: &[DeadLetter], tally: &mut Tally) -> Result<(), Failure> {
    let done = desk
        .revive(letters, &mut |id, became| tally.note(id, became))
        .await;
    done.map_err(|failure| {
        Failure::new(
            failure.exit(),
            anyhow::anyhow!("gave up after {}: {failure}", tally.summary()),
        )
    })
}

/// What was revived or discarded is decided: its letters only fail one by one.
fn refuse_final(status: Option<DeadStatus>) -> Result<(), Failure> {
    match status {
        Some(status @ (DeadStatus::Revived | DeadStatus::Discarded)) => {
            Err(Failure::usage(format!(
                "a dead letter that is {status} cannot be revived; use --status new or reviving"
            )))
        }
        _ => Ok(()),
    }
}
