//! Holds facts against thresholds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::{Disk, Facts, QueueFacts, Reach, WorkerFacts};
use super::thresholds::{Thresholds, Two};
use crate::ports::Durability;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Work goes on, but somebody should look.
    Degraded,
    /// Work stands still, or may be lost.
    Critical,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The broker does not answer.
    BrokerAway,
    /// The store does not answer.
    StoreAway,
    /// A queue has work and nobody takes it, or there is no worker at all.
    NoWorker,
    /// The oldest ready task of a queue has waited for too long.
    ReadyAge,
    /// Too many tasks of a queue die.
    DeadRate,
    /// Too many attempts of a queue fail.
    FailureRate,
    /// Too many dead tasks wait for the store.
    DeadOutbox,
    /// An attempt outlives its hard limit, or threads hang in such.
    Stuck,
    /// A task does not give its thread back.
    BlockedThread,
    /// A circuit breaker lets nothing through.
    BreakerOpen,
    /// A child of a worker crashes again and again, or was parked for it.
    CrashLoop,
    /// The broker loses acknowledged tasks when it restarts.
    VolatileBroker,
    /// The broker throws tasks away when its memory is full.
    EvictingBroker,
    /// A worker's clock is not the broker's.
    ClockSkew,
    /// A file system is nearly full.
    Disk,
}

impl ReasonKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::BrokerAway,
        Self::StoreAway,
        Self::NoWorker,
        Self::ReadyAge,
        Self::DeadRate,
        Self::FailureRate,
        Self::DeadOutbox,
        Self::Stuck,
        Self::BlockedThread,
        Self::BreakerOpen,
        Self::CrashLoop,
        Self::VolatileBroker,
        Self::EvictingBroker,
        Self::ClockSkew,
        Self::Disk,
    ];

    /// Returns its name, as documents and metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerAway => "broker_away",
            Self::StoreAway => "store_away",
            Self::NoWorker => "no_worker",
            Self::ReadyAge => "ready_age",
            Self::DeadRate => "dead_rate",
            Self::FailureRate => "failure_rate",
            Self::DeadOutbox => "dead_outbox",
            Self::Stuck => "stuck",
            Self::BlockedThread => "blocked_thread",
            Self::BreakerOpen => "breaker_open",
            Self::CrashLoop => "crash_loop",
            Self::VolatileBroker => "volatile_broker",
            Self::EvictingBroker => "evicting_broker",
            Self::ClockSkew => "clock_skew",
            Self::Disk => "disk",
        }
    }

    /// Returns what an operator looks at or does first.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::BrokerAway => {
                "bring the broker back; `celeriac doctor` says what it sees of it; nothing is lost meanwhile"
            }
            Self::StoreAway => "bring the store back; dead tasks wait in the broker until then",
            Self::NoWorker => "start a worker: `celeriac run`, or `celeriac run --queues QUEUE`",
            Self::ReadyAge => {
                "`celeriac explain --queue QUEUE` says what holds it up; add workers, or raise `concurrency`"
            }
            Self::DeadRate => "`celeriac dead clusters` says what they died of",
            Self::FailureRate => "`celeriac tasks --state retrying` and the log say what fails",
            Self::DeadOutbox => {
                "see to the store: the dead-letter actor cannot keep up, or cannot write"
            }
            Self::Stuck => {
                "give the code a limit of its own, or run it isolated: `[tasks.\"NAME\"] mode = \"isolated\"`"
            }
            Self::BlockedThread => "the task does not yield: run it `blocking` or `isolated`",
            Self::BreakerOpen => {
                "see to what it guards; `celeriac breaker show NAME`, `celeriac breaker close NAME`"
            }
            Self::CrashLoop => "the log has its panics; `celeriac tree` shows it",
            Self::VolatileBroker => "set `appendonly yes` at the server",
            Self::EvictingBroker => "set `maxmemory-policy noeviction` at the server",
            Self::ClockSkew => "keep the clocks of all machines by NTP",
            Self::Disk => "make room: `celeriac dead purge`, shorter retention, a larger disk",
        }
    }
}

impl fmt::Display for ReasonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that is wrong, by the facts of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What.
    pub kind: ReasonKind,
    /// With what: a queue, a worker and its part, a breaker, a path; empty for the whole.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// One line for people.
    pub text: String,
    /// The figure, in `unit`.
    pub figure: f64,
    /// What it was held against, in `unit`.
    pub threshold: f64,
    /// The unit of both.
    pub unit: &'static str,
}

/// How far a figure must fall below its threshold, as a share of it, before what was a reason is none.
const RELIEF: f64 = 0.8;

/// Finds everything that is wrong. `raised` says what is a reason already, and how bad: a figure of such a one must fall
/// clearly below its threshold.
#[must_use]
pub fn judge(
    facts: &Facts,
    thresholds: &Thresholds,
    raised: &dyn Fn(ReasonKind, &str) -> Option<Severity>,
) -> Vec<Finding> {
    let mut court = Court {
        thresholds,
        raised,
        findings: Vec::new(),
    };
    court.broker(facts);
    court.store(facts);
    court.nobody(facts);
    facts.queues.iter().for_each(|queue| {
        court.attendance(queue, facts);
        court.queue(queue);
    });
    let alive = facts.workers.iter().filter(|worker| worker.alive);
    for worker in alive {
        court.worker(worker);
        court.threads(worker);
        court.children(worker);
    }
    for breaker in &facts.breakers {
        let text = format!(
            "breaker {} is open since {}: {}",
            breaker.name, breaker.since, breaker.cause
        );
        let name = breaker.name.as_str();
        court.fact((ReasonKind::BreakerOpen, name), Severity::Degraded, text);
    }
    facts.disks.iter().for_each(|disk| court.disk(disk));
    let mut findings = court.findings;
    findings.retain(|finding| !thresholds.ignore.contains(&finding.kind));
    findings
}

struct Court<'a> {
    thresholds: &'a Thresholds,
    raised: &'a dyn Fn(ReasonKind, &str) -> Option<Severity>,
    findings: Vec<Finding>,
}

impl Court<'_> {
    /// Adds something that is so or not.
    fn fact(&mut self, of: (ReasonKind, &str), severity: Severity, text: String) {
        self.count(of, severity, (1.0, 1.0, ""), text);
    }

    fn count(
        &mut self,
        (kind, subject): (ReasonKind, &str),
        severity: Severity,
        (figure, threshold, unit): (f64, f64, &'static str),
        text: String,
    ) {
        self.findings.push(Finding {
            kind,
            subject: subject.to_owned(),
            severity,
            text,
            figure,
            threshold,
            unit,
        });
    }

    /// Adds a figure that is too high.
    fn high(
        &mut self,
        (kind, subject): (ReasonKind, &str),
        (figure, bounds, unit): (f64, Two<f64>, &'static str),
        text: impl FnOnce() -> String,
    ) {
        let was = (self.raised)(kind, subject);
        let bound = |severity: Severity, bound: f64| match was {
            Some(was) if was >= severity => bound * RELIEF,
            _ => bound,
        };
        let severity = if figure >= bound(Severity::Critical, bounds.critical) {
            Severity::Critical
        } else if figure >= bound(Severity::Degraded, bounds.degraded) {
            Severity::Degraded
        } else {
            return;
        };
        let threshold = match severity {
            Severity::Critical => bounds.critical,
            Severity::Degraded => bounds.degraded,
        };
        self.count((kind, subject), severity, (figure, threshold, unit), text());
    }

    fn broker(&mut self, facts: &Facts) {
        if let Reach::Away { since, error } = &facts.broker {
            let text = format!("the broker has been away for {}: {error}", secs(*since));
            let figures = (since.as_secs_f64(), 0.0, "s");
            self.count(
                (ReasonKind::BrokerAway, ""),
                Severity::Critical,
                figures,
                text,
            );
        }
        if facts.durability == Some(Durability::Volatile) {
            let text = "acknowledged tasks are lost when the broker restarts".to_owned();
            self.fact((ReasonKind::VolatileBroker, ""), Severity::Degraded, text);
        }
        if facts.evicts {
            let text = "the broker throws tasks away when its memory is full".to_owned();
            self.fact((ReasonKind::EvictingBroker, ""), Severity::Critical, text);
        }
    }

    fn store(&mut self, facts: &Facts) {
        if let Reach::Away { since, error } = &facts.store {
            let text = format!("the store has been away for {}: {error}", secs(*since));
            let figures = (since.as_secs_f64(), 0.0, "s");
            self.count(
                (ReasonKind::StoreAway, ""),
                Severity::Degraded,
                figures,
                text,
            );
        }
    }

    /// Finds that no worker is alive. Where the broker cannot be asked, nobody knows.
    fn nobody(&mut self, facts: &Facts) {
        let asked = facts.broker == Reach::Here;
        if asked && !facts.workers.iter().any(|worker| worker.alive) {
            let text = "no worker is alive".to_owned();
            let figures = (0.0, 1.0, "workers");
            self.count(
                (ReasonKind::NoWorker, ""),
                Severity::Degraded,
                figures,
                text,
            );
        }
    }

    /// Finds that a queue has work and nobody takes it.
    fn attendance(&mut self, queue: &QueueFacts, facts: &Facts) {
        let work = queue.ready + queue.active;
        if work == 0 || queue.paused || facts.workers.iter().any(|w| w.serves(&queue.queue)) {
            return;
        }
        let text = format!(
            "queue {} has {} ready and {} active tasks, and no live worker takes any",
            queue.queue, queue.ready, queue.active
        );
        let figures = (0.0, 1.0, "workers");
        let subject = queue.queue.as_str();
        self.count(
            (ReasonKind::NoWorker, subject),
            Severity::Critical,
            figures,
            text,
        );
    }

    fn queue(&mut self, queue: &QueueFacts) {
        let (name, bounds) = (queue.queue.as_str(), *self.thresholds.of(&queue.queue));
        // What is paused is meant to wait.
        if let Some(age) = queue.oldest_ready.filter(|_| !queue.paused) {
            let figures = (age.as_secs_f64(), bounds.ready_age.secs(), "s");
            self.high((ReasonKind::ReadyAge, name), figures, || {
                format!(
                    "the oldest ready task of queue {name} has waited for {}",
                    secs(age)
                )
            });
        }
        if let Some(rate) = queue.dead_per_minute {
            let figures = (rate, bounds.dead_per_minute, "tasks/min");
            self.high((ReasonKind::DeadRate, name), figures, || {
                format!("{rate:.1} tasks of queue {name} die a minute")
            });
        }
        if queue.attempts >= bounds.min_attempts.max(1) {
            let share = ratio(queue.failed, queue.attempts);
            let figures = (share, bounds.failed_share, "share");
            self.high((ReasonKind::FailureRate, name), figures, || {
                format!(
                    "{} of the last {} attempts of queue {name} failed",
                    queue.failed, queue.attempts
                )
            });
        }
        let outbox = Two {
            degraded: float(bounds.dead_outbox.degraded),
            critical: float(bounds.dead_outbox.critical),
        };
        let figures = (float(queue.dead_outbox), outbox, "tasks");
        self.high((ReasonKind::DeadOutbox, name), figures, || {
            format!(
                "{} dead tasks of queue {name} wait for the store",
                queue.dead_outbox
            )
        });
    }

    fn worker(&mut self, worker: &WorkerFacts) {
        let id = worker.worker.as_str();
        if let Some((since, error)) = &worker.broker_away {
            let text = format!(
                "{id}: the broker has been away for {}: {error}",
                secs(*since)
            );
            let figures = (since.as_secs_f64(), 0.0, "s");
            self.count(
                (ReasonKind::BrokerAway, id),
                Severity::Critical,
                figures,
                text,
            );
        }
        if let Some((since, error)) = &worker.store_away {
            let text = format!(
                "{id}: the store has been away for {}: {error}",
                secs(*since)
            );
            let figures = (since.as_secs_f64(), 0.0, "s");
            self.count(
                (ReasonKind::StoreAway, id),
                Severity::Degraded,
                figures,
                text,
            );
        }
        if let Some(skew) = worker.skew {
            let figures = (skew.as_secs_f64(), self.thresholds.skew.secs(), "s");
            self.high((ReasonKind::ClockSkew, id), figures, || {
                format!("{id}: its clock is {} away from the broker's", secs(skew))
            });
        }
    }

    fn threads(&mut self, worker: &WorkerFacts) {
        let id = worker.worker.as_str();
        for blocked in &worker.blocked {
            let severity = match worker.blocked.len() < worker.lanes {
                true => Severity::Degraded,
                false => Severity::Critical,
            };
            let task = blocked.task.as_ref().map_or("?", |task| task.as_str());
            let of = blocked.id.map(|id| format!(" ({id})")).unwrap_or_default();
            let text = format!(
                "{id}: {task}{of} blocks the thread of lane {}",
                blocked.lane
            );
            let subject = format!("{id}/lane-{}", blocked.lane);
            self.fact((ReasonKind::BlockedThread, &subject), severity, text);
        }
        if worker.stuck_threads > 0 {
            let n = worker.stuck_threads;
            let text = format!("{id}: {n} threads hang in blocking work beyond its hard limit");
            let figures = (float(n as u64), 1.0, "threads");
            let subject = format!("{id}/threads");
            self.count(
                (ReasonKind::Stuck, &subject),
                Severity::Degraded,
                figures,
                text,
            );
        }
        for overdue in &worker.overdue {
            let text = format!(
                "{id}: {} ({}) has run for {}, {} beyond its hard limit",
                overdue.task,
                overdue.id,
                secs(overdue.ran),
                secs(overdue.ran.saturating_sub(overdue.limit))
            );
            let figures = (overdue.ran.as_secs_f64(), overdue.limit.as_secs_f64(), "s");
            let subject = format!("{id}/{}", overdue.id);
            self.count(
                (ReasonKind::Stuck, &subject),
                Severity::Degraded,
                figures,
                text,
            );
        }
    }

    fn children(&mut self, worker: &WorkerFacts) {
        let id = worker.worker.as_str();
        for (path, why) in &worker.parked {
            let text = format!("{id}: {path} crashed too often and is parked: {why}");
            let subject = format!("{id}/{path}");
            self.fact((ReasonKind::CrashLoop, &subject), Severity::Critical, text);
        }
        for (path, crashes) in &worker.looping {
            let most = self.thresholds.crashes.max(1);
            if *crashes >= most {
                let text = format!("{id}: {path} crashed {crashes} times of late");
                let figures = (float(*crashes as u64), float(most as u64), "crashes");
                let subject = format!("{id}/{path}");
                self.count(
                    (ReasonKind::CrashLoop, &subject),
                    Severity::Degraded,
                    figures,
                    text,
                );
            }
        }
    }

    /// Finds that a file system is nearly full. The threshold is of what is free; the figure that is held against it is
    /// what is used, so that it is too high like all others.
    fn disk(&mut self, disk: &Disk) {
        let free = ratio(disk.free, disk.total);
        let bounds = self.thresholds.disk_free;
        let was = (self.raised)(ReasonKind::Disk, &disk.path);
        let bound = |severity: Severity, bound: f64| match was {
            Some(was) if was >= severity => bound / RELIEF,
            _ => bound,
        };
        let (severity, threshold) = if free <= bound(Severity::Critical, bounds.critical) {
            (Severity::Critical, bounds.critical)
        } else if free <= bound(Severity::Degraded, bounds.degraded) {
            (Severity::Degraded, bounds.degraded)
        } else {
            return;
        };
        let text = format!(
            "{}: {} MiB of {} MiB are free",
            disk.path,
            disk.free >> 20,
            disk.total >> 20
        );
        let figures = (free, threshold, "share free");
        self.count((ReasonKind::Disk, &disk.path), severity, figures, text);
    }
}

impl Two<Duration> {
    fn secs(self) -> Two<f64> {
        Two {
            degraded: self.degraded.as_secs_f64(),
            critical: self.critical.as_secs_f64(),
        }
    }
}

/// Returns a span as people read it: whole seconds.
fn secs(span: Duration) -> String {
    format!("{} s", span.as_secs())
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        1.0
    } else {
        float(part) / float(whole)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts that a double does not hold are judged alike"
)]
fn float(count: u64) -> f64 {
    count as f64
}
