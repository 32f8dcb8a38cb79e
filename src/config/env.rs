//! Variables and flags, matched against the table of keys.
//!
//! A variable's name is its key's path by one rule (`keys::env_name`). Names of queues, tasks and breakers lose their case and
//! their punctuation on that way, so a variable only reaches names that are known already; it never makes one.

use super::keys::{Slot, env_form, env_name};
use super::mistake::{Mistake, Origin, Report};
use super::raw::{FALLBACKS, FILE_VARIABLE, Sources};
use super::settings::{Entry, Names};
use super::table::TABLE;
use super::value::Raw;
use crate::suggest;

/// What a command is told of its task.
const OF_A_COMMAND: [&str; 5] = [
    "CELERIAC_TASK",
    "CELERIAC_TASK_ID",
    "CELERIAC_TASK_ATTEMPT",
    "CELERIAC_TASK_QUEUE",
    "CELERIAC_TASK_DEADLINE",
];

/// Reads the `CELERIAC_…` variables.
pub(super) fn variables(sources: &Sources, names: &Names, report: &mut Report) -> Vec<Entry> {
    let mut entries = Vec::new();
    let set = |(name, value): &(&String, &String)| {
        let ours = name.starts_with("CELERIAC_") && !value.is_empty() && *name != FILE_VARIABLE;
        // A command calls us, and what it was told of its own task is no setting.
        ours && !OF_A_COMMAND.contains(&name.as_str())
    };
    for (name, value) in sources.env.iter().filter(set) {
        let origin = Origin::Env { name: name.clone() };
        let slots = slots(name, names);
        match slots.as_slice() {
            [slot] => entries.push(Entry {
                slot: slot.clone(),
                raw: Raw::Words(value.clone()),
                origin,
            }),
            [] if !is_service_link(name) => {
                // In a broken file any name may be declared.
                if !(names.incomplete && in_named_section(name)) {
                    report.push(unknown(name, origin, names));
                }
            }
            [] => {}
            several => {
                let paths: Vec<String> = several.iter().map(Slot::path).collect();
                let found = format!("it could mean {}", paths.join(" and "));
                report.push(
                    Mistake::error("", origin, found)
                        .allowed("a name in the file that is not taken twice"),
                );
            }
        }
    }
    entries
}

/// Reads the variables of other software, strongest last.
pub(super) fn fallbacks(sources: &Sources) -> Vec<Entry> {
    let entry = |(name, path): &(&str, &str)| {
        let value = sources.env.get(*name).filter(|value| !value.is_empty())?;
        Some(Entry {
            slot: Slot::find(path, None)?,
            raw: Raw::Words(value.clone()),
            origin: Origin::Fallback {
                name: (*name).to_owned(),
            },
        })
    };
    FALLBACKS.iter().rev().filter_map(entry).collect()
}

/// Reads what the command line says.
pub(super) fn flags(sources: &Sources, names: &Names, report: &mut Report) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (path, typed) in &sources.flags.values {
        let found = flag_slot(path, names);
        let flag = found.as_ref().and_then(|slot| slot.key().flag);
        let name = flag.map_or_else(|| path.escape_debug().to_string(), str::to_owned);
        let origin = Origin::Flag { name };
        match found {
            Some(slot) => entries.push(Entry {
                slot,
                raw: Raw::Words(typed.clone()),
                origin,
            }),
            None => {
                let paths = names.slots().map(|slot| slot.path()).collect::<Vec<_>>();
                let hint = suggest::did_you_mean(path, paths.iter().map(String::as_str));
                report.push(
                    Mistake::error(
                        path.escape_debug().to_string(),
                        origin,
                        "there is no such key",
                    )
                    .hint(hint),
                );
            }
        }
    }
    entries
}

fn flag_slot(path: &str, names: &Names) -> Option<Slot> {
    names.slots().find(|slot| {
        let unquoted = slot.path().replace('"', "");
        slot.path() == path || unquoted == path
    })
}

/// The places a variable's name stands for: one, unless it is unknown or two names are written alike.
fn slots(variable: &str, names: &Names) -> Vec<Slot> {
    names
        .slots()
        .filter(|slot| slot.env() == variable)
        .collect()
}

fn in_named_section(variable: &str) -> bool {
    let befores = TABLE.iter().filter_map(|key| key.around_name());
    befores
        .into_iter()
        .any(|(before, _)| variable.starts_with(&env_name(before)))
}

fn unknown(variable: &str, origin: Origin, names: &Names) -> Mistake {
    let known: Vec<String> = names
        .slots()
        .map(|slot| slot.env())
        .chain([FILE_VARIABLE.to_owned()])
        .collect();
    let hint = suggest::did_you_mean(variable, known.iter().map(String::as_str));
    // `CELERIAC_QUEUES_X_WEIGHT` for a queue nobody declared: the key is right, the name is not.
    let named = TABLE.iter().find_map(|key| {
        let (before, after) = key.around_name()?;
        let rest = variable.strip_prefix(&env_name(before))?;
        let name = rest.strip_suffix(&env_form(after))?;
        Some((key.path, name))
    });
    match named {
        Some((path, name)) => {
            let what = match path.split('.').next() {
                Some("queues") => "queue",
                Some("breakers") => "breaker",
                _ => "task",
            };
            let found = format!("there is no {what} whose name is written {:?}", name);
            let key = path.replace('*', "NAME");
            Mistake::error(key, origin, found)
                .allowed(format!("a {what} that is known without the environment: declare it in the file"))
                .hint(hint)
        }
        None => Mistake::error("", origin, "no key has this variable")
            .allowed("CELERIAC_ and a key in capitals, dots as `_`; `celeriac config show` lists the keys")
            .hint(hint),
    }
}

/// Tells whether Kubernetes made this variable for a service of our name; such are nobody's mistake.
fn is_service_link(variable: &str) -> bool {
    let rest = variable.strip_prefix("CELERIAC_").unwrap_or(variable);
    let words: Vec<&str> = rest.split('_').collect();
    let port = |words: &[&str]| match words {
        ["PORT"] => true,
        ["PORT", number, protocol, ..] => {
            number.parse::<u16>().is_ok() && matches!(*protocol, "TCP" | "UDP" | "SCTP")
        }
        ["SERVICE", "HOST"] => true,
        ["SERVICE", "PORT", ..] => true,
        _ => false,
    };
    (0..words.len()).any(|start| port(&words[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_are_known_by_their_form() {
        for (name, expected) in [
            ("CELERIAC_PORT", true),
            ("CELERIAC_SERVICE_HOST", true),
            ("CELERIAC_SERVICE_PORT_HTTP", true),
            ("CELERIAC_PORT_80_TCP_ADDR", true),
            ("CELERIAC_WEB_SERVICE_HOST", true),
            ("CELERIAC_PORTS", false),
            ("CELERIAC_LAESE", false),
        ] {
            assert_eq!(is_service_link(name), expected, "{name}");
        }
    }
}
