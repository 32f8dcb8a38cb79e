//! Thresholds of the verdict, for all queues and for single ones.

use std::collections::BTreeMap;

use celeriac_actors::health::{QueueThresholds, ReasonKind, Thresholds, Two};
use celeriac_actors::ids::QueueName;

use super::settings::Settings;

/// Makes the thresholds of settings without mistakes.
pub(super) fn thresholds(settings: &Settings) -> Thresholds {
    let base = queue(settings, "health.", None, &QueueThresholds::default());
    let own = |name: &String| {
        let name: QueueName = name.parse().ok()?;
        let own = queue(settings, "queues.*.", Some(name.as_str()), &base);
        (own != base).then_some((name, own))
    };
    let queues: BTreeMap<_, _> = settings.names.queues.iter().filter_map(own).collect();
    let preset = Thresholds::default();
    let share = |path, preset| settings.share_of(path, None).unwrap_or(preset);
    let mut thresholds = Thresholds {
        queue: base,
        queues,
        disk_free: Two {
            degraded: share("health.disk_free", preset.disk_free.degraded),
            critical: share("health.disk_free_critical", preset.disk_free.critical),
        },
        ..preset
    };
    if !settings.switch("health.volatile_broker") {
        thresholds.ignore.insert(ReasonKind::VolatileBroker);
    }
    thresholds
}

/// Makes the thresholds of the section at `path`; what it does not say is that of `base`.
fn queue(
    settings: &Settings,
    path: &str,
    name: Option<&str>,
    base: &QueueThresholds,
) -> QueueThresholds {
    let key = |key: &str| format!("{path}{key}");
    let span = |at: &str, base| settings.span_of(&key(at), name).unwrap_or(base);
    let share = |at: &str, base| settings.share_of(&key(at), name).unwrap_or(base);
    let count = |at: &str, base| {
        let typed = settings.count_of(&key(at), name);
        typed.map_or(base, |count| {
            f64::from(u32::try_from(count).unwrap_or(u32::MAX))
        })
    };
    QueueThresholds {
        ready_age: Two {
            degraded: span("ready_age", base.ready_age.degraded),
            critical: span("ready_age_critical", base.ready_age.critical),
        },
        dead_per_minute: Two {
            degraded: count("dead_per_minute", base.dead_per_minute.degraded),
            critical: count("dead_per_minute_critical", base.dead_per_minute.critical),
        },
        failed_share: Two {
            degraded: share("failed_share", base.failed_share.degraded),
            critical: share("failed_share_critical", base.failed_share.critical),
        },
        ..*base
    }
}
