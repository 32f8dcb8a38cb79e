//! Lists: names of queues, and routes, from TOML or from words with commas between.
//!
//! Pure. Every wrong element is reported with its own place.

use celeriac_actors::route::Route;

use super::keys::{QUEUE_NAME_RULE, queue_name_fault};
use super::place::Position;
use super::value::{Fault, Node, Raw};
use crate::suggest;

/// A route with the place of its queue in the file.
type Placed = (Route, Option<Position>);

/// Cuts `a,b` into its parts, blanks trimmed, empty parts left out.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn queue_fault(name: &str, at: Option<Position>) -> Option<Fault> {
    queue_name_fault(name).map(|found| Fault {
        at,
        found: format!("found {found}"),
        allowed: Some(QUEUE_NAME_RULE.into()),
        hint: None,
    })
}

/// Reads names of queues: sorted, each once.
pub(super) fn queues(raw: &Raw) -> Result<Vec<String>, Vec<Fault>> {
    let typed: Vec<(&str, Option<Position>)> = match raw {
        Raw::Words(text) | Raw::Text(text) => parts(text).map(|name| (name, None)).collect(),
        Raw::List(nodes) => {
            let text = |node: &'_ Node| Some(node.at);
            let names = nodes
                .iter()
                .map(|node| node.raw.text().map(|t| (t, text(node))));
            names
                .collect::<Option<_>>()
                .ok_or_else(|| vec![Fault::of(raw)])?
        }
        _ => return Err(vec![Fault::of(raw)]),
    };
    let mut faults: Vec<Fault> = typed
        .iter()
        .filter_map(|(name, at)| queue_fault(name, *at))
        .collect();
    if typed.is_empty() {
        faults.push(Fault::new("found no queue at all"));
    }
    let mut names: Vec<String> = typed.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    names.dedup();
    if faults.is_empty() {
        Ok(names)
    } else {
        Err(faults)
    }
}

/// Reads names of hosts: in lower case, sorted, each once.
pub(super) fn hosts(raw: &Raw) -> Result<Vec<String>, Vec<Fault>> {
    let typed: Vec<&str> = match raw {
        Raw::Words(text) | Raw::Text(text) => parts(text).collect(),
        Raw::List(nodes) => nodes
            .iter()
            .map(|node| node.raw.text())
            .collect::<Option<_>>()
            .ok_or_else(|| vec![Fault::of(raw)])?,
        _ => return Err(vec![Fault::of(raw)]),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_name = |name: &&str| (1..=253).contains(&name.len()) && name.chars().all(is_part);
    let faults: Vec<Fault> = typed
        .iter()
        .filter(|name| !is_name(name))
        .map(|name| {
            Fault::new(format!(
                "found the host {:?}",
                name.escape_debug().to_string()
            ))
        })
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut names: Vec<String> = typed.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads routes, in their order.
pub(super) fn routes(raw: &Raw) -> Result<Vec<Placed>, Vec<Fault>> {
    let each: Vec<Result<Placed, Vec<Fault>>> = match raw {
        Raw::Words(text) => parts(text).map(route_in_words).collect(),
        Raw::List(nodes) => nodes.iter().map(route_in_file).collect(),
        _ => return Err(vec![Fault::of(raw)]),
    };
    let (mut routes, mut faults) = (Vec::new(), Vec::new());
    for one in each {
        match one {
            Ok(route) => routes.push(route),
            Err(wrong) => faults.extend(wrong),
        }
    }
    if faults.is_empty() {
        Ok(routes)
    } else {
        Err(faults)
    }
}

fn route_in_words(text: &str) -> Result<Placed, Vec<Fault>> {
    let Some((task, queue)) = text.split_once('=') else {
        return Err(vec![Fault::new(format!(
            "found {text:?}, which has no `=`"
        ))]);
    };
    checked_route(task.trim(), queue.trim(), None)
}

fn checked_route(task: &str, queue: &str, at: Option<Position>) -> Result<Placed, Vec<Fault>> {
    let mut faults: Vec<Fault> = queue_fault(queue, at).into_iter().collect();
    if task.is_empty() {
        let found = Fault::new("found an empty pattern");
        faults.push(Fault { at, ..found });
    }
    if faults.is_empty() {
        Ok((Route::new(task, queue), at))
    } else {
        Err(faults)
    }
}

fn route_in_file(node: &Node) -> Result<Placed, Vec<Fault>> {
    let at = |at: Position, found: String| Fault {
        at: Some(at),
        ..Fault::new(found)
    };
    let Raw::Table(entries) = &node.raw else {
        let found = format!("found {} instead of a section", node.raw.describe());
        return Err(vec![at(node.at, found)]);
    };
    let (mut task, mut queue, mut faults) = (None, None, Vec::new());
    for (name, place, value) in entries {
        let slot = match name.as_str() {
            "task" => &mut task,
            "queue" => &mut queue,
            other => {
                let hint = suggest::did_you_mean(other, ["task", "queue"]);
                faults.push(at(*place, format!("found the unknown key {other:?}")).hint(hint));
                continue;
            }
        };
        match &value.raw {
            Raw::Text(text) => *slot = Some((text.as_str(), value.at)),
            wrong => {
                faults.push(at(
                    value.at,
                    format!("`{name}`: found {}", wrong.describe()),
                ));
                *slot = Some(("?", value.at)); // Reported; must not be reported as missing too.
            }
        }
    }
    match (task, queue) {
        (Some((task, _)), Some((queue, place))) => match checked_route(task, queue, Some(place)) {
            Ok(route) if faults.is_empty() => return Ok(route),
            Err(wrong) if faults.is_empty() => faults = wrong,
            _ => {}
        },
        (None, _) => faults.push(at(node.at, "found a route without `task`".into())),
        (_, None) => faults.push(at(node.at, "found a route without `queue`".into())),
    }
    Err(faults)
}
