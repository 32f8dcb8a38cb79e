//! `celeriac dead discard`: somebody decides that dead tasks stay dead. Their letters are kept.

use celeriac_actors::ids::BurialId;
use celeriac_actors::ports::{DeadLetter, DeadLetters as _, DeadStatus, StoreError};

use super::super::exit::{Exit, Failure};
use super::super::session::Session;
use super::choice::Chosen;
use super::desk::Desk;
use super::filter::describe;
use super::tally::Tally;

pub(super) async fn run(desk: &Desk, chosen: Chosen) -> Result<Exit, Failure> {
    let mut tally = Tally::new("discarded", desk.session.json);
    let (target, ended) = match chosen {
        Chosen::Ids(wanted) => {
            let letters = desk.find_all(&wanted).await?;
            let ids: Vec<String> = letters.iter().map(|letter| letter.id.to_string()).collect();
            (ids.join(" "), discard_all(desk, &letters, &mut tally).await)
        }
        Chosen::Matching(filters) => {
            let mut filter = desk.filter(&filters).await?;
            if filter
                .status
                .is_some_and(|status| status != DeadStatus::New)
            {
                return Err(Failure::usage(
                    "only a dead letter that is new can be discarded; leave --status out",
                ));
            }
            filter.status = Some(DeadStatus::New);
            let target = describe(&filter);
            let mut pages = desk.pages(filter, filters.limit);
            let ended = loop {
                let letters = pages.next().await?;
                if letters.is_empty() {
                    break Ok(());
                }
                if let Err(failure) = discard_all(desk, &letters, &mut tally).await {
                    break Err(failure);
                }
            };
            (target, ended)
        }
    };
    if !tally.is_empty() {
        desk.record("dead.discard", target, tally.summary()).await?;
    }
    ended?;
    tally.end()
}

/// Discards letters in one step, then asks what became of those that were not new any more.
async fn discard_all(
    desk: &Desk,
    letters: &[DeadLetter],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let ids: Vec<BurialId> = letters.iter().map(|letter| letter.id).collect();
    let changed = Session::insist(|| desk.store.discard(&ids)).await?;
    if changed == ids.len() as u64 {
        ids.iter().for_each(|id| tally.done(*id, None));
        return Ok(());
    }
    for id in ids {
        match Session::insist(|| desk.store.show(id)).await {
            // Also one that was discarded before: what was asked for holds.
            Ok(letter) if letter.status == DeadStatus::Discarded => tally.done(id, None),
            Ok(letter) => {
                let status = letter.status;
                tally.failed(id, &StoreError::Status { id, status }.to_string());
            }
            Err(error @ StoreError::Missing(_)) => tally.failed(id, &error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
