//! The end of a tree: what it holds is given back, and its actors end, in bounded time whoever is away.

use std::time::Duration;

use celeriac_actors::hooks::HookLine;
use celeriac_actors::time::millis;
use celeriac_actors::tree::Tree;
use slog::{Logger, warn};

/// How long the tree may take to give everything back once the grace period is over.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How long its actors may then take to end, one after the other.
const END: Duration = Duration::from_secs(5);

/// How long they may take while the broker is away, when there is nobody to tell anything.
const END_ALONE: Duration = Duration::from_secs(1);

/// How long hooks may take to hear the last events.
const TELL: Duration = Duration::from_secs(1);

/// Gives back what the tree holds and ends it, in bounded time whoever is away.
pub(super) async fn leave(
    tree: &Tree,
    (lease, log): (Duration, &Logger),
    hooks: Option<&HookLine>,
) {
    tree.give_back(GIVE_BACK).await;
    if let Some(hooks) = hooks {
        hooks.flush(TELL).await;
    }
    let (away, left) = (tree.broker_outage(), tree.unsettled());
    if let Some((_, error)) = away.as_ref().filter(|_| left > 0) {
        warn!(log, "the broker is away: what could not be settled or given back is left to it; when its lease is over, \
            other workers run those tasks again"; "tasks_at_most" => left,
            "lease_ms" => millis(lease), "error" => error);
    }
    let limit = if away.is_some() { END_ALONE } else { END };
    // What has not ended by then is cut off with the tree.
    let _in_time = tokio::time::timeout(limit, tree.stop()).await;
}
