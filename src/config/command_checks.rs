//! Cross checks of commands: against queues, against what else is said of their tasks, and against the tasks of the program.

use std::collections::BTreeSet;

use super::checked::check_queue;
use super::keys::{Slot, quoted};
use super::mistake::{Mistake, Origin, Report};
use super::place::Position;
use super::raw::Sources;
use super::settings::{Names, Setting, Settings};
use super::value::Value;
use crate::command::Command;
use crate::suggest;

/// A command with the place of its section in the file.
pub(super) type Placed = (Command, Option<Position>);

/// Returns the commands in force, with where they came from.
pub(super) fn placed(settings: &Settings) -> impl Iterator<Item = (&Command, Origin)> {
    let setting = settings.get("command", None);
    setting.into_iter().flat_map(|Setting { value, origin }| {
        let commands: &[Placed] = match value {
            Value::Commands(commands) => commands,
            _ => &[],
        };
        let place = |(_, at): &'_ Placed| origin.clone().at(*at);
        commands.iter().map(move |one| (&one.0, place(one)))
    })
}

/// Returns the queues that are there because a command names them: those that are not known and are like none that is, for
/// such a one is more likely mistyped.
pub(super) fn declared_queues(names: &Names, commands: &[Placed]) -> BTreeSet<String> {
    let known = |queue: &str| names.queues.contains(queue);
    let mistyped =
        |queue: &str| suggest::closest(queue, names.queues.iter().map(String::as_str)).is_some();
    let queues = commands.iter().map(|(command, _)| command.queue.as_str());
    queues
        .filter(|queue| !known(queue) && !mistyped(queue))
        .map(str::to_owned)
        .collect()
}

/// Checks them; what is wrong goes into `report`.
pub(super) fn check(settings: &Settings, sources: &Sources, report: &mut Report) {
    for (command, source) in placed(settings) {
        let name = command.name.as_str();
        report.mistakes.extend(taken(sources, name, &source));
        if !settings.names.incomplete {
            let known = settings.names.queues.iter().map(String::as_str);
            let key = format!("command.{}.queue", quoted(name));
            let wrong = check_queue(&command.queue, known, &key, &source);
            report.mistakes.extend(wrong);
        }
        if settings.names.tasks.contains(name) {
            mode(settings, name, report);
            limits(settings, command, report);
        }
    }
}

/// A name stands for one kind of task.
fn taken(sources: &Sources, name: &str, source: &Origin) -> Option<Mistake> {
    let whose = match name {
        _ if sources.tasks.contains(name) => "the program itself has a task of this name",
        _ if sources.demo_tasks.contains(name) => {
            "a demo task has this name (`celeriac run --demo`)"
        }
        _ => return None,
    };
    let key = format!("command.{}", quoted(name));
    Some(Mistake::error(key, source.clone(), whose).allowed("a name that no other task has"))
}

/// A command has a process of its own wherever it runs.
fn mode(settings: &Settings, name: &str, report: &mut Report) {
    const MODE: &str = "tasks.*.mode";
    if settings.choice_of(MODE, Some(name)).is_some() {
        let key = format!("tasks.{}.mode", quoted(name));
        let found = "a command has no mode: it runs in a process of its own";
        let source = origin(settings, MODE, name);
        report.push(Mistake::error(key, source, found).allowed("nothing: remove it"));
    }
}

/// The limits of a command may be said in two sections, half in each.
fn limits(settings: &Settings, command: &Command, report: &mut Report) {
    const SOFT: &str = "tasks.*.soft_limit";
    const HARD: &str = "tasks.*.hard_limit";
    let name = command.name.as_str();
    let (soft, hard) = (
        settings.span_of(SOFT, Some(name)),
        settings.span_of(HARD, Some(name)),
    );
    let (row, soft, hard) = match (soft, hard) {
        (Some(soft), None) => (SOFT, Some(soft), command.limits.hard),
        (None, Some(hard)) => (HARD, command.limits.soft, Some(hard)),
        // Both are judged elsewhere, where they were said.
        _ => return,
    };
    if let (Some(soft), Some(hard)) = (soft, hard)
        && soft > hard
    {
        let key = row.replace('*', &quoted(name));
        let found = format!(
            "soft_limit {} above hard_limit {}, of which one is in the section of the command",
            humantime::format_duration(soft),
            humantime::format_duration(hard)
        );
        let mistake = Mistake::error(key, origin(settings, row, name), found);
        report.push(mistake.allowed("a soft limit of at most the hard limit"));
    }
}

fn origin(settings: &Settings, path: &str, name: &str) -> Origin {
    let setting = Slot::find(path, Some(name)).and_then(|slot| settings.at(&slot).cloned());
    setting.map_or(Origin::Default { rule: "" }, |setting| setting.origin)
}
