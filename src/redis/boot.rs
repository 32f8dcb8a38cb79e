//! What is checked before a broker is used: is every server fit to keep tasks, and how well does it keep them?

mod facts;
mod judge;
mod schema;

use celeriac_actors::ports::Durability;

use self::facts::Facts;
use self::judge::Judgement;
use super::acl;
use super::fault::{Class, Fault};
use super::generation::Generation;
use super::link::Links;
use super::options::{OpenError, RedisOptions};
use super::url::Place;

/// What a broker starts with.
#[derive(Debug)]
pub(super) struct Boot {
    /// What an acknowledged task is worth: that of the weakest server.
    pub(super) durability: Durability,
    /// Whether one of them throws tasks away when its memory is full.
    pub(super) evicts: bool,
    /// The version of the oldest server.
    pub(super) version: String,
    /// What somebody should look at.
    pub(super) warnings: Vec<String>,
    /// By which wiped data is noticed.
    pub(super) generation: Generation,
}

/// What was found at the servers of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exam {
    /// Every server that takes writes.
    pub servers: Vec<ServerExam>,
    /// What the user may not do although a broker has to, one command each; `None` where the server does not tell.
    pub denied: Option<Vec<String>>,
}

/// What was found at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerExam {
    /// Where it is.
    pub node: String,
    /// Its version.
    pub version: String,
    /// What an acknowledged task is worth there.
    pub durability: Durability,
    /// What keeps a broker from being opened.
    pub refusals: Vec<String>,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Checks every server; the first one that is unfit is the error.
pub(super) async fn check(links: &Links, options: &RedisOptions) -> Result<Boot, OpenError> {
    let mut warnings = Vec::new();
    let (mut durability, mut evicts) = (Durability::PowerSafe, false);
    let mut oldest: Option<Facts> = None;
    for (facts, judgement) in survey(links, options).await? {
        if let Some(refusal) = judgement.refusals.into_iter().next() {
            return Err(refusal);
        }
        warnings.extend(judgement.warnings);
        durability = durability.min(judgement.durability);
        evicts |= judgement.evicts;
        if oldest
            .as_ref()
            .is_none_or(|old| facts.release() < old.release())
        {
            oldest = Some(facts);
        }
    }
    schema::check(links, options).await?;
    if let Some(denied) = acl::denied(links, options)
        .await
        .filter(|denied| !denied.is_empty())
    {
        let text = format!(
            "the user may not {}: docs/redis.md has the ACL rule that a broker's user needs",
            denied.join(", ")
        );
        // Whoever only enqueues may do with less; a worker whose step is refused half way would lose what it moves.
        match options.worker {
            Some(_) => return Err(OpenError::Denied(text)),
            None => warnings.push(text),
        }
    }
    let generation = Generation::new(options);
    if let Err(fault) = generation.look(links).await {
        warnings.push(format!("wiped data would not be noticed: {fault}"));
    }
    Ok(Boot {
        durability,
        evicts,
        version: oldest.map(|facts| facts.version).unwrap_or_default(),
        warnings,
        generation,
    })
}

/// Looks at the servers that `options` name without changing anything, on a thread of its own.
///
/// # Errors
/// [`OpenError`] when they cannot be reached or asked. What is wrong with them is no error.
pub fn examine(options: &RedisOptions) -> Result<Exam, OpenError> {
    let links = Links::new(options)?;
    super::block_on(async {
        let mut servers = Vec::new();
        for (facts, judgement) in survey(&links, options).await? {
            servers.push(ServerExam {
                node: facts.node.to_string(),
                version: facts.version,
                durability: judgement.durability,
                refusals: judgement.refusals.iter().map(ToString::to_string).collect(),
                warnings: judgement.warnings,
            });
        }
        let denied = acl::denied(&links, options).await;
        Ok(Exam { servers, denied })
    })?
}

async fn survey(
    links: &Links,
    options: &RedisOptions,
) -> Result<Vec<(Facts, Judgement)>, OpenError> {
    let mut found = Vec::new();
    for node in links
        .masters()
        .await
        .map_err(|fault| unable(options, fault))?
    {
        let facts = Facts::gather(links, node).await;
        let facts = facts.map_err(|fault| unable(options, fault))?;
        let judgement = judge::judge(&facts, options);
        found.push((facts, judgement));
    }
    Ok(found)
}

/// Returns why the servers could not be looked at.
fn unable(options: &RedisOptions, fault: Fault) -> OpenError {
    let text = fault.to_string();
    match fault.class {
        Class::Login => OpenError::Login(text),
        Class::Denied => OpenError::Denied(text),
        _ if !fault.is_unfit() => OpenError::Away(text),
        _ if matches!(options.url.place, Place::Cluster(_)) => OpenError::Kind(format!(
            "{text}: use redis:// for a server that is in no cluster"
        )),
        _ if matches!(options.url.place, Place::Sentinel { .. }) => OpenError::Kind(format!(
            "{text}: is it a sentinel? Their port is 26379 as a rule"
        )),
        _ => OpenError::Kind(text),
    }
}
