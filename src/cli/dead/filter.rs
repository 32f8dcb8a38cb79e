//! The filters of every command about dead letters.

use celeriac_actors::fingerprint::Fingerprint;
use celeriac_actors::ids::{QueueName, TaskName};
use celeriac_actors::ports::{DeadFilter, DeadStatus};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, value_parser};

use super::super::when::When;

/// Which dead letters are meant.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filters {
    /// Only those that died in this queue.
    #[arg(long, value_name = "QUEUE")]
    pub(super) queue: Option<QueueName>,
    /// Only tasks of this kind.
    #[arg(long, value_name = "TASK")]
    pub(super) task: Option<TaskName>,
    /// Only those that died for this reason.
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    pub(super) reason: Option<DeadReason>,
    /// Only those in this status.
    #[arg(long, value_name = "STATUS", value_parser = statuses())]
    pub(super) status: Option<DeadStatus>,
    /// Only those that died of the same: a fingerprint, as `dead clusters` prints it.
    #[arg(long, value_name = "FINGERPRINT")]
    pub(super) fingerprint: Option<Fingerprint>,
    /// Only those that were buried at this instant or later: RFC 3339, a day, or an age such as `2h`.
    #[arg(long, value_name = "WHEN")]
    pub(super) since: Option<When>,
    /// Only those that were buried before this instant.
    #[arg(long, value_name = "WHEN")]
    pub(super) until: Option<When>,
    /// At most so many, the newest first (`purge`: the oldest first).
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
}

impl Filters {
    /// Returns whether something is asked for that not every letter has.
    pub(super) fn narrows(&self) -> bool {
        let Self {
            queue,
            task,
            reason,
            status,
            fingerprint,
            since,
            until,
            limit: _,
        } = self;
        queue.is_some()
            || task.is_some()
            || reason.is_some()
            || status.is_some()
            || fingerprint.is_some()
            || since.is_some()
            || until.is_some()
    }

    /// Returns the filter as the store knows it, seen from `now`.
    pub(super) fn resolve(&self, now: Timestamp) -> DeadFilter {
        DeadFilter {
            queue: self.queue.clone(),
            task: self.task.clone(),
            id: None,
            reason: self.reason,
            status: self.status,
            fingerprint: self.fingerprint,
            since: self.since.map(|since| since.instant(now)),
            until: self.until.map(|until| until.instant(now)),
        }
    }
}

fn reasons() -> impl TypedValueParser<Value = DeadReason> {
    PossibleValuesParser::new(DeadReason::ALL.map(DeadReason::as_str))
        .try_map(|name| name.parse::<DeadReason>())
}

fn statuses() -> impl TypedValueParser<Value = DeadStatus> {
    PossibleValuesParser::new(DeadStatus::ALL.map(DeadStatus::as_str)).try_map(|name| {
        let named = DeadStatus::ALL.into_iter();
        let mut named = named.filter(|status| status.as_str() == name);
        named.next().ok_or_else(|| format!("{name:?} is no status"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::dead::describe;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        filters: Filters,
    }

    #[test]
    fn a_filter_is_described_as_it_was_typed() {
        let words = "x --queue billing --reason exhausted --since 2h --limit 3";
        let line = Line::try_parse_from(words.split(' ')).unwrap();
        assert!(line.filters.narrows());
        let filter = line.filters.resolve(Timestamp::from_millis(7_200_000));
        assert_eq!(
            describe(&filter),
            "queue=billing reason=exhausted since=1970-01-01T00:00:00.000Z"
        );
        let limited = Line::try_parse_from(["x", "--limit", "3"]).unwrap();
        assert!(!limited.filters.narrows(), "a limit chooses nothing");
        assert_eq!(describe(&DeadFilter::default()), "all");
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_meant() {
        for (words, hint) in [
            ("x --reason exhuasted", "'exhausted'"),
            ("x --status reviveng", "'reviving'"),
            ("x --queue a/b", "letters, digits"),
            ("x --fingerprint 9f3a", "sixteen hexadecimal digits"),
            ("x --since 25:00", "an age such as 2h"),
            ("x --limit 0", "not in 1.."),
        ] {
            let error = Line::try_parse_from(words.split(' '))
                .unwrap_err()
                .to_string();
            assert!(error.contains(hint), "{words}: {error}");
        }
    }
}
