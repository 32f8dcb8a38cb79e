//! The file: TOML with places, matched against the table of keys.
//!
//! `toml_edit` stays inside this file. A syntax mistake ends the reading of the file, since nothing behind it can be
//! trusted; everything else is reported and the reading goes on.

use std::path::Path;

use toml_edit::{Document, Item, Table, TableLike, Value as Toml};

use super::keys::{QUEUE_NAME_RULE, Slot, queue_name_fault, quoted, task_name_fault};
use super::mistake::{Mistake, Origin, Report};
use super::place::{Places, Position};
use super::settings::Entry;
use super::table::TABLE;
use super::value::{Node, Raw};
use crate::suggest;

/// What the file says.
#[derive(Default)]
pub(super) struct FileContent {
    /// The values, in the order of the file.
    pub(super) entries: Vec<Entry>,
    /// The queues that have a section.
    pub(super) queues: Vec<String>,
    /// The tasks that have a section, each with its place.
    pub(super) tasks: Vec<(String, Origin)>,
    /// The breakers that have a section.
    pub(super) breakers: Vec<String>,
    /// Whether the text is no TOML, so that what it declares is unknown.
    pub(super) broken: bool,
}

/// Reads a file's text; what is wrong goes into `report`.
pub(super) fn read(path: &Path, text: &str, report: &mut Report) -> FileContent {
    // A mark at the start, as some editors leave it, is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut content = FileContent::default();
    let places = Places::of(text);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map(|span| places.at(span.start));
            let path = path.to_owned();
            let found = format!("not TOML: {}", error.message().replace('\n', ", "));
            report.push(Mistake::error("", Origin::File { path, at }, found));
            content.broken = true;
            return content;
        }
    };
    let mut walk = Walk {
        path,
        report,
        content: &mut content,
    };
    walk.section("", None, &entries(&places, document.as_table()));
    content
}

type Entries = Vec<(String, Position, Node)>;

/// Turns a table into plain values with places.
fn entries(places: &Places, table: &dyn TableLike) -> Entries {
    let place = |span: Option<std::ops::Range<usize>>| places.at(span.map_or(0, |span| span.start));
    let one = |(name, item): (&str, &Item)| {
        let key = table.key(name).and_then(|key| key.span());
        let at = place(key.or_else(|| item.span()));
        let raw = match item {
            Item::None => Raw::Other("nothing"),
            Item::Value(value) => value_raw(places, value),
            Item::Table(inner) => Raw::Table(entries(places, inner)),
            Item::ArrayOfTables(tables) => {
                Raw::List(tables.iter().map(|t| table_node(places, t)).collect())
            }
        };
        let node = Node {
            raw,
            at: item.as_value().map_or(at, |value| place(value.span())),
        };
        (name.to_owned(), at, node)
    };
    table.iter().map(one).collect()
}

fn table_node(places: &Places, table: &Table) -> Node {
    Node {
        raw: Raw::Table(entries(places, table)),
        at: places.at(table.span().map_or(0, |span| span.start)),
    }
}

fn value_raw(places: &Places, value: &Toml) -> Raw {
    match value {
        Toml::String(string) => Raw::Text(string.value().clone()),
        Toml::Integer(number) => Raw::Integer(*number.value()),
        Toml::Float(number) => Raw::Float(*number.value()),
        Toml::Boolean(switch) => Raw::Switch(*switch.value()),
        Toml::Datetime(_) => Raw::Other("a date"),
        Toml::InlineTable(table) => Raw::Table(entries(places, table)),
        Toml::Array(array) => {
            let node = |value: &Toml| Node {
                raw: value_raw(places, value),
                at: places.at(value.span().map_or(0, |span| span.start)),
            };
            Raw::List(array.iter().map(node).collect())
        }
    }
}

/// The walk over the sections, which collects values and mistakes.
struct Walk<'a> {
    path: &'a Path,
    report: &'a mut Report,
    content: &'a mut FileContent,
}

impl Walk<'_> {
    fn origin(&self, at: Position) -> Origin {
        Origin::File {
            path: self.path.to_owned(),
            at: Some(at),
        }
    }

    /// Matches the entries of the section whose path in the table is `prefix` (with a dot at its end, or empty).
    fn section(&mut self, prefix: &str, name: Option<&str>, entries: &Entries) {
        for (word, at, node) in entries {
            let path = format!("{prefix}{word}");
            if let Some(slot) = Slot::find(&path, name) {
                let origin = self.origin(node.at);
                self.content.entries.push(Entry {
                    slot,
                    raw: node.raw.clone(),
                    origin,
                });
                continue;
            }
            let inner = format!("{path}.");
            match (&node.raw, is_section(&inner)) {
                (Raw::Table(entries), true) if is_section(&format!("{inner}*.")) => {
                    self.named(&inner, entries);
                }
                (Raw::Table(entries), true) => self.section(&inner, None, entries),
                (other, true) => {
                    let found = format!("found {} instead of a section", other.describe());
                    let mistake = Mistake::error(path.as_str(), self.origin(*at), found);
                    self.report
                        .push(mistake.allowed(format!("a section `[{path}]`")));
                }
                (raw, false) => {
                    let table = matches!(raw, Raw::Table(_));
                    self.unknown(prefix, name, (word, *at), table);
                }
            }
        }
    }

    /// Matches `[queues.NAME]`, `[tasks.NAME]` and `[breakers.NAME]`.
    fn named(&mut self, prefix: &str, entries: &Entries) {
        for (name, at, node) in entries {
            let shown = format!("{prefix}{}", quoted(name));
            let origin = self.origin(*at);
            let Raw::Table(entries) = &node.raw else {
                let found = format!("found {} instead of a section", node.raw.describe());
                let mistake = Mistake::error(shown.as_str(), origin, found);
                self.report
                    .push(mistake.allowed(format!("a section `[{shown}]`")));
                continue;
            };
            let fault = match prefix {
                "queues." => queue_name_fault(name).map(|fault| (fault, QUEUE_NAME_RULE)),
                // Breakers of kinds of tasks are named as those are.
                _ => task_name_fault(name).map(|fault| (fault, "")),
            };
            if let Some((fault, rule)) = fault {
                let mistake = Mistake::error(shown, origin, format!("found {fault}"));
                self.report.push(mistake.allowed(rule));
                continue;
            }
            match prefix {
                "queues." => self.content.queues.push(name.clone()),
                "breakers." => self.content.breakers.push(name.clone()),
                _ => self.content.tasks.push((name.clone(), origin)),
            }
            self.section(&format!("{prefix}*."), Some(name), entries);
        }
    }

    fn unknown(
        &mut self,
        prefix: &str,
        name: Option<&str>,
        (word, at): (&str, Position),
        table: bool,
    ) {
        let shown = prefix.replacen('*', &name.map(quoted).unwrap_or_default(), 1);
        // `[tasks.billing.charge]` is a section `charge` within a task `billing`: quotes are missing.
        let hint = match name {
            Some(name) if table => {
                let section = prefix.split('.').next().unwrap_or_default();
                Some(format!(
                    "did you mean `[{section}.\"{name}.{word}\"]`? A name with dots takes quotes"
                ))
            }
            _ => suggestion(prefix, word),
        };
        let found = format!("there is no such {}", if table { "section" } else { "key" });
        let key = format!("{shown}{}", quoted(word));
        let siblings = siblings(prefix).collect::<Vec<_>>().join(", ");
        let mistake = Mistake::error(key, self.origin(at), found).hint(hint);
        self.report.push(match mistake.hint {
            Some(_) => mistake,
            None => mistake.allowed(siblings),
        });
    }
}

fn is_section(prefix: &str) -> bool {
    TABLE.iter().any(|key| key.path.starts_with(prefix))
}

/// The words that may follow `prefix`, each once.
fn siblings(prefix: &str) -> impl Iterator<Item = &'static str> {
    let mut last = "";
    TABLE.iter().filter_map(move |key| {
        let word = key.path.strip_prefix(prefix)?.split('.').next()?;
        (std::mem::replace(&mut last, word) != word && word != "*").then_some(word)
    })
}

/// Suggests a word of the same section, or else the whole path of a key with such a last word.
fn suggestion(prefix: &str, word: &str) -> Option<String> {
    suggest::did_you_mean(word, siblings(prefix)).or_else(|| {
        let leaf = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
        let close = suggest::closest(word, TABLE.iter().map(|key| leaf(key.path)))?;
        let key = TABLE.iter().find(|key| leaf(key.path) == close)?;
        Some(format!("did you mean `{}`?", key.path.replace('*', "NAME")))
    })
}
