//! Commands: kinds of tasks that programs run, from `[[command]]` sections or from words.
//!
//! Pure. Every wrong key of every section is reported with its own place. In a variable only `name=program` can be said.

use std::time::Duration;

use celeriac_actors::ids::NameError;

use super::keys::{QUEUE_NAME_RULE, queue_name_fault};
use super::place::Position;
use super::value::{Fault, Node, Raw};
use crate::command::{Command, Template};
use crate::suggest;

/// The keys of a section.
const KEYS: [&str; 10] = [
    "name",
    "program",
    "args",
    "env",
    "cwd",
    "queue",
    "soft_limit",
    "hard_limit",
    "max_attempts",
    "retry_codes",
];

/// Reads commands, in their order. No two have the same name.
pub(super) fn commands(raw: &Raw) -> Result<Vec<Command>, Vec<Fault>> {
    let each: Vec<Result<Command, Vec<Fault>>> = match raw {
        Raw::Words(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(in_words)
            .collect(),
        Raw::List(nodes) => nodes.iter().map(in_file).collect(),
        _ => return Err(vec![Fault::of(raw)]),
    };
    let (mut commands, mut faults) = (Vec::<Command>::new(), Vec::new());
    for one in each {
        match one {
            Ok(command) if commands.iter().any(|other| other.name == command.name) => {
                let found = format!("found two commands called `{}`", command.name);
                faults.push(Fault::new(found));
            }
            Ok(command) => commands.push(command),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() {
        Ok(commands)
    } else {
        Err(faults)
    }
}

fn in_words(text: &str) -> Result<Command, Vec<Fault>> {
    let wrong = || vec![Fault::new(format!("found {text:?}, which has no `=`"))];
    let (name, program) = text.split_once('=').ok_or_else(wrong)?;
    if program.is_empty() {
        return Err(vec![Fault::new(format!(
            "found {text:?}, without a program"
        ))]);
    }
    Command::new(name, program).map_err(|error| vec![Fault::new(unusable(name, &error))])
}

fn unusable(name: &str, error: &NameError) -> String {
    format!("found the name {name:?}: {error}")
}

/// Reads one section.
struct Section {
    at: Position,
    faults: Vec<Fault>,
}

impl Section {
    fn fault(&mut self, at: Position, found: String) {
        let at = Some(at);
        self.faults.push(Fault {
            at,
            ..Fault::new(found)
        });
    }

    fn wrong(&mut self, key: &str, node: &Node, wanted: &str) {
        let found = format!("`{key}`: found {} instead of {wanted}", node.raw.describe());
        self.fault(node.at, found);
    }

    fn text(&mut self, key: &str, node: &Node) -> Option<String> {
        match &node.raw {
            Raw::Text(text) if !text.is_empty() && !text.contains('\0') => Some(text.clone()),
            _ => {
                self.wrong(key, node, "a text");
                None
            }
        }
    }

    fn span(&mut self, key: &str, node: &Node) -> Option<Duration> {
        let text = node.raw.text().map(humantime::parse_duration);
        match text {
            Some(Ok(span)) if !span.is_zero() => Some(span),
            _ => {
                self.wrong(key, node, "a time such as \"30s\"");
                None
            }
        }
    }

    fn number<N: TryFrom<i64>>(&mut self, key: &str, node: &Node, wanted: &str) -> Option<N> {
        let number = match &node.raw {
            Raw::Integer(number) => N::try_from(*number).ok(),
            _ => None,
        };
        if number.is_none() {
            self.wrong(key, node, wanted);
        }
        number
    }

    fn list<'a>(&mut self, key: &str, node: &'a Node) -> &'a [Node] {
        match &node.raw {
            Raw::List(nodes) => nodes,
            _ => {
                self.wrong(key, node, "a list");
                &[]
            }
        }
    }

    fn args(&mut self, node: &Node) -> Vec<Template> {
        let mut args = Vec::new();
        for one in self.list("args", node) {
            match one.raw.text().map(Template::new) {
                Some(Ok(template)) => args.push(template),
                Some(Err(error)) => self.fault(one.at, error.to_string()),
                None => self.wrong("args", one, "a text"),
            }
        }
        args
    }

    fn env(&mut self, node: &Node) -> Vec<(String, String)> {
        let Raw::Table(entries) = &node.raw else {
            self.wrong("env", node, "a section");
            return Vec::new();
        };
        let mut env = Vec::new();
        for (name, _, value) in entries {
            match value.raw.text() {
                Some(text) if !text.contains('\0') && !name.contains(['=', '\0']) => {
                    env.push((name.clone(), text.to_owned()));
                }
                // Not what was found: it may be secret.
                _ => self.fault(value.at, format!("`env`: the value of `{name}` is no text")),
            }
        }
        env
    }

    fn queue(&mut self, node: &Node) -> Option<String> {
        let name = self.text("queue", node)?;
        match queue_name_fault(&name) {
            None => Some(name),
            Some(fault) => {
                self.faults.push(Fault {
                    at: Some(node.at),
                    allowed: Some(QUEUE_NAME_RULE.into()),
                    ..Fault::new(format!("`queue`: found {fault}"))
                });
                None
            }
        }
    }
}

fn in_file(node: &Node) -> Result<Command, Vec<Fault>> {
    let mut section = Section {
        at: node.at,
        faults: Vec::new(),
    };
    let Raw::Table(entries) = &node.raw else {
        section.wrong("command", node, "a section");
        return Err(section.faults);
    };
    let find = |key: &str| entries.iter().find(|(name, ..)| name == key);
    let text = |section: &mut Section, key: &str| {
        let Some((_, _, node)) = find(key) else {
            let found = format!("found a command without `{key}`");
            section.fault(section.at, found);
            return None;
        };
        section.text(key, node)
    };
    let (name, program) = (text(&mut section, "name"), text(&mut section, "program"));
    let mut command = match (name, program) {
        (Some(name), Some(program)) => match Command::new(&name, program) {
            Ok(command) => Some(command),
            Err(error) => {
                section.fault(node.at, unusable(&name, &error));
                None
            }
        },
        _ => None,
    };
    let mut spare = Command::new("spare", "").ok();
    for (key, at, node) in entries {
        let Some(command) = command.as_mut().or(spare.as_mut()) else {
            break;
        };
        match key.as_str() {
            "name" | "program" => {}
            "args" => command.args = section.args(node),
            "env" => command.env = section.env(node),
            "cwd" => command.cwd = section.text(key, node).map(Into::into),
            "queue" => command.queue = section.queue(node).unwrap_or_default(),
            "soft_limit" => command.limits.soft = section.span(key, node),
            "hard_limit" => command.limits.hard = section.span(key, node),
            "max_attempts" => {
                let count = section.number(key, node, "a whole number from 1 to 65535");
                command.limits.max_attempts = count.filter(|count| *count > 0);
                if count == Some(0) {
                    section.wrong(key, node, "a whole number from 1 to 65535");
                }
            }
            "retry_codes" => {
                let codes = section.list(key, node).iter();
                let codes: Vec<Option<u8>> = codes
                    .map(|code| section.number(key, code, "an exit code from 1 to 255"))
                    .collect();
                command.retry_codes = codes.into_iter().flatten().map(i32::from).collect();
            }
            other => {
                section.faults.push(Fault {
                    at: Some(*at),
                    allowed: Some(KEYS.join(", ")),
                    hint: suggest::did_you_mean(other, KEYS),
                    ..Fault::new(format!("found the unknown key {other:?}"))
                });
            }
        }
    }
    match command {
        Some(command) if section.faults.is_empty() => Ok(command),
        _ => Err(section.faults),
    }
}
