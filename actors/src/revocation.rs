//! Revocations: which tasks are not to run, how brokers store that, and what a consumer knows of it.
//!
//! One task is revoked by its id, all of a kind or of a header by a rule. A rule names an instant and means tasks that were
//! enqueued until then, so that what comes later runs: a rule is tested when a task is about to start, never by going
//! through the lists. A revived task is as old as it was in its first life.

use std::collections::HashMap;
use std::fmt;

use crate::envelope::Envelope;
use crate::header::Header;
use crate::ids::{TaskId, TaskName};
use crate::time::Timestamp;

/// Which tasks are revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// One task.
    Id(TaskId),
    /// All of a kind that were enqueued until then, by their producers' clocks.
    Task {
        /// The kind.
        name: TaskName,
        /// The last instant of enqueueing that is meant.
        until: Timestamp,
    },
    /// All with this header that were enqueued until then, by their producers' clocks.
    Header {
        /// Its key.
        key: String,
        /// Its whole value.
        value: String,
        /// The last instant of enqueueing that is meant.
        until: Timestamp,
    },
}

impl Selector {
    /// Returns whether a task is meant.
    #[must_use]
    pub fn is_of(&self, header: &Header, envelope: &Envelope) -> bool {
        match self {
            Self::Id(id) => header.id == *id,
            Self::Task { name, until } => envelope.task == *name && header.enqueued_at <= *until,
            Self::Header { key, value, until } => {
                envelope.headers.get(key) == Some(value) && header.enqueued_at <= *until
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Task { name, until } => write!(f, "task {name} until {until}"),
            Self::Header { key, value, until } => {
                write!(f, "header {key}={value} until {until}")
            }
        }
    }
}

/// That tasks are not to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revocation {
    /// Which ones.
    pub of: Selector,
    /// Whether attempts that run are ended, as opposed to asked to stop.
    pub terminate: bool,
}

impl Revocation {
    /// Revokes one task; an attempt that runs is asked to stop.
    #[must_use]
    pub const fn id(task: TaskId) -> Self {
        Self::new(Selector::Id(task))
    }

    /// Revokes what a selector says; attempts that run are asked to stop.
    #[must_use]
    pub const fn new(of: Selector) -> Self {
        let terminate = false;
        Self { of, terminate }
    }

    /// Ends attempts that run.
    #[must_use]
    pub const fn terminate(mut self) -> Self {
        self.terminate = true;
        self
    }

    /// Returns the text under which brokers remember it: the id as hex, or what begins with no hex digit. Two that differ
    /// have different ones.
    #[must_use]
    pub fn key(&self) -> String {
        let mark = if self.terminate { '!' } else { '-' };
        match &self.of {
            Selector::Id(id) if self.terminate => format!("!{}", id.as_uuid().simple()),
            Selector::Id(id) => id.as_uuid().simple().to_string(),
            Selector::Task { name, until } => format!("t{mark}{:020}:{name}", until.as_millis()),
            Selector::Header { key, value, until } => {
                let (until, len) = (until.as_millis(), key.len());
                format!("h{mark}{until:020}:{len}:{key}{value}")
            }
        }
    }

    /// Reads what [`key`](Self::key) wrote; `None` for anything else.
    #[must_use]
    pub fn from_key(text: &str) -> Option<Self> {
        let of_id = |hex: &str| {
            let id = uuid::Uuid::try_parse(hex)
                .ok()
                .filter(|_| hex.len() == 32)?;
            Some(Selector::Id(TaskId::from(id)))
        };
        let (of, terminate) = match text.as_bytes().first()? {
            b'!' => (of_id(&text[1..])?, true),
            b't' | b'h' => {
                let terminate = match text.as_bytes().get(1)? {
                    b'!' => true,
                    b'-' => false,
                    _ => return None,
                };
                let (until, rest) = text.get(2..)?.split_once(':')?;
                let until = Timestamp::from_millis(until.parse().ok()?);
                let of = if text.starts_with('t') {
                    let name = TaskName::new(rest).ok()?;
                    Selector::Task { name, until }
                } else {
                    let (len, rest) = rest.split_once(':')?;
                    let (key, value) = rest.split_at_checked(len.parse().ok()?)?;
                    let (key, value) = (key.to_owned(), value.to_owned());
                    Selector::Header { key, value, until }
                };
                (of, terminate)
            }
            _ => (of_id(text)?, false),
        };
        Some(Self { of, terminate })
    }
}

/// What a revocation means for a task that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Revoked {
    /// It does not start; an attempt is asked to stop.
    Asked,
    /// It does not start; an attempt is ended.
    Terminated,
}

/// Until when a rule means tasks: all in all, and those whose attempts are ended.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    asked: Option<Timestamp>,
    terminated: Option<Timestamp>,
}

impl Reach {
    fn extend(&mut self, until: Timestamp, terminate: bool) {
        let reach = if terminate {
            &mut self.terminated
        } else {
            &mut self.asked
        };
        *reach = (*reach).max(Some(until));
    }

    fn over(self, enqueued_at: Timestamp) -> Option<Revoked> {
        let meant = |until: Option<Timestamp>| until.is_some_and(|until| enqueued_at <= until);
        if meant(self.terminated) {
            Some(Revoked::Terminated)
        } else {
            meant(self.asked).then_some(Revoked::Asked)
        }
    }
}

/// The revocations of one queue, as its consumers look them up.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    ids: HashMap<TaskId, Revoked>,
    tasks: HashMap<TaskName, Reach>,
    headers: HashMap<String, HashMap<String, Reach>>,
}

impl Revocations {
    /// Returns what is known of a task by its id alone.
    pub(crate) fn of_id(&self, id: TaskId) -> Option<Revoked> {
        self.ids.get(&id).copied()
    }

    /// Returns what is known of a task.
    pub(crate) fn of(&self, header: &Header, envelope: &Envelope) -> Option<Revoked> {
        let of_task = self.tasks.get(&envelope.task);
        let of_headers = self.headers.iter().filter_map(|(key, values)| {
            let value = envelope.headers.get(key)?;
            values.get(value)
        });
        let rules = of_task.into_iter().chain(of_headers);
        let of_rules = rules.filter_map(|reach| reach.over(header.enqueued_at));
        of_rules.chain(self.of_id(header.id)).max()
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<I: IntoIterator<Item = Revocation>>(all: I) -> Self {
        let mut known = Self::default();
        for Revocation { of, terminate } in all {
            match of {
                Selector::Id(id) => {
                    let revoked = if terminate {
                        Revoked::Terminated
                    } else {
                        Revoked::Asked
                    };
                    let of_id = known.ids.entry(id).or_insert(revoked);
                    *of_id = (*of_id).max(revoked);
                }
                Selector::Task { name, until } => {
                    known
                        .tasks
                        .entry(name)
                        .or_default()
                        .extend(until, terminate);
                }
                Selector::Header { key, value, until } => {
                    let values = known.headers.entry(key).or_default();
                    values.entry(value).or_default().extend(until, terminate);
                }
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::Priority;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn name(text: &str) -> TaskName {
        TaskName::new(text).unwrap()
    }

    fn header(id: u8, enqueued_at: u64) -> Header {
        Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 0,
            strikes: 0,
            attempts: 0,
            id: TaskId::from_bytes([id; 16]),
            enqueued_at: at(enqueued_at),
            expires_at: None,
        }
    }

    fn with_header(task: &str, key: &str, value: &str) -> Envelope {
        let mut envelope = Envelope::new(name(task));
        envelope.headers.insert(key.to_owned(), value.to_owned());
        envelope
    }

    #[test]
    fn a_rule_means_what_was_enqueued_until_its_instant() {
        let of = Selector::Task {
            name: name("a"),
            until: at(100),
        };
        let known: Revocations = [Revocation::new(of)].into_iter().collect();
        let of_task = |task, time| known.of(&header(1, time), &Envelope::new(name(task)));
        assert_eq!(of_task("a", 100), Some(Revoked::Asked));
        assert_eq!(of_task("a", 101), None);
        assert_eq!(of_task("b", 1), None);
        assert_eq!(known.of_id(TaskId::from_bytes([1; 16])), None);
    }

    #[test]
    fn a_header_is_met_by_key_and_whole_value() {
        let of = Selector::Header {
            key: "tenant".to_owned(),
            value: "7".to_owned(),
            until: at(100),
        };
        let known: Revocations = [Revocation::new(of).terminate()].into_iter().collect();
        let of = |key, value| known.of(&header(1, 5), &with_header("a", key, value));
        assert_eq!(of("tenant", "7"), Some(Revoked::Terminated));
        assert_eq!(of("tenant", "77"), None);
        assert_eq!(of("Tenant", "7"), None);
    }

    #[test]
    fn the_harder_one_of_several_holds_as_far_as_it_reaches() {
        let task = |until, terminate| Revocation {
            of: Selector::Task {
                name: name("a"),
                until: at(until),
            },
            terminate,
        };
        let id = Revocation::id(TaskId::from_bytes([9; 16]));
        let all = [task(50, true), task(100, false), task(20, true), id];
        let known: Revocations = all.into_iter().collect();
        let of = |id, time| known.of(&header(id, time), &Envelope::new(name("a")));
        assert_eq!(of(1, 50), Some(Revoked::Terminated));
        assert_eq!(of(1, 51), Some(Revoked::Asked));
        assert_eq!(of(9, 500), Some(Revoked::Asked));
        assert_eq!(of(8, 500), None);
    }

    proptest! {
        #[test]
        fn a_key_says_everything(id: [u8; 16], task in "[a-z:._-]{1,20}", key in ".{0,9}", value in ".{0,9}", ms: u64,
            terminate: bool, which in 0..3) {
            let until = at(ms);
            let of = match which {
                0 => Selector::Id(TaskId::from_bytes(id)),
                1 => Selector::Task { name: name(&task), until },
                _ => Selector::Header { key, value, until },
            };
            let revocation = Revocation { of, terminate };
            prop_assert_eq!(Revocation::from_key(&revocation.key()), Some(revocation));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,80}", rule in "[th!][!-].{0,40}") {
            for text in [text, rule] {
                if let Some(read) = Revocation::from_key(&text) {
                    prop_assert_eq!(Revocation::from_key(&read.key()), Some(read));
                }
            }
        }
    }
}
