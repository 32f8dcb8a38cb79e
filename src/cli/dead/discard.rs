//! `celeriac dead discard`: somebody decides that dead tasks stay dead. Their letters are kept.

use celeriac_actors::ports::{DeadLetter, DeadStatus};

use super::super::exit::{Exit, Failure};
use super::choice::Chosen;
use super::desk::Desk;
use super::tally::Tally;
use crate::admin::dead::describe;

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

/// Discards letters and notes what became of each.
async fn discard_all(
    desk: &Desk,
    letters: &[DeadLetter],
    tally: &mut Tally,
) -> Result<(), Failure> {
    desk.discard(letters, &mut |id, became| tally.note(id, became))
        .await
}
