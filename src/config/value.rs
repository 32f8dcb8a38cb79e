//! Values: what was typed, turned into what its key's kind asks for.
//!
//! Pure. Says what is wrong in words and never more than was typed; hiding secrets is up to the caller.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_actors::route::Route;
use serde_json::json;

use super::commands;
use super::keys::Kind;
use super::lists;
use super::place::Position;
use super::secret::Secret;
use super::target::Url;
use crate::command::Command;
use crate::suggest;

/// A value as typed: text of a variable or a flag, or what TOML made of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// Text without a type, from a variable, a flag or a default.
    Words(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML float.
    Float(f64),
    /// A TOML boolean.
    Switch(bool),
    /// A TOML array.
    List(Vec<Node>),
    /// A TOML table with its keys.
    Table(Vec<(String, Position, Node)>),
    /// Something else, named.
    Other(&'static str),
}

/// A value in the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// The value.
    pub(super) raw: Raw,
    /// Where it starts.
    pub(super) at: Position,
}

impl Raw {
    /// Returns what was found, in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Words(text) | Self::Text(text) => {
                let short: String = text.chars().take(80).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("{short:?}{dots}")
            }
            Self::Integer(number) => format!("the number {number}"),
            Self::Float(number) => format!("the number {number}"),
            Self::Switch(switch) => format!("{switch}"),
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a section".into(),
            Self::Other(what) => (*what).into(),
        }
    }

    /// Returns the text of a value that has one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Words(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Unset,
    /// Of [`Kind::Path`].
    Path(PathBuf),
    /// Of [`Kind::Url`].
    Url(Url),
    /// Of [`Kind::Address`].
    Address(SocketAddr),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::Count`].
    Count(u64),
    /// Of [`Kind::Span`].
    Span(Duration),
    /// Of [`Kind::Size`].
    Size(u64),
    /// Of [`Kind::Share`].
    Share(f64),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of [`Kind::Queues`].
    Queues(Vec<String>),
    /// Of [`Kind::Hosts`].
    Hosts(Vec<String>),
    /// Of [`Kind::Routes`], each with the place of its queue in the file.
    Routes(Vec<(Route, Option<Position>)>),
    /// Of [`Kind::Commands`], each with the place of its section in the file.
    Commands(Vec<(Command, Option<Position>)>),
}

impl Value {
    /// Returns the value as JSON: numbers and switches as such, sizes in bytes, spans and URLs as text, secrets hidden.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Unset => serde_json::Value::Null,
            Self::Count(number) | Self::Size(number) => json!(number),
            Self::Share(share) => json!(share),
            Self::Switch(switch) => json!(switch),
            Self::Queues(names) | Self::Hosts(names) => json!(names),
            Self::Routes(routes) => {
                json!(routes.iter().map(|(route, _)| route).collect::<Vec<_>>())
            }
            Self::Commands(commands) => {
                let pair = |(c, _): &(Command, _)| json!({ "name": c.name, "program": c.program });
                json!(commands.iter().map(pair).collect::<Vec<_>>())
            }
            text => json!(text.to_string()),
        }
    }
}

impl fmt::Display for Value {
    /// Writes the value as it would be typed, secrets hidden.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset => f.write_str("-"),
            Self::Path(path) => write!(f, "{}", path.display().to_string().escape_debug()),
            Self::Url(url) => url.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Secret(secret) => secret.fmt(f),
            Self::Count(number) => number.fmt(f),
            Self::Span(span) => humantime::format_duration(*span).fmt(f),
            Self::Size(bytes) => f.write_str(&size_text(*bytes)),
            Self::Share(share) => share.fmt(f),
            Self::Switch(switch) => switch.fmt(f),
            Self::Choice(word) => f.write_str(word),
            Self::Queues(names) | Self::Hosts(names) => f.write_str(&names.join(",")),
            Self::Routes(routes) => {
                let pairs = routes
                    .iter()
                    .map(|(r, _)| format!("{}={}", r.task, r.queue));
                f.write_str(&pairs.collect::<Vec<_>>().join(","))
            }
            Self::Commands(commands) => {
                let pairs = commands
                    .iter()
                    .map(|(c, _)| format!("{}={}", c.name, c.program.display()));
                f.write_str(&pairs.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// What is wrong with a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fault {
    /// Where in the file, when it is not the whole value.
    pub(super) at: Option<Position>,
    /// What was found; must not repeat a text that may be secret.
    pub(super) found: String,
    /// What is allowed, when the kind's own words do not say it.
    pub(super) allowed: Option<String>,
    /// What was probably meant.
    pub(super) hint: Option<String>,
}

impl Fault {
    /// Creates a fault that says what was found.
    pub(super) fn new(found: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            ..Self::default()
        }
    }

    /// Creates a fault that repeats what was typed.
    pub(super) fn of(raw: &Raw) -> Self {
        Self::new(format!("found {}", raw.describe()))
    }

    /// Says what was probably meant.
    pub(super) fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl Kind {
    /// Returns what is allowed, in words.
    pub(super) fn allowed(&self) -> String {
        let span = |d: &Duration| humantime::format_duration(*d).to_string().replace(' ', "");
        match self {
            Self::Path => "a path".into(),
            Self::Url(scheme) => scheme.allowed().into(),
            Self::Address => "an IP address with a port, such as \"127.0.0.1:7654\" or \"[::1]:0\"; port 0 takes a free one".into(),
            Self::Secret => Secret::RULE.into(),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Span(min, max) => {
                let (min, max) = (span(min), span(max));
                format!("a time from {min} to {max}, such as \"12s\", \"1m 30s\" or \"250ms\"")
            }
            Self::Size(min, max) => {
                let (min, max) = (size_text(*min), size_text(*max));
                format!("a size from {min} to {max}, such as \"512KiB\", \"1MiB\" or a number of bytes")
            }
            Self::Share => "a number from 0 to 1".into(),
            Self::Switch => "true or false".into(),
            Self::Choice(words) => words.join(", "),
            Self::Queues => "names of queues, such as [\"default\", \"billing\"] or default,billing".into(),
            Self::Hosts => "names of hosts, such as [\"celeriac.example.com\"] or one.example,two.example".into(),
            Self::Routes => {
                "`[[routes]]` sections with `task = \"pattern.*\"` and `queue = \"name\"`, or pattern=queue,…".into()
            }
            Self::Commands => {
                "`[[command]]` sections with `name = \"reports.nightly\"` and `program = \"/path\"`, or name=program,…"
                    .into()
            }
        }
    }

    /// Turns what was typed into a value, or says everything that is wrong with it.
    pub(super) fn parse(&self, raw: &Raw) -> Result<Value, Vec<Fault>> {
        match self {
            Self::Path => path(raw).map(Value::Path),
            Self::Url(scheme) => {
                let text = raw.text().ok_or_else(|| vec![Fault::of(raw)])?;
                return scheme.parse(text).map(Value::Url).map_err(|(wrong, hint)| {
                    vec![Fault::new(format!("found {wrong}")).hint(hint)]
                });
            }
            Self::Address => address(raw).map(Value::Address),
            Self::Secret => secret(raw).map(Value::Secret),
            Self::Count(min, max) => number(raw, *min, *max).map(Value::Count),
            Self::Span(min, max) => span(raw, *min, *max).map(Value::Span),
            Self::Size(min, max) => size(raw, *min, *max).map(Value::Size),
            Self::Share => share(raw).map(Value::Share),
            Self::Switch => switch(raw).map(Value::Switch),
            Self::Choice(words) => choice(raw, words).map(Value::Choice),
            Self::Queues => return lists::queues(raw).map(Value::Queues),
            Self::Hosts => return lists::hosts(raw).map(Value::Hosts),
            Self::Routes => return lists::routes(raw).map(Value::Routes),
            Self::Commands => return commands::commands(raw).map(Value::Commands),
        }
        .map_err(|fault| vec![fault])
    }
}

fn path(raw: &Raw) -> Result<PathBuf, Fault> {
    let text = raw.text().ok_or_else(|| Fault::of(raw))?;
    match text {
        "" => Err(Fault::new("found an empty path")),
        _ if text.contains('\0') => Err(Fault::new("found a path with a zero byte")),
        _ if text == "~" || text.starts_with("~/") => Err(Fault::of(raw).hint(Some(
            "`~` is for shells and not expanded here: write the whole path".into(),
        ))),
        _ => Ok(PathBuf::from(text)),
    }
}

fn address(raw: &Raw) -> Result<SocketAddr, Fault> {
    let text = raw.text().ok_or_else(|| Fault::of(raw))?.trim();
    let typed = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    typed.parse().map_err(|_| Fault::of(raw))
}

fn secret(raw: &Raw) -> Result<Secret, Fault> {
    // Never what was typed: it is meant to be a secret, however wrong it is.
    let text = raw
        .text()
        .ok_or_else(|| Fault::new("found no text, which is not repeated here"))?;
    Secret::new(text).map_err(Fault::new)
}

/// A number typed as text where TOML wants none.
fn without_quotes(text: &str) -> Option<String> {
    Some(format!("write it without quotes: {}", text.trim()))
}

fn number(raw: &Raw, min: u64, max: u64) -> Result<u64, Fault> {
    let number = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Words(text) => text.trim().parse().ok(),
        Raw::Text(text) if text.trim().parse::<u64>().is_ok() => {
            return Err(Fault::of(raw).hint(without_quotes(text)));
        }
        _ => None,
    };
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| Fault::of(raw))
}

fn span(raw: &Raw, min: Duration, max: Duration) -> Result<Duration, Fault> {
    let unitless = |number: String| {
        let fault = Fault::new(format!("found {}, a number without a unit", raw.describe()));
        Err(fault.hint(Some(format!("did you mean \"{number}s\"?"))))
    };
    let text = match raw {
        Raw::Integer(number) => return unitless(number.to_string()),
        Raw::Float(number) => return unitless(number.to_string()),
        Raw::Words(text) | Raw::Text(text) => text.trim(),
        _ => return Err(Fault::of(raw)),
    };
    if text != "0" && text.parse::<f64>().is_ok_and(f64::is_finite) {
        return unitless(text.to_owned());
    }
    match humantime::parse_duration(text) {
        Ok(span) if (min..=max).contains(&span) => Ok(span),
        Ok(_) => Err(Fault::of(raw)),
        Err(error) => Err(Fault::new(format!(
            "found {}: {}",
            raw.describe(),
            error.to_string().escape_debug()
        ))),
    }
}

const UNITS: [(&str, u64); 8] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

fn size_text(bytes: u64) -> String {
    let whole = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (name, unit) = UNITS[..4].iter().rev().find(whole).unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / unit)
}

fn size(raw: &Raw, min: u64, max: u64) -> Result<u64, Fault> {
    let mut hint = None;
    let bytes = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok(),
        Raw::Words(text) | Raw::Text(text) => {
            let text = text.trim();
            let split = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            let (digits, unit) = text.split_at(split);
            let known = |name: &&(&str, u64)| unit.trim() == name.0;
            hint = suggest::did_you_mean(unit.trim(), UNITS.iter().map(|(name, _)| *name));
            match (unit.trim(), UNITS.iter().find(known)) {
                ("", _) => digits.parse::<u64>().ok(),
                (_, Some((_, unit))) => {
                    hint = None;
                    digits
                        .parse::<u64>()
                        .ok()
                        .and_then(|n| n.checked_mul(*unit))
                }
                (_, None) => None,
            }
        }
        _ => None,
    };
    bytes
        .filter(|bytes| (min..=max).contains(bytes))
        .ok_or_else(|| Fault::of(raw).hint(hint))
}

fn share(raw: &Raw) -> Result<f64, Fault> {
    let share = match raw {
        Raw::Float(number) => Some(*number),
        Raw::Integer(0) => Some(0.0),
        Raw::Integer(1) => Some(1.0),
        Raw::Words(text) => text.trim().parse().ok(),
        Raw::Text(text) if text.trim().parse::<f64>().is_ok() => {
            return Err(Fault::of(raw).hint(without_quotes(text)));
        }
        _ => None,
    };
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| Fault::of(raw))
}

fn switch(raw: &Raw) -> Result<bool, Fault> {
    match raw {
        Raw::Switch(switch) => Ok(*switch),
        Raw::Words(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(Fault::of(raw)),
        },
        Raw::Text(text) if matches!(text.as_str(), "true" | "false") => {
            Err(Fault::of(raw).hint(without_quotes(text)))
        }
        _ => Err(Fault::of(raw)),
    }
}

fn choice(raw: &Raw, words: &'static [&'static str]) -> Result<&'static str, Fault> {
    let text = raw.text().ok_or_else(|| Fault::of(raw))?.trim();
    let typed = match text.to_ascii_lowercase().as_str() {
        "warn" => "warning".to_owned(),
        "crit" => "critical".to_owned(),
        "dev" => "development".to_owned(),
        "prod" => "production".to_owned(),
        other => other.to_owned(),
    };
    match words.iter().find(|word| **word == typed) {
        Some(word) => Ok(word),
        None => Err(Fault::of(raw).hint(suggest::did_you_mean(text, words.iter().copied()))),
    }
}
