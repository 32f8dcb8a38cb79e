//! Commands: kinds of tasks that programs run, from `[[command]]` sections or from words.
//!
//! Pure. Every wrong key of every section is reported with its own place. In a variable only `name=program` can be said.

use std::time::Duration;

use celeriac_actors::ids::NameError;

use super::command_checks::Placed;
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
pub(super) fn commands(raw: &Raw) -> Result<Vec<Placed>, Vec<Fault>> {
    let each: Vec<Result<Placed, Vec<Fault>>> = match raw {
        Raw::Words(text) => text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| Ok((in_words(part)?, None)))
            .collect(),
        Raw::List(nodes) => nodes
            .iter()
            .map(|node| Ok((in_file(node)?, Some(node.at))))
            .collect(),
        _ => return Err(vec![Fault::of(raw)]),
    };
    let (mut commands, mut faults) = (Vec::<Placed>::new(), Vec::new());
    for one in each {
        match one {
            Ok((command, at)) if commands.iter().any(|(other, _)| other.name == command.name) => {
                let found = format!("found two commands called `{}`", command.name);
                faults.push(Fault {
                    at,
                    allowed: Some("a name that no other command has".into()),
                    ..Fault::new(found)
                });
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
    if let Some(fault) = program_fault(program) {
        return Err(vec![fault]);
    }
    Command::new(name, program).map_err(|error| vec![Fault::new(unusable(name, &error))])
}

/// What a task says reaches its arguments alone: it does not choose the program.
fn program_fault(program: &str) -> Option<Fault> {
    program.contains("{{").then(|| Fault {
        allowed: Some(
            "a path or a name; placeholders are for `args`, which may name one of several programs to a script".into(),
        ),
        ..Fault::new(format!("`program`: found a placeholder in {program:?}"))
    })
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

    /// Reads a code that means another attempt; 0 is the end of one that succeeded.
    fn exit_code(&mut self, key: &str, node: &Node) -> Option<u8> {
        const WANTED: &str = "an exit code from 1 to 255 (0 is success)";
        let code = self.number(key, node, WANTED);
        if code == Some(0) {
            self.wrong(key, node, WANTED);
        }
        code.filter(|code| *code > 0)
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
        for (name, at, value) in entries {
            if name.is_empty() || name.contains(['=', '\0']) {
                let found = format!("`env`: {name:?} is no name of a variable");
                self.faults.push(Fault {
                    at: Some(*at),
                    allowed: Some("`NAME = \"value\"` in `[command.env]`".into()),
                    ..Fault::new(found)
                });
                continue;
            }
            match value.raw.text() {
                Some(text) if !text.contains('\0') => {
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

    /// Reads one key into `command`.
    fn key(&mut self, (key, at): (&str, Position), node: &Node, command: &mut Command) {
        match key {
            "name" | "program" => {}
            "args" => command.args = self.args(node),
            "env" => command.env = self.env(node),
            "cwd" => command.cwd = self.text(key, node).map(Into::into),
            "queue" => command.queue = self.queue(node).unwrap_or_default(),
            "soft_limit" => command.limits.soft = self.span(key, node),
            "hard_limit" => command.limits.hard = self.span(key, node),
            "max_attempts" => {
                let count = self.number(key, node, "a whole number from 1 to 65535");
                command.limits.max_attempts = count.filter(|count| *count > 0);
                if count == Some(0) {
                    self.wrong(key, node, "a whole number from 1 to 65535");
                }
            }
            "retry_codes" => {
                let codes = self.list(key, node).iter();
                let codes: Vec<Option<u8>> = codes.map(|code| self.exit_code(key, code)).collect();
                command.retry_codes = codes.into_iter().flatten().map(i32::from).collect();
            }
            other => {
                self.faults.push(Fault {
                    at: Some(at),
                    allowed: Some(KEYS.join(", ")),
                    hint: suggest::did_you_mean(other, KEYS),
                    ..Fault::new(format!("found the unknown key {other:?}"))
                });
            }
        }
    }
}

/// Limits that are right alone and wrong together.
fn contradiction(command: &Command) -> Option<Fault> {
    let (soft, hard) = (command.limits.soft?, command.limits.hard?);
    let text = |span| humantime::format_duration(span).to_string();
    (soft > hard).then(|| Fault {
        allowed: Some("a soft limit of at most the hard limit".into()),
        ..Fault::new(format!(
            "soft_limit {} above hard_limit {}",
            text(soft),
            text(hard)
        ))
    })
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
    if let (Some(fault), Some((_, _, node))) =
        (program.as_deref().and_then(program_fault), find("program"))
    {
        let at = Some(node.at);
        section.faults.push(Fault { at, ..fault });
    }
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
        section.key((key, *at), node, command);
    }
    if let Some(fault) = command.as_ref().and_then(contradiction) {
        section.faults.push(Fault {
            at: find("soft_limit").map(|(_, at, _)| *at),
            ..fault
        });
    }
    match command {
        Some(command) if section.faults.is_empty() => Ok(command),
        _ => Err(section.faults),
    }
}
