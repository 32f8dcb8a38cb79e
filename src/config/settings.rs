//! Settings: the sources laid over one another, every value checked, the strongest kept, defaults below.
//!
//! Every typed value is checked, also one that a stronger source hides: it would bite whoever removes the stronger one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::command_checks::{declared_queues, placed};
use super::env;
use super::file::{self, FileContent};
use super::keys::{BUILT_IN_QUEUES, Facts, Preset, Slot};
use super::mistake::{Mistake, Origin, Report};
use super::raw::Sources;
use super::table::TABLE;
use super::target::Url;
use super::value::{Fault, Raw, Value};
use crate::suggest;

/// A value that somebody typed for a key.
pub(super) struct Entry {
    /// The key.
    pub(super) slot: Slot,
    /// What was typed.
    pub(super) raw: Raw,
    /// Where.
    pub(super) origin: Origin,
}

/// The names that stand for `*` in this configuration.
#[derive(Default)]
pub(super) struct Names {
    /// The queues.
    pub(super) queues: BTreeSet<String>,
    /// The tasks.
    pub(super) tasks: BTreeSet<String>,
    /// The breakers.
    pub(super) breakers: BTreeSet<String>,
    /// Whether the file could not be read, so that names may be missing.
    pub(super) incomplete: bool,
}

impl Names {
    /// Returns every place where a value may be, in the table's order.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        TABLE.iter().flat_map(|key| {
            let names: Vec<Option<&str>> = match key.path.split('.').next() {
                _ if key.around_name().is_none() => vec![None],
                Some("queues") => self.queues.iter().map(|name| Some(name.as_str())).collect(),
                Some("breakers") => self
                    .breakers
                    .iter()
                    .map(|name| Some(name.as_str()))
                    .collect(),
                _ => self.tasks.iter().map(|name| Some(name.as_str())).collect(),
            };
            names
                .into_iter()
                .filter_map(|name| Slot::find(key.path, name))
        })
    }
}

/// A value in force.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// The value.
    pub(super) value: Value,
    /// Where it came from.
    pub(super) origin: Origin,
}

/// Every value in force, with a value for each place.
pub(super) struct Settings {
    /// The names that stand for `*`.
    pub(super) names: Names,
    values: BTreeMap<Slot, Setting>,
    /// The places whose strongest value was wrong; their defaults are not worth another mistake.
    wrong: BTreeSet<Slot>,
}

impl Settings {
    /// Lays the sources over one another; what is wrong goes into `report`.
    pub(super) fn gather(sources: &Sources, report: &mut Report) -> Self {
        let mut content = match &sources.file {
            Some((path, text)) => file::read(path, text, report),
            None => FileContent::default(),
        };
        let known = content.tasks.iter().map(|(name, _)| name.clone());
        let names = Names {
            queues: BUILT_IN_QUEUES
                .map(str::to_owned)
                .into_iter()
                .chain(std::mem::take(&mut content.queues))
                .collect(),
            tasks: known.chain(sources.tasks.iter().cloned()).collect(),
            breakers: std::mem::take(&mut content.breakers).into_iter().collect(),
            incomplete: content.broken || !sources.mistakes.is_empty(),
        };
        let sections = std::mem::take(&mut content.tasks);
        let mut settings = Self {
            names,
            values: BTreeMap::new(),
            wrong: BTreeSet::new(),
        };
        let variables = env::variables(sources, &settings.names, report);
        let flags = env::flags(sources, &settings.names, report);
        let weakest_first = [content.entries, variables, flags];
        let stronger: BTreeSet<Slot> = weakest_first
            .iter()
            .flatten()
            .map(|entry| entry.slot.clone())
            .collect();
        let unused = |entry: &Entry| !stronger.contains(&entry.slot);
        // Nobody asked us to judge a fallback that is not used.
        let mut fallbacks: BTreeMap<Slot, Entry> = BTreeMap::new();
        for entry in env::fallbacks(sources).into_iter().filter(unused) {
            fallbacks.insert(entry.slot.clone(), entry);
        }
        for entry in fallbacks
            .into_values()
            .chain(weakest_first.into_iter().flatten())
        {
            settings.put(entry, report);
        }
        let declared = match settings.value("command", None) {
            Some(Value::Commands(commands)) => declared_queues(&settings.names, commands),
            _ => BTreeSet::new(),
        };
        settings.names.queues.extend(declared);
        unknown_tasks(sources, &settings, &sections, report);
        settings.fill(sources);
        settings
    }

    fn put(&mut self, entry: Entry, report: &mut Report) {
        let Entry { slot, raw, origin } = entry;
        match slot.key().kind.parse(&raw) {
            Ok(value) => {
                self.wrong.remove(&slot);
                self.values.insert(slot, Setting { value, origin });
            }
            Err(faults) => {
                // Celery keeps results in places we do not know; ours are kept beside the broker then.
                let harmless =
                    matches!(origin, Origin::Fallback { .. }) && slot.key().path == "results.url";
                for fault in faults {
                    let mistake = mistake(&slot, &origin, fault);
                    report.push(if harmless { mistake.warning() } else { mistake });
                }
                self.values.remove(&slot);
                self.wrong.insert(slot);
            }
        }
    }

    /// Gives every place without a value its default, those that others follow from first.
    fn fill(&mut self, sources: &Sources) {
        let slots: Vec<Slot> = self.names.slots().collect();
        let (derived, plain): (Vec<_>, Vec<_>) = slots
            .into_iter()
            .partition(|slot| matches!(slot.key().preset, Preset::Derived(..)));
        self.fill_each(plain, None);
        let facts = Facts {
            cores: sources.cores.get(),
            lease: self.span("lease"),
            production: self.choice("environment") == "production",
            remote_store: matches!(self.url("store.url"), Some(Url::Postgres(_))),
        };
        self.fill_each(derived, Some(&facts));
    }

    fn fill_each(&mut self, slots: Vec<Slot>, facts: Option<&Facts>) {
        for slot in slots {
            if self.values.contains_key(&slot) {
                continue;
            }
            let (rule, text) = match (slot.key().preset, facts) {
                (Preset::Fixed(text), _) => ("", Some(text.to_owned())),
                (Preset::Derived(rule, make), Some(facts)) => (rule, Some(make(facts))),
                (Preset::Derived(rule, _) | Preset::Unset(rule), _) => (rule, None),
            };
            let value = text.map(|text| slot.key().kind.parse(&Raw::Words(text)));
            let value = match value {
                Some(Ok(value)) => value,
                Some(Err(_)) | None => Value::Unset,
            };
            let origin = Origin::Default { rule };
            self.values.insert(slot, Setting { value, origin });
        }
    }

    /// Returns the value in force at a place.
    pub(super) fn at(&self, slot: &Slot) -> Option<&Setting> {
        self.values.get(slot)
    }

    /// Returns the value in force of a key, `name` standing for its `*`.
    pub(super) fn get(&self, path: &str, name: Option<&str>) -> Option<&Setting> {
        self.at(&Slot::find(path, name)?)
    }

    /// Tells whether a key's strongest value was wrong, so that what follows from it is not to be judged.
    pub(super) fn is_wrong(&self, path: &str, name: Option<&str>) -> bool {
        Slot::find(path, name).is_some_and(|slot| self.wrong.contains(&slot))
    }

    fn value(&self, path: &str, name: Option<&str>) -> Option<&Value> {
        self.get(path, name).map(|setting| &setting.value)
    }

    /// Returns a number, a size too.
    pub(super) fn count(&self, path: &str) -> u64 {
        self.count_of(path, None).unwrap_or_default()
    }

    /// Returns a number that may be unset.
    pub(super) fn count_of(&self, path: &str, name: Option<&str>) -> Option<u64> {
        match self.value(path, name)? {
            Value::Count(number) | Value::Size(number) => Some(*number),
            _ => None,
        }
    }

    /// Returns a span of time.
    pub(super) fn span(&self, path: &str) -> Duration {
        self.span_of(path, None).unwrap_or_default()
    }

    /// Returns a span of time that may be unset.
    pub(super) fn span_of(&self, path: &str, name: Option<&str>) -> Option<Duration> {
        match self.value(path, name)? {
            Value::Span(span) => Some(*span),
            _ => None,
        }
    }

    /// Returns a share that may be unset.
    pub(super) fn share_of(&self, path: &str, name: Option<&str>) -> Option<f64> {
        match self.value(path, name)? {
            Value::Share(share) => Some(*share),
            _ => None,
        }
    }

    /// Returns a switch.
    pub(super) fn switch(&self, path: &str) -> bool {
        matches!(self.value(path, None), Some(Value::Switch(true)))
    }

    /// Returns a word of a choice.
    pub(super) fn choice(&self, path: &str) -> &'static str {
        self.choice_of(path, None).unwrap_or_default()
    }

    /// Returns a word of a choice that may be unset.
    pub(super) fn choice_of(&self, path: &str, name: Option<&str>) -> Option<&'static str> {
        match self.value(path, name)? {
            Value::Choice(word) => Some(word),
            _ => None,
        }
    }

    /// Returns a path.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        match self.value(path, None) {
            Some(Value::Path(path)) => path.clone(),
            _ => PathBuf::new(),
        }
    }

    /// Returns a URL that may be unset.
    pub(super) fn url(&self, path: &str) -> Option<&Url> {
        match self.value(path, None)? {
            Value::Url(url) => Some(url),
            _ => None,
        }
    }
}

fn mistake(slot: &Slot, origin: &Origin, fault: Fault) -> Mistake {
    let key = slot.key();
    let source = origin.clone().at(fault.at);
    let allowed = fault.allowed.unwrap_or_else(|| key.kind.allowed());
    Mistake::error(slot.path(), source, fault.found)
        .allowed(allowed)
        .hint(fault.hint)
}

/// Warns about sections of tasks that neither this program knows, when it says which ones it does, nor a command is.
fn unknown_tasks(
    sources: &Sources,
    settings: &Settings,
    sections: &[(String, Origin)],
    report: &mut Report,
) {
    if sources.tasks.is_empty() {
        return;
    }
    let commands: Vec<&str> = placed(settings)
        .map(|(command, _)| command.name.as_str())
        .collect();
    for (name, origin) in sections {
        let mut known = sources.tasks.iter().map(String::as_str);
        if !known.any(|task| task == name) && !commands.contains(&name.as_str()) {
            let known = sources.tasks.iter().map(String::as_str);
            let hint = suggest::did_you_mean(name, known.chain(commands.iter().copied()));
            let key = format!("tasks.{}", super::keys::quoted(name));
            let found = "this program has no such task, the section has no effect";
            let mistake = Mistake::error(key, origin.clone(), found);
            report.push(mistake.hint(hint).warning());
        }
    }
}
