//! `celeriac dead revive ID --args`: a dead task starts its new life with other arguments.

use celeriac_actors::registry::Registry;
use celeriac_actors::revival::{ReviveError, revive_with};
use serde_json::Value;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, plain};
use super::super::session::{Away as _, Session};
use super::super::values;
use super::choice::{Choice, Chosen};
use super::desk::Desk;
use super::tally::Tally;
use crate::admin::dead::Wanted;

/// Reads what was typed: one letter, and its arguments.
pub(super) fn check(choice: Choice, args: &str) -> Result<(Wanted, Value), Failure> {
    let one = "`--args` goes with the id of one dead letter";
    let wanted = match choice.check("revive")? {
        Chosen::Ids(ids) => <[Wanted; 1]>::try_from(ids).map_err(|_| Failure::usage(one))?,
        Chosen::Matching(_) => return Err(Failure::usage(one)),
    };
    let [wanted] = wanted;
    let args = values::parse(args)
        .map_err(|error| Failure::usage(format!("--args is no JSON: {}", plain(&error))))?;
    Ok((wanted, args))
}

pub(super) async fn run(
    desk: &Desk,
    wanted: Wanted,
    args: &Value,
    known: &Registry,
) -> Result<Exit, Failure> {
    let letter = desk.find(wanted, true).await?;
    let broker = desk.broker()?;
    let limits = desk.session.limits();
    let args = values::encode(args, &limits).map_err(|error| Failure::new(Exit::Usage, error))?;
    if let Some(task) = &letter.task
        && known.queue_of(task).is_none()
    {
        output::complain(&format!(
            "celeriac: `{task}` is not a task of this program; its arguments are not checked"
        ));
    }
    let at = (&*desk.store as _, broker);
    let revive = || revive_with(letter.id, &args, known, &limits, at);
    let mut tally = Tally::new("revived", desk.session.json);
    match Session::insist(revive).await {
        Ok(handle) => tally.done(letter.id, Some(handle.queue.as_str())),
        Err(error) if error.is_away() => return Err(Failure::unavailable(error)),
        Err(error @ ReviveError::Misfit { .. }) => return Err(Failure::new(Exit::Usage, error)),
        Err(error) => tally.failed(letter.id, &error.to_string()),
    }
    // Never the arguments themselves: they may be secret.
    let detail = format!("{}, with other arguments", tally.summary());
    desk.record("dead.revive", letter.id.to_string(), detail)
        .await?;
    tally.end()
}
