//! Configuration: raw as typed -> checked as used, in one pass that reports every mistake.
//!
//! A value comes from the strongest source that has one: flag > `CELERIAC_…` variable > file > `CELERY_BROKER_URL`,
//! `CELERY_RESULT_BACKEND` > `REDIS_URL` > default. Every key maps to a variable by one rule: `CELERIAC_` and the key in
//! capitals, with `_` for all but letters and digits (`store.url` -> `CELERIAC_STORE_URL`, `queues.billing.weight` ->
//! `CELERIAC_QUEUES_BILLING_WEIGHT`). One table of keys drives everything that knows a key (`table.rs`).
//!
//! [`load`] is pure: values in, values and report out. Only [`Sources::of_process`] touches the process.
//!
//! ```
//! use std::num::NonZeroUsize;
//! use celeriac::config::{Sources, load};
//!
//! let mut sources = Sources::empty(NonZeroUsize::new(4).unwrap());
//! sources.file = Some(("celeriac.toml".into(), "laese = \"9s\"\ngrace = 30".into()));
//! let report = load(&sources).into_result().unwrap_err();
//! assert_eq!(report.errors(), 2);
//! assert!(report.to_string().contains("did you mean `lease`?"));
//! ```

mod assemble;
mod checked;
mod command_checks;
#[cfg(test)]
mod command_tests;
mod commands;
mod cross;
mod env;
mod file;
mod health;
mod keys;
mod lists;
mod mistake;
mod place;
mod programs;
mod raw;
mod secret;
mod settings;
mod show;
mod starter;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod value;

pub use checked::{
    Color, Config, EmbeddedConfig, Environment, HttpConfig, IsolationConfig, LogConfig, LogFormat,
    QueueConfig, Recycle, RedisConfig, ResultsConfig, StoreConfig, SupervisionConfig, Synchronous,
    TaskOverride, TokenSource,
};
pub use keys::BUILT_IN_QUEUES;
pub use mistake::{Mistake, Origin, Report, Severity};
pub use place::Position;
pub use programs::check_programs;
pub use raw::{DEFAULT_FILE, FILE_VARIABLE, Flags, Sources};
pub use secret::Secret;
pub use show::{Effective, KeyInfo, Shown, reference, table};
pub use starter::{InitError, StarterFile, starter_config, starter_project, write_new};
pub use target::{BrokerTarget, SecretUrl, StoreTarget};

use settings::Settings;

/// What became of the sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Every value in force, also beside mistakes: a wrong value shows its default.
    pub effective: Effective,
    /// Everything that is wrong; warnings stop nothing.
    pub report: Report,
    /// What the runtime should log at its start, such as a fallback that is used.
    pub notes: Vec<Note>,
    config: Option<Config>,
}

/// Something to log about the configuration that is no mistake.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The key.
    pub key: String,
    /// Where its value came from.
    pub source: Origin,
    /// What happened, in words.
    pub message: String,
}

impl Loaded {
    /// Returns the configuration; `None` beside a mistake that stops the start.
    #[must_use]
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// Returns the configuration, or the report when something stops the start.
    ///
    /// # Errors
    /// The report, as soon as it holds one error. Warnings alone are no error: they are in `report`.
    pub fn into_result(self) -> Result<Config, Report> {
        self.config.ok_or(self.report)
    }
}

/// Checks the sources and makes the configuration of them.
#[must_use]
pub fn load(sources: &Sources) -> Loaded {
    let mut report = Report {
        mistakes: sources.mistakes.clone(),
    };
    let settings = Settings::gather(sources, &mut report);
    cross::check(&settings, &mut report);
    command_checks::check(&settings, sources, &mut report);
    let effective = Effective::of(&settings);
    let fallback = |shown: &&Shown| matches!(shown.source, Origin::Fallback { .. });
    let note = |shown: &Shown| Note {
        key: shown.key.clone(),
        source: shown.source.clone(),
        message: format!(
            "`{}` is taken from the {}: {}",
            shown.key, shown.source, shown.text
        ),
    };
    Loaded {
        notes: effective.keys.iter().filter(fallback).map(note).collect(),
        config: (report.errors() == 0).then(|| assemble::build(&settings)),
        effective,
        report,
    }
}
