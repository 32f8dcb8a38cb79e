//! Keys: what one configuration key is. The rows themselves are in `table.rs`.
//!
//! Everything that knows a key by name learns it here: reading the file, the environment and the flags, the
//! suggestions, `config show`, the starter file and the documentation. A key that is not in the table does not exist.

use std::time::Duration;

use celeriac_actors::ids::TaskName;

use super::table::TABLE;
use super::target::Scheme;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A path of the file system, taken as it is.
    Path,
    /// A broker's or a store's URL.
    Url(Scheme),
    /// An address to listen on: an IP address and a port.
    Address,
    /// A bearer token, which never shows.
    Secret,
    /// A whole number within both bounds.
    Count(u64, u64),
    /// A span of time within both bounds, such as `12s`.
    Span(Duration, Duration),
    /// A size in bytes within both bounds, such as `1MiB`.
    Size(u64, u64),
    /// A share from 0 to 1.
    Share,
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Names of queues.
    Queues,
    /// Names of hosts.
    Hosts,
    /// Patterns with their queues.
    Routes,
    /// Programs that are tasks.
    Commands,
}

/// What holds when nobody says anything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Preset {
    /// This value, as it would be typed.
    Fixed(&'static str),
    /// Nothing, which means what the words say.
    Unset(&'static str),
    /// A value that follows from the machine and from other keys: the rule in words, and the rule.
    Derived(&'static str, fn(&Facts) -> String),
}

/// What derived defaults follow from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// How many cores this process may use.
    pub(super) cores: usize,
    /// The lease in force.
    pub(super) lease: Duration,
    /// Whether the environment is production.
    pub(super) production: bool,
    /// Whether the store is a server rather than a file of ours.
    pub(super) remote_store: bool,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Key {
    /// The path in the file; `*` stands for the name of a queue, of a task or of a breaker.
    pub(super) path: &'static str,
    /// What the value may be.
    pub(super) kind: Kind,
    /// What holds when nobody says anything.
    pub(super) preset: Preset,
    /// The flag of the command line that sets it, if one does.
    pub(super) flag: Option<&'static str>,
    /// A value for the starter file and the messages, as it would be typed.
    pub(super) example: &'static str,
    /// What it means, in a sentence or two.
    pub(super) doc: &'static str,
}

impl Key {
    /// Tells whether values may hold a secret.
    pub(super) fn secret(&self) -> bool {
        matches!(self.kind, Kind::Url(_) | Kind::Secret)
    }

    /// Splits the path at its `*`: the parts around the name; `None` for a key without one.
    pub(super) fn around_name(&self) -> Option<(&'static str, &'static str)> {
        self.path.split_once('*')
    }

    /// Returns the environment variable; a `*` becomes `<NAME>`.
    pub(super) fn env(&self) -> String {
        match self.around_name() {
            None => env_name(self.path),
            Some((before, after)) => format!("{}<NAME>{}", env_name(before), env_form(after)),
        }
    }
}

/// Returns the environment variable of a path: `CELERIAC_` and the path in capitals, with `_` for all but letters and digits.
pub(super) fn env_name(path: &str) -> String {
    format!("CELERIAC_{}", env_form(path))
}

/// Returns how a name is written within the name of a variable.
pub(super) fn env_form(name: &str) -> String {
    let capital = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    };
    name.chars().map(capital).collect()
}

/// A key with the name that stands for its `*`: one place where a value may be.
///
/// Ordered as the table is, then by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    row: usize,
    /// The queue, task or breaker, for a key with a `*`.
    pub(super) name: Option<String>,
}

impl Slot {
    /// Returns the place of the key at `path`, which may hold a `*`.
    pub(super) fn find(path: &str, name: Option<&str>) -> Option<Self> {
        let row = TABLE.iter().position(|key| key.path == path)?;
        let name = name.map(str::to_owned);
        (TABLE[row].around_name().is_some() == name.is_some()).then_some(Self { row, name })
    }

    /// Returns the key.
    pub(super) fn key(&self) -> &'static Key {
        &TABLE[self.row]
    }

    /// Returns the path as it is written in the file, names with dots in quotes.
    pub(super) fn path(&self) -> String {
        match (self.key().around_name(), &self.name) {
            (Some((before, after)), Some(name)) => format!("{before}{}{after}", quoted(name)),
            _ => self.key().path.to_owned(),
        }
    }

    /// Returns the environment variable.
    pub(super) fn env(&self) -> String {
        match (self.key().around_name(), &self.name) {
            (Some((before, after)), Some(name)) => env_name(&format!("{before}{name}{after}")),
            _ => self.key().env(),
        }
    }
}

/// Returns a name as a TOML key: bare where it can be, in quotes otherwise.
pub(super) fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.escape_debug())
    }
}

/// Says why `name` cannot name a queue; `None` when it can.
pub(super) fn queue_name_fault(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name {
        DEAD_LETTER => Some(
            "`dead_letter`, which is reserved: the broker keeps dead tasks there until they are stored".into(),
        ),
        "" => Some("an empty queue name".into()),
        _ if name.len() > 64 => Some(format!("a queue name of {} bytes", name.len())),
        _ => name
            .chars()
            .find(|c| !allowed(*c))
            .map(|c| format!("a queue name with the character {c:?}")),
    }
}

/// Says why `name` cannot name a task; `None` when it can.
pub(super) fn task_name_fault(name: &str) -> Option<String> {
    let fault = TaskName::new(name).err()?;
    Some(format!("{name:?}: {fault}"))
}

/// Says which queue names there can be.
pub(super) const QUEUE_NAME_RULE: &str = "1 to 64 of the letters A-Z a-z, digits and `_` `.` `-`";

/// The queue that only the broker fills.
pub(super) const DEAD_LETTER: &str = "dead_letter";

/// The queues that exist without any configuration.
pub const BUILT_IN_QUEUES: [&str; 4] = ["billing", "default", "kyb", "notifications"];
