//! Show: every value in force with its source, for `config show`. Secrets are hidden before they come here.

use std::fmt;

use celeriac_actors::route;
use serde::{Serialize, Serializer};

use super::keys::{Preset, Slot};
use super::mistake::Origin;
use super::settings::Settings;
use super::table::TABLE;
use super::value::Value;

/// One key with its value in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The key, such as `queues.billing.weight`.
    pub key: String,
    /// The value as it would be typed, secrets hidden; `-` when there is none.
    pub text: String,
    /// The value as JSON: numbers and switches as such, sizes in bytes, null when there is none.
    pub value: serde_json::Value,
    /// Where it came from.
    pub source: Origin,
    /// The variable that would set it.
    pub env: String,
}

/// Every key with its value in force, in the table's order. `Display` is the text of `config show`.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The keys.
    pub keys: Vec<Shown>,
}

impl Effective {
    pub(super) fn of(settings: &Settings) -> Self {
        let shown = |slot: Slot| {
            let mut setting = settings.at(&slot)?.clone();
            if let Value::Routes(routes) = &mut setting.value {
                routes.extend(route::built_in().into_iter().map(|route| (route, None)));
            }
            Some(Shown {
                key: slot.path(),
                text: setting.value.to_string(),
                value: setting.value.to_json(),
                source: setting.origin,
                env: slot.env(),
            })
        };
        Self {
            keys: settings.names.slots().filter_map(shown).collect(),
        }
    }

    /// Returns the entry of a key by its path.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Shown> {
        self.keys.iter().find(|shown| shown.key == key)
    }
}

impl Serialize for Effective {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut document = serializer.serialize_struct("Effective", 1)?;
        document.serialize_field("keys", &self.keys)?;
        document.end()
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Shown) -> &str| {
            let widths = self.keys.iter().map(|shown| text(shown).chars().count());
            widths.max().unwrap_or(0).min(40)
        };
        let (keys, values) = (width(|shown| &shown.key), width(|shown| &shown.text));
        for shown in &self.keys {
            writeln!(
                f,
                "{:keys$}  {:values$}  {}",
                shown.key, shown.text, shown.source
            )?;
        }
        Ok(())
    }
}

/// One key of the table, for documentation and completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// The path in the file; `*` stands for the name of a queue or task.
    pub path: &'static str,
    /// The variable, with `<NAME>` for the `*`.
    pub env: String,
    /// The flag, if there is one.
    pub flag: Option<&'static str>,
    /// The default as it would be typed, or its rule in words.
    pub default: &'static str,
    /// What is allowed, in words.
    pub allowed: String,
    /// Whether values may hold secrets.
    pub secret: bool,
    /// What it means.
    pub doc: &'static str,
}

/// Returns the table of keys, for documentation and completion.
#[must_use]
pub fn table() -> Vec<KeyInfo> {
    let info = |key: &super::keys::Key| KeyInfo {
        path: key.path,
        env: key.env(),
        flag: key.flag,
        default: match key.preset {
            Preset::Fixed(text) | Preset::Unset(text) | Preset::Derived(text, _) => text,
        },
        allowed: key.kind.allowed(),
        secret: key.secret(),
        doc: key.doc,
    };
    TABLE.iter().map(info).collect()
}

/// Returns the table of keys as a page of Markdown: the reference of the configuration.
#[must_use]
pub fn reference() -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let row = |key: KeyInfo| {
        let flag = key.flag.map_or(String::new(), |flag| format!(" `{flag}`"));
        format!(
            "| `{}` | `{}`{flag} | {} | {} | {} |\n",
            key.path,
            key.env,
            cell(key.default),
            cell(&key.allowed),
            cell(key.doc)
        )
    };
    let head = "# Configuration\n\n| key | variable, flag | default | allowed | meaning |\n|---|---|---|---|---|\n";
    head.to_owned() + &table().into_iter().map(row).collect::<String>()
}
