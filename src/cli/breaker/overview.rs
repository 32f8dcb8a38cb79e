//! Circuit breakers as text.

use celeriac_actors::breaker::{BreakerState, BreakerView};
use celeriac_actors::ids::WorkerId;
use celeriac_actors::time::Timestamp;

use super::super::output::{self, plain, short};
use super::super::text::{span, when};
use crate::admin::breakers::{Breaker, Overview};

impl Overview {
    /// Draws those that `shown` picks; nothing when it picks none.
    pub(in crate::cli) fn table(&self, now: Timestamp, shown: impl Fn(&Breaker) -> bool) -> String {
        let rows: Vec<Vec<String>> = self
            .breakers
            .iter()
            .filter(|breaker| shown(breaker))
            .map(|breaker| breaker.row(now))
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        let head = [
            "BREAKER", "STATE", "SINCE", "CALLS", "FAILED", "PARKED", "TASKS", "CAUSE",
        ];
        output::table(&head, &rows)
    }
}

impl Breaker {
    fn row(&self, now: Timestamp) -> Vec<String> {
        let record = &self.record;
        let known = record.turn > 0;
        let names: Vec<&str> = self.tasks().iter().map(|task| task.as_str()).collect();
        vec![
            record.name.to_string(),
            self.state(now),
            if known {
                when(record.since, now)
            } else {
                "-".to_owned()
            },
            self.sum(|view| view.calls).to_string(),
            self.sum(|view| view.failures).to_string(),
            self.sum(|view| view.parked).to_string(),
            short(&names.join(","), 40),
            plain(&record.cause),
        ]
    }

    /// Returns its state in words: until when, where it is open.
    fn state(&self, now: Timestamp) -> String {
        let record = &self.record;
        match (record.state, record.remaining(now)) {
            (BreakerState::Open, None) => "open until closed".to_owned(),
            (BreakerState::Open, Some(left)) if left.is_zero() => "open, due".to_owned(),
            (BreakerState::Open, Some(left)) => format!("open for {}", span(left)),
            (state, _) => state.as_str().to_owned(),
        }
    }

    pub(super) fn sentence(&self, now: Timestamp) -> String {
        format!("{} is {}", self.record.name, self.state(now))
    }

    /// Draws everything that is known of it.
    pub(super) fn draw(&self, now: Timestamp) -> String {
        let record = &self.record;
        let mut lines = vec![format!("{:<10}{}", "breaker", record.name)];
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                lines.push(format!("{key:<10}{value}"));
            }
        };
        line("state", self.state(now));
        if record.turn > 0 {
            line("since", when(record.since, now));
            line("by", plain(&record.by));
            line("cause", plain(&record.cause));
            line("openings", record.openings.to_string());
        }
        let tasks: Vec<&str> = self.tasks().iter().map(|task| task.as_str()).collect();
        line("tasks", tasks.join(", "));
        let row = |(worker, view): &(WorkerId, BreakerView)| {
            vec![
                worker.to_string(),
                view.record.state.as_str().to_owned(),
                view.calls.to_string(),
                view.failures.to_string(),
                view.parked.to_string(),
            ]
        };
        if !self.workers.is_empty() {
            let rows: Vec<Vec<String>> = self.workers.iter().map(row).collect();
            let head = ["WORKER", "STATE", "CALLS", "FAILED", "PARKED"];
            lines.push(String::new());
            lines.push(output::table(&head, &rows));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use celeriac_actors::breaker::BreakerRecord;
    use celeriac_actors::ids::BreakerName;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn open(name: &str, length: Option<Duration>) -> BreakerRecord {
        let name = BreakerName::new(name).unwrap();
        BreakerRecord::closed(name).opened_by("ann@web", length, at(10_000))
    }

    #[test]
    fn a_table_shows_where_each_stands() {
        let held = open("bank", None);
        let timed = open("stripe", Some(Duration::from_secs(30)));
        let closed = timed.closed_by("ann@web", at(12_000)).unwrap();
        let records = [held, closed].map(|record| (record.name.clone(), record));
        let overview = Overview::of(records.into(), &[]);
        let table = overview.table(at(20_000), |_| true);
        let lines: Vec<&str> = table.lines().collect();
        assert!(
            lines[1].starts_with("bank     open until closed"),
            "{table}"
        );
        assert!(lines[1].contains("opened by hand"), "{table}");
        assert!(lines[2].starts_with("stripe   closed"), "{table}");
        let shut = overview.table(at(20_000), Breaker::is_shut);
        assert_eq!(shut.lines().count(), 2);
        let sentence = Breaker::new(timed).sentence(at(20_000));
        assert_eq!(sentence, "stripe is open for 20s");
    }
}
