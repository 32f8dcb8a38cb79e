//! What a server's facts mean for tasks. Pure.

use std::time::Duration;

use celeriac_actors::ports::Durability;

use super::facts::Facts;
use crate::redis::options::{OpenError, RedisOptions};
use crate::redis::url::Place;

/// The oldest release that has what the scripts need.
const NEEDED: (u32, u32, u32) = (7, 0, 0);
/// Clocks that are kept in time differ by less.
const SKEW: Duration = Duration::from_secs(1);

/// What is to be thought of a server.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) durability: Durability,
    /// Whether it throws tasks away when its memory is full.
    pub(super) evicts: bool,
    pub(super) refusals: Vec<OpenError>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn judge(facts: &Facts, options: &RedisOptions) -> Judgement {
    let node = facts.node.to_string();
    let mut judgement = Judgement {
        durability: Durability::Volatile,
        evicts: false,
        refusals: Vec::new(),
        warnings: Vec::new(),
    };
    judgement.refusals.extend(kind(facts, options));
    if facts.release() < NEEDED {
        judgement.refusals.push(OpenError::Old {
            node: node.clone(),
            found: facts.version.clone(),
        });
    }
    persistence(facts, options, &mut judgement);
    memory(facts, options, &mut judgement);
    clock(facts, &mut judgement);
    for warning in &mut judgement.warnings {
        *warning = format!("{node}: {warning}");
    }
    judgement
}

/// Returns why the server is of another kind than the URL says, if it is.
fn kind(facts: &Facts, options: &RedisOptions) -> Option<OpenError> {
    let node = &facts.node;
    let text = match (facts.mode.as_str(), &options.url.place) {
        ("sentinel", _) => {
            format!("{node} is a sentinel: use redis+sentinel://{node}/NAME-OF-THE-MASTER")
        }
        ("cluster", Place::Server(_) | Place::Sentinel { .. }) => {
            format!("{node} belongs to a cluster: use redis+cluster://{node}")
        }
        _ => {
            let master = facts.master.as_ref()?;
            format!("{node} is a replica of {master}: name the master, or use redis+sentinel://")
        }
    };
    Some(OpenError::Kind(text))
}

fn persistence(facts: &Facts, options: &RedisOptions, judgement: &mut Judgement) {
    let mut warn = |text: &str| judgement.warnings.push(text.to_owned());
    judgement.durability = match (facts.append_only, facts.setting("appendfsync")) {
        (false, _) => Durability::Volatile,
        (true, Some("always")) if facts.setting("no-appendfsync-on-rewrite") == Some("yes") => {
            warn(
                "no-appendfsync-on-rewrite is set: appendfsync is not `always` while the log is rewritten",
            );
            Durability::CrashSafe
        }
        (true, Some("always")) => Durability::PowerSafe,
        (true, Some("no")) => {
            warn("appendfsync is `no`: a crash of the machine loses up to half a minute of tasks");
            Durability::CrashSafe
        }
        (true, Some(_)) => Durability::CrashSafe,
        (true, None) => {
            warn("its settings are not told (CONFIG GET): appendfsync is taken for `everysec`");
            Durability::CrashSafe
        }
    };
    if facts.last_write_failed {
        warn("it cannot write its log to its disk");
    }
    if judgement.durability > Durability::Volatile {
        return;
    }
    if options.allow_volatile {
        warn(match facts.setting("save") {
            Some("") => "it keeps tasks in memory only: a restart loses them (allowed)",
            _ => {
                "it writes no log: a crash loses every task since its last snapshot, if it makes any (allowed)"
            }
        });
    } else {
        let node = facts.node.to_string();
        judgement.refusals.push(OpenError::Volatile { node });
    }
}

fn memory(facts: &Facts, options: &RedisOptions, judgement: &mut Judgement) {
    if facts.policy == "noeviction" || facts.policy.is_empty() {
        return;
    }
    judgement.evicts = facts.maxmemory > 0;
    let (node, policy) = (facts.node.to_string(), facts.policy.clone());
    let warning = match (facts.maxmemory, options.allow_eviction) {
        (0, _) => format!(
            "maxmemory-policy is {policy}: as soon as maxmemory is set, tasks are thrown away"
        ),
        (_, true) => format!(
            "maxmemory-policy is {policy}: tasks are thrown away when memory is full (allowed)"
        ),
        (_, false) => {
            judgement.refusals.push(OpenError::Evicts { node, policy });
            return;
        }
    };
    judgement.warnings.push(warning);
}

fn clock(facts: &Facts, judgement: &mut Judgement) {
    let (off, way) = match facts.ahead > facts.behind {
        true => (facts.ahead, "ahead of"),
        false => (facts.behind, "behind"),
    };
    if off > SKEW {
        judgement.warnings.push(format!(
            "its clock is {:.1} s {way} ours; due times count by its clock",
            off.as_secs_f64()
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::redis::node::Node;

    fn facts() -> Facts {
        Facts {
            node: Node::tcp("h", 1),
            version: "7.0.15".into(),
            mode: "standalone".into(),
            master: None,
            maxmemory: 0,
            policy: "noeviction".into(),
            append_only: true,
            last_write_failed: false,
            settings: Some(HashMap::from([
                ("appendfsync".into(), "everysec".into()),
                ("save".into(), String::new()),
            ])),
            ahead: Duration::ZERO,
            behind: Duration::ZERO,
        }
    }

    fn options() -> RedisOptions {
        RedisOptions::new("redis://h:1").unwrap()
    }

    /// Returns the class, the refusals and the warnings.
    fn judged(facts: &Facts, options: &RedisOptions) -> (Durability, String, String) {
        let judgement = judge(facts, options);
        let refusals: Vec<_> = judgement.refusals.iter().map(ToString::to_string).collect();
        (
            judgement.durability,
            refusals.join("\n"),
            judgement.warnings.join("\n"),
        )
    }

    fn with(name: &str, value: &str) -> Facts {
        let mut facts = facts();
        if let Some(settings) = &mut facts.settings {
            settings.insert(name.into(), value.into());
        }
        facts
    }

    #[test]
    fn the_log_decides_what_a_task_is_worth() {
        use Durability::{CrashSafe, PowerSafe, Volatile};
        assert_eq!(
            judged(&facts(), &options()),
            (CrashSafe, String::new(), String::new())
        );
        assert_eq!(
            judged(&with("appendfsync", "always"), &options()),
            (PowerSafe, String::new(), String::new())
        );
        let (class, _, warning) = judged(&with("appendfsync", "no"), &options());
        assert!(
            class == CrashSafe && warning.starts_with("h:1: appendfsync is `no`"),
            "{warning}"
        );
        let mut rewriting = with("appendfsync", "always");
        rewriting
            .settings
            .as_mut()
            .unwrap()
            .insert("no-appendfsync-on-rewrite".into(), "yes".into());
        assert_eq!(judged(&rewriting, &options()).0, CrashSafe);
        let managed = Facts {
            settings: None,
            ..facts()
        };
        let (class, _, warning) = judged(&managed, &options());
        assert!(
            class == CrashSafe && warning.contains("CONFIG GET"),
            "{warning}"
        );

        let none = Facts {
            append_only: false,
            ..facts()
        };
        let (class, refusal, _) = judged(&none, &options());
        assert!(
            class == Volatile && refusal.contains("redis.allow_volatile"),
            "{refusal}"
        );
        let (class, refusal, warning) = judged(&none, &options().allow_volatile(true));
        assert_eq!((class, refusal.as_str()), (Volatile, ""));
        assert!(warning.contains("a restart loses them"), "{warning}");
    }

    #[test]
    fn what_throws_tasks_away_is_refused() {
        let evicting = Facts {
            policy: "allkeys-lru".into(),
            ..facts()
        };
        let (_, refusal, warning) = judged(&evicting, &options());
        assert!(
            refusal.is_empty() && warning.contains("as soon as"),
            "{refusal} {warning}"
        );
        let full = Facts {
            maxmemory: 1,
            ..evicting
        };
        let (_, refusal, _) = judged(&full, &options());
        assert!(
            refusal.contains("allkeys-lru") && refusal.contains("noeviction"),
            "{refusal}"
        );
        let (_, refusal, warning) = judged(&full, &options().allow_eviction(true));
        assert!(
            refusal.is_empty() && warning.contains("(allowed)"),
            "{refusal} {warning}"
        );
    }

    #[test]
    fn another_kind_of_server_is_told_apart() {
        let refusal = |facts: Facts| judged(&facts, &options()).1;
        let old = Facts {
            version: "6.2.7".into(),
            ..facts()
        };
        assert_eq!(refusal(old), "h:1 runs Redis 6.2.7: 7.0 or later is needed");
        let newer = Facts {
            version: "10.1".into(),
            ..facts()
        };
        assert_eq!(refusal(newer), "");
        let replica = Facts {
            master: Some("m:2".into()),
            ..facts()
        };
        assert!(refusal(replica).contains("replica of m:2"));
        let cluster = Facts {
            mode: "cluster".into(),
            ..facts()
        };
        assert!(refusal(cluster.clone()).contains("redis+cluster://h:1"));
        let there = RedisOptions::new("redis+cluster://h:1").unwrap();
        assert_eq!(judged(&cluster, &there).1, "");
        let sentinel = Facts {
            mode: "sentinel".into(),
            ..facts()
        };
        assert!(refusal(sentinel).contains("redis+sentinel://h:1/"));
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        let off = Facts {
            behind: Duration::from_millis(2_500),
            ..facts()
        };
        let (_, _, warning) = judged(&off, &options());
        assert_eq!(
            warning,
            "h:1: its clock is 2.5 s behind ours; due times count by its clock"
        );
        let near = Facts {
            ahead: Duration::from_millis(900),
            ..facts()
        };
        assert_eq!(judged(&near, &options()).2, "");
    }
}
