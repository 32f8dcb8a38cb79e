//! The end of a tree: what it holds is given back, and its actors end, in bounded time whoever is away and whatever user
//! code does.
//!
//! In this order: what can be dropped is dropped and given back, and its actors end; processes of isolated attempts end; then
//! what nothing can stop, blocking work and all that is on blocked threads, is given back. So it runs beside whoever gets
//! it next no longer than this process takes to exit.

use std::time::Duration;

use celeriac_actors::hooks::HookLine;
use celeriac_actors::ports::Isolation;
use celeriac_actors::time::millis;
use celeriac_actors::tree::Tree;
use slog::{Logger, warn};

/// How long the tree may take to give back what can be dropped once the grace period is over. Only a slow broker takes
/// longer than a moment.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How long its actors may then take to end, one after the other.
const END: Duration = Duration::from_secs(5);

/// How long they may take while the broker is away, when there is nobody to tell anything.
const END_ALONE: Duration = Duration::from_millis(500);

/// How long the broker may take to hear of what is left.
const LET_GO: Duration = Duration::from_secs(2);

/// How long it may take when it was away before.
const LET_GO_ALONE: Duration = Duration::from_millis(250);

/// How long hooks may take to hear the last events when the grace period is used up.
const TELL: Duration = Duration::from_millis(250);

/// How long of an unused grace period they may take.
const TELL_SPARE: Duration = Duration::from_secs(1);

/// Gives back what the tree holds, but for what nothing can stop, and ends it. `spare` is what is left of the grace period.
pub(super) async fn leave(tree: &Tree, hooks: Option<&HookLine>, spare: Duration) {
    tree.give_back(GIVE_BACK).await;
    if let Some(hooks) = hooks {
        hooks.flush(spare.clamp(TELL, TELL_SPARE)).await;
    }
    let limit = if tree.broker_outage().is_some() {
        END_ALONE
    } else {
        END
    };
    // What has not ended by then is cut off with the tree.
    let _in_time = tokio::time::timeout(limit, tree.end()).await;
}

/// Ends the processes of isolated attempts, then gives back all that is left. The process ends now.
pub(super) async fn let_go(
    tree: &Tree,
    (lease, log): (Duration, &Logger),
    isolation: Option<&dyn Isolation>,
) {
    if let Some(isolation) = isolation {
        isolation.close().await;
    }
    let limit = if tree.broker_outage().is_some() {
        LET_GO_ALONE
    } else {
        LET_GO
    };
    tree.let_go(limit).await;
    let (away, left) = (tree.broker_outage(), tree.unsettled());
    if let Some((_, error)) = away.filter(|_| left > 0) {
        warn!(log, "the broker is away: what could not be settled or given back is left to it; when its lease is over, \
            other workers run those tasks again"; "tasks_at_most" => left,
            "lease_ms" => millis(lease), "error" => error);
    }
}
