//! What the configuration says of kinds of tasks, applied to their policies. Pure.

use celeriac_actors::policy::Policy;

use crate::app::App;
use crate::config::{Config, TaskOverride};

/// Applies what the configuration says to the policies of a program's tasks.
pub(super) fn adjust(app: &mut App, config: &Config) {
    app.adjust(|name, policy| match config.tasks.get(name) {
        Some(over) => adjusted(policy, over),
        None => policy,
    });
}

/// Applies what the configuration says of a kind of task to its policy.
fn adjusted(mut policy: Policy, over: &TaskOverride) -> Policy {
    if let Some(count) = over.max_attempts {
        policy = policy.max_attempts(count);
    }
    if let Some(limit) = over.soft_limit {
        policy = policy.soft_limit(limit);
    }
    if let Some(limit) = over.hard_limit {
        policy = policy.hard_limit(limit);
    }
    if let Some(mode) = over.mode {
        policy = policy.mode(mode);
    }
    if let Some(fraction) = over.backoff_jitter {
        policy = policy.jitter(fraction);
    }
    if over.backoff_base.is_none() && over.backoff_ceiling.is_none() {
        // A function of the program's own stays.
        return policy;
    }
    policy.with_backoff(|mut backoff| {
        if let Some(base) = over.backoff_base {
            backoff = backoff.with_base(base);
        }
        if let Some(ceiling) = over.backoff_ceiling {
            backoff = backoff.with_ceiling(ceiling);
        }
        backoff
    })
}
