//! Figures as Prometheus reads them: text format 0.0.4, names and units by its conventions.
//!
//! What the broker tells (`celeriac_queue_…`) is the same from every process: take `max by (queue)`. What a process counted
//! itself (`celeriac_task_…`, `celeriac_worker_…`) is its own: take sums. Labels are bounded: kinds of tasks that the
//! program does not know are `other`.

use std::fmt::Write as _;
use std::time::Duration;

use celeriac_actors::child::TreeNode;
use celeriac_actors::health::{Health, ReasonKind, Severity, Verdict};
use celeriac_actors::measure::{BOUNDS_US, KindFigures, Spread, Sum};
use celeriac_actors::ports::{Counters, QueueStatus};
use celeriac_actors::time::Timestamp;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is told.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The verdict.
    pub health: &'a Health,
    /// The queues at the last look; empty while the broker is away.
    pub queues: &'a [QueueStatus],
    /// What this process counted.
    pub figures: &'a [KindFigures],
    /// This process's tree.
    pub tree: &'a TreeNode,
    /// How many attempts run here.
    pub running: usize,
    /// How many tasks wait here for their start.
    pub prefetched: usize,
    /// How many threads of lanes do not answer.
    pub blocked_threads: usize,
    /// How many threads hang in blocking work.
    pub stuck_threads: usize,
    /// For how long the broker has been away from this process.
    pub broker_away: Option<Duration>,
    /// How many minutes of snapshots wait for the store.
    pub snapshots_waiting: usize,
    /// The wall clock.
    pub now: Timestamp,
}

/// The labels of a sample.
type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            self.text.push('{');
            for (at, (label, value)) in labels.iter().enumerate() {
                if at > 0 {
                    self.text.push(',');
                }
                let _infallible = write!(self.text, "{label}=\"");
                escape(&mut self.text, value);
                self.text.push('"');
            }
            self.text.push('}');
        }
        let _infallible = writeln!(self.text, " {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, labels: Labels<'_>, spread: &Spread) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (at, bound) in BOUNDS_US.iter().enumerate() {
            below += spread.buckets.get(at).copied().unwrap_or(0);
            let le = seconds(*bound);
            let labels = [labels, &[("le", &le)]].concat();
            self.sample(&bucket, &labels, below);
        }
        let count = spread.count();
        let labels_inf = [labels, &[("le", "+Inf")]].concat();
        self.sample(&bucket, &labels_inf, count);
        self.sample(&format!("{name}_sum"), labels, seconds(spread.sum_us));
        self.sample(&format!("{name}_count"), labels, count);
    }
}

/// Escapes the value of a label.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

/// Returns microseconds as seconds, without the error of a division.
fn seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes the page.
#[must_use]
pub fn render(page: &Page<'_>) -> String {
    let mut out = Writer::default();
    health(&mut out, page.health);
    queues(&mut out, page);
    tasks(&mut out, page.figures);
    worker(&mut out, page);
    out.text
}

fn health(out: &mut Writer, health: &Health) {
    let name = "celeriac_build_info";
    out.family(name, "gauge", "Always 1; the version is a label.");
    out.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let name = "celeriac_health";
    out.family(
        name,
        "gauge",
        "1 for the verdict in force, 0 for the others.",
    );
    for verdict in [
        Verdict::Healthy,
        Verdict::Degraded,
        Verdict::Critical,
        Verdict::Unknown,
    ] {
        let is = u8::from(verdict == health.verdict);
        out.sample(name, &[("verdict", verdict.as_str())], is);
    }
    let name = "celeriac_health_reasons";
    out.family(
        name,
        "gauge",
        "Reasons of the verdict, by kind and severity.",
    );
    for kind in ReasonKind::ALL {
        for (severity, word) in [
            (Severity::Degraded, "degraded"),
            (Severity::Critical, "critical"),
        ] {
            let those = health
                .reasons
                .iter()
                .filter(|it| it.kind == kind && it.severity == severity);
            let labels = [("kind", kind.as_str()), ("severity", word)];
            out.sample(name, &labels, those.count());
        }
    }
}

fn queues(out: &mut Writer, page: &Page<'_>) {
    let name = "celeriac_queue_tasks";
    out.family(
        name,
        "gauge",
        "Tasks a queue holds, by state; dead_outbox are those the store does not have yet.",
    );
    for queue in page.queues {
        let of = queue.queue.as_str();
        for (state, count) in [
            ("ready", queue.ready),
            ("scheduled", queue.scheduled),
            ("retrying", queue.retrying),
            ("active", queue.active),
            ("dead_outbox", queue.dead_outbox),
        ] {
            out.sample(name, &[("queue", of), ("state", state)], count);
        }
    }
    let name = "celeriac_queue_oldest_ready_seconds";
    out.family(
        name,
        "gauge",
        "How long the oldest ready task has waited since its enqueue, by its producer's clock.",
    );
    for queue in page.queues {
        let oldest = queue.oldest_ready.filter(|_| queue.ready > 0);
        let age = oldest.map_or(0, |at| page.now.as_millis().saturating_sub(at.as_millis()));
        out.sample(
            name,
            &[("queue", queue.queue.as_str())],
            seconds(1_000 * age),
        );
    }
    let name = "celeriac_queue_paused";
    out.family(name, "gauge", "1 while the queue hands out nothing.");
    for queue in page.queues {
        let is = u8::from(queue.paused);
        out.sample(name, &[("queue", queue.queue.as_str())], is);
    }
    let name = "celeriac_queue_consumers";
    out.family(
        name,
        "gauge",
        "Consumers with a lease on the queue, over all processes.",
    );
    for queue in page.queues {
        out.sample(name, &[("queue", queue.queue.as_str())], queue.consumers);
    }
    queue_counters(out, page.queues);
}

fn queue_counters(out: &mut Writer, queues: &[QueueStatus]) {
    type Pick = fn(&Counters) -> u64;
    let counters: [(&str, &str, Pick); 11] = [
        ("enqueued", "New tasks.", |c| c.enqueued),
        ("succeeded", "Tasks that ended well.", |c| c.succeeded),
        ("dead", "Tasks buried.", |c| c.dead),
        ("cancelled", "Tasks that ended by revocation.", |c| {
            c.cancelled
        }),
        ("expired", "Tasks that ended by expiry.", |c| c.expired),
        ("retried", "Failed attempts followed by another.", |c| {
            c.retried
        }),
        ("released", "Deliveries undone.", |c| c.released),
        (
            "rescued",
            "Deliveries taken back from consumers that died.",
            |c| c.rescued,
        ),
        ("revived", "Dead tasks brought back.", |c| c.revived),
        (
            "stale",
            "Settlements that came too late and took no effect.",
            |c| c.stale,
        ),
        (
            "results_dropped",
            "Results that were not kept for want of room.",
            |c| c.result_dropped,
        ),
    ];
    for (what, help, pick) in counters {
        let name = format!("celeriac_queue_{what}_total");
        out.family(&name, "counter", help);
        for queue in queues {
            let count = pick(&queue.counters);
            out.sample(&name, &[("queue", queue.queue.as_str())], count);
        }
    }
}

fn tasks(out: &mut Writer, figures: &[KindFigures]) {
    type Pick = fn(&Sum) -> u64;
    let counters: [(&str, &str, Pick); 8] = [
        ("started", "Attempts this process started.", |s| s.started),
        ("succeeded", "Tasks that ended well here.", |s| s.succeeded),
        ("failed", "Attempts that failed here.", |s| s.failed),
        ("retried", "Attempts here that another one follows.", |s| {
            s.retried
        }),
        ("buried", "Tasks that died here.", |s| s.buried),
        ("revoked", "Tasks that were revoked here.", |s| s.revoked),
        ("expired", "Tasks found expired here.", |s| s.expired),
        ("released", "Deliveries undone here.", |s| s.released),
    ];
    for (what, help, pick) in counters {
        let name = format!("celeriac_task_{what}_total");
        out.family(&name, "counter", help);
        for of in figures {
            let labels = [("queue", of.queue.as_str()), ("task", of.task.as_str())];
            out.sample(&name, &labels, pick(&of.sum));
        }
    }
    type Which = fn(&Sum) -> &Spread;
    let spreads: [(&str, &str, Which); 2] = [
        (
            "celeriac_task_wait_seconds",
            "From enqueue to the first start, by the clocks of producer and worker.",
            |s| &s.wait,
        ),
        ("celeriac_task_run_seconds", "How long attempts ran.", |s| {
            &s.run
        }),
    ];
    for (name, help, which) in spreads {
        out.family(name, "histogram", help);
        for of in figures {
            let labels = [("queue", of.queue.as_str()), ("task", of.task.as_str())];
            out.histogram(name, &labels, which(&of.sum));
        }
    }
}

fn worker(out: &mut Writer, page: &Page<'_>) {
    out.gauge(
        "celeriac_worker_attempts_running",
        "Attempts that run in this process.",
        page.running,
    );
    out.gauge(
        "celeriac_worker_tasks_prefetched",
        "Tasks that wait in this process for their start.",
        page.prefetched,
    );
    out.gauge(
        "celeriac_worker_threads_blocked",
        "Threads of lanes that a task does not give back.",
        page.blocked_threads,
    );
    out.gauge(
        "celeriac_worker_threads_stuck",
        "Threads that hang in blocking work beyond its hard limit.",
        page.stuck_threads,
    );
    let away = page
        .broker_away
        .map_or(0, |away| u64::try_from(away.as_micros()).unwrap_or(0));
    out.gauge(
        "celeriac_worker_broker_away_seconds",
        "How long the broker has been away from this process; 0 while it answers.",
        seconds(away),
    );
    out.gauge(
        "celeriac_worker_snapshots_waiting",
        "Minutes of snapshots that wait for the store.",
        page.snapshots_waiting,
    );
    let name = "celeriac_worker_restarts_total";
    out.family(
        name,
        "counter",
        "Restarts of the children of this process's tree, by their path.",
    );
    restarts(out, name, page.tree, "");
}

fn restarts(out: &mut Writer, name: &str, node: &TreeNode, path: &str) {
    for child in &node.children {
        let path = match path {
            "" => child.name.clone(),
            path => format!("{path}/{}", child.name),
        };
        out.sample(name, &[("child", &path)], child.restarts_total);
        restarts(out, name, child, &path);
    }
}

#[cfg(test)]
mod tests {
    use celeriac_actors::child::ChildState;
    use celeriac_actors::ids::QueueName;

    use super::*;

    fn tree() -> TreeNode {
        let node = |name: &str, children| TreeNode {
            name: name.to_owned(),
            kind: String::new(),
            state: ChildState::Up,
            incarnation: 1,
            restarts_in_window: 0,
            restarts_total: 3,
            last_exit: None,
            up_since: None,
            backlog: 0,
            abandoned: 0,
            stale: false,
            strategy: None,
            children,
        };
        node(
            "celeriac",
            vec![node("work", vec![node("lane-0", Vec::new())])],
        )
    }

    fn page(figures: &[KindFigures]) -> String {
        let health = Health {
            verdict: Verdict::Degraded,
            since: None,
            at: None,
            reasons: Vec::new(),
        };
        render(&Page {
            health: &health,
            queues: &[],
            figures,
            tree: &tree(),
            running: 2,
            prefetched: 0,
            blocked_threads: 0,
            stuck_threads: 0,
            broker_away: Some(Duration::from_millis(1_500)),
            snapshots_waiting: 0,
            now: Timestamp::EPOCH,
        })
    }

    #[test]
    fn every_family_has_help_and_type_and_stands_together() {
        let text = page(&[]);
        let mut known: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(!known.contains(&name), "{name} twice");
                known.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(known.last(), Some(&name), "{line}");
            }
        }
        assert!(text.contains("celeriac_health{verdict=\"degraded\"} 1\n"));
        assert!(text.contains("celeriac_worker_restarts_total{child=\"work/lane-0\"} 3\n"));
        assert!(text.contains("celeriac_worker_broker_away_seconds 1.5\n"));
    }

    #[test]
    fn histograms_are_cumulative_and_hostile_labels_escaped() {
        let figures = KindFigures {
            queue: QueueName::new("billing").unwrap(),
            task: "a\"b\\c\nd\u{7}".to_owned(),
            sum: Sum {
                run: Spread {
                    buckets: vec![1, 0, 2],
                    sum_us: 2_500_001,
                },
                ..Sum::default()
            },
        };
        let text = page(&[figures]);
        let label = "{queue=\"billing\",task=\"a\\\"b\\\\c\\nd\u{fffd}\"";
        for line in [
            format!("celeriac_task_run_seconds_bucket{label},le=\"0.0005\"}} 1"),
            format!("celeriac_task_run_seconds_bucket{label},le=\"0.0025\"}} 3"),
            format!("celeriac_task_run_seconds_bucket{label},le=\"+Inf\"}} 3"),
            format!("celeriac_task_run_seconds_sum{label}}} 2.500001"),
            format!("celeriac_task_run_seconds_count{label}}} 3"),
        ] {
            assert!(
                text.lines().any(|it| it == line),
                "{line} is not in\n{text}"
            );
        }
    }
}
