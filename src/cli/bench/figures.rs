//! What was found, as one JSON object or as a table.

use serde::Serialize;

use super::backlog::{Behind, Scheduled};
use super::machine::Machine;
use super::stage::{Latency, Took};
use crate::cli::output;

/// The broker that was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) kind: &'static str,
    pub(super) version: Option<String>,
    pub(super) durability: &'static str,
}

/// How it was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Setup {
    pub(super) tasks: u64,
    pub(super) payload: usize,
    pub(super) batch: u64,
    pub(super) rate: u32,
    pub(super) concurrency: usize,
    pub(super) lanes: usize,
    pub(super) rounds: u32,
}

/// Everything that was found. `None` is what was not measured, or what this broker has not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) enqueue_per_s: f64,
    pub(super) lifecycle_per_s: f64,
    pub(super) raw_lifecycle_per_s: Option<f64>,
    pub(super) ratio_to_raw: Option<f64>,
    pub(super) latency_p50_us: f64,
    pub(super) latency_p99_us: f64,
    pub(super) latency_max_us: f64,
    pub(super) stored_bytes_per_task: f64,
    pub(super) scheduled_bytes_per_task: f64,
    pub(super) daemon_cpu_us_per_task: f64,
    pub(super) server_cpu_us_per_task: Option<f64>,
    /// Scripts that the server ran for each thousand tasks, those of its other clients included.
    pub(super) server_calls_per_1000_tasks: Option<f64>,
    /// Every round's lifecycles a second; the figure above is their median.
    pub(super) lifecycle_rounds: Vec<f64>,
    pub(super) raw_lifecycle_rounds: Vec<f64>,
    pub(super) behind: Option<Behind>,
    pub(super) scheduled: Option<Scheduled>,
    pub(super) broker: Measured,
    pub(super) setup: Setup,
    pub(super) machine: Machine,
}

/// The rounds of a measurement.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) shipped: Vec<Took>,
    pub(super) raw: Vec<std::time::Duration>,
}

impl Figures {
    /// Puts in what the rounds took, each of `tasks` tasks.
    pub(super) fn lifecycles(&mut self, rounds: &Rounds, tasks: u64) {
        let per_s = |time: &std::time::Duration| tasks as f64 / time.as_secs_f64();
        self.lifecycle_rounds = rounds
            .shipped
            .iter()
            .map(|took| per_s(&took.time))
            .collect();
        self.raw_lifecycle_rounds = rounds.raw.iter().map(per_s).collect();
        self.lifecycle_per_s = median(&self.lifecycle_rounds).unwrap_or_default();
        self.raw_lifecycle_per_s = median(&self.raw_lifecycle_rounds);
        self.ratio_to_raw = self
            .raw_lifecycle_per_s
            .map(|raw| self.lifecycle_per_s / raw);
        let all = tasks as f64 * rounds.shipped.len() as f64;
        let own: std::time::Duration = rounds.shipped.iter().map(|took| took.own).sum();
        let server: Option<std::time::Duration> =
            rounds.shipped.iter().map(|took| took.server).sum();
        let calls: Option<u64> = rounds.shipped.iter().map(|took| took.calls).sum();
        self.daemon_cpu_us_per_task = own.as_secs_f64() * 1e6 / all;
        self.server_cpu_us_per_task = server.map(|time| time.as_secs_f64() * 1e6 / all);
        self.server_calls_per_1000_tasks = calls.map(|calls| calls as f64 * 1e3 / all);
    }

    /// Puts in latencies.
    pub(super) fn latency(&mut self, latency: Latency) {
        self.latency_p50_us = latency.p50;
        self.latency_p99_us = latency.p99;
        self.latency_max_us = latency.max;
    }

    /// Prints it for people.
    pub(super) fn print(&self) {
        let Setup {
            tasks,
            payload,
            batch,
            rate,
            concurrency,
            lanes,
            rounds,
        } = self.setup;
        let Measured {
            kind,
            version,
            durability,
        } = &self.broker;
        let version = version.as_deref().unwrap_or_default();
        output::line(&format!(
            "{kind} {version} ({durability}), {tasks} tasks of {payload} bytes, {batch} a call, concurrency {concurrency} \
             on {lanes} lanes, median of {rounds}"
        ));
        output::line(&self.machine.line());
        output::line("");
        let per_s = |rate: f64| format!("{rate:.0}/s");
        let us = |us: f64| format!("{us:.2} µs");
        let mut rows = vec![
            ("enqueue alone", per_s(self.enqueue_per_s)),
            (
                "lifecycle, enqueue to settlement",
                per_s(self.lifecycle_per_s),
            ),
        ];
        if let (Some(raw), Some(ratio)) = (self.raw_lifecycle_per_s, self.ratio_to_raw) {
            rows.push(("the same without the runtime", per_s(raw)));
            rows.push(("ratio to that", format!("{ratio:.2}")));
        }
        let latency = format!(
            "p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs",
            self.latency_p50_us, self.latency_p99_us, self.latency_max_us
        );
        let at = format!("enqueue to start at {rate}/s");
        let stored = format!(
            "{:.0} ready, {:.0} scheduled",
            self.stored_bytes_per_task, self.scheduled_bytes_per_task
        );
        rows.push((&at, latency));
        rows.push(("bytes a task", stored));
        rows.push((
            "CPU of this process a task",
            us(self.daemon_cpu_us_per_task),
        ));
        if let Some(server) = self.server_cpu_us_per_task {
            rows.push(("CPU of the server a task", us(server)));
        }
        for (what, figure) in rows.into_iter().chain(self.of_backlogs()) {
            output::line(&format!("{what:<36}{figure}"));
        }
    }

    fn of_backlogs(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(behind) = self.behind {
            rows.push((
                "with a backlog of ready tasks",
                format!(
                    "{:.0}/s and {:.2} µs of CPU with {} behind, {:.2} µs with 1,000: {:.2} times",
                    behind.lifecycle_per_s,
                    behind.cpu_us_per_task,
                    behind.ready,
                    behind.few_cpu_us_per_task,
                    behind.cost_ratio
                ),
            ));
        }
        if let Some(scheduled) = self.scheduled {
            rows.push((
                "scheduled tasks",
                format!(
                    "{} wait at {:.2} % of a core; due, {:.0}/s ready and {:.0}/s done",
                    scheduled.tasks,
                    scheduled.idle_cpu_percent,
                    scheduled.ready_per_s,
                    scheduled.done_per_s
                ),
            ));
        }
        rows
    }
}

/// Returns the middle one, the lower of two.
fn median(of: &[f64]) -> Option<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_one_of_them() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[3.0, 1.0]), Some(1.0));
        assert_eq!(median(&[]), None);
    }
}
