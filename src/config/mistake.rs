//! Mistakes: what is wrong with a configuration, where, what would be right, and how that reads.
//!
//! Owns the report and both of its forms (text and JSON). Finds nothing itself. A report never holds a secret: whoever
//! makes a mistake of a secret key hands over the hidden form.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::place::Position;

/// Where a value came from, strongest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A flag of the command line.
    Flag {
        /// The flag as it is typed, such as `--broker`.
        name: String,
    },
    /// A `CELERIAC_…` variable of the environment.
    Env {
        /// The variable's name.
        name: String,
    },
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The place of the value; unknown for mistakes about the file as a whole.
        at: Option<Position>,
    },
    /// A variable that other software understands too, used because nothing of ours says otherwise.
    Fallback {
        /// The variable's name, such as `REDIS_URL`.
        name: String,
    },
    /// Nobody said anything.
    Default {
        /// How the default is found, such as `16 x cores`; empty when it is a plain value.
        rule: &'static str,
    },
}

impl Origin {
    /// Narrows a place in a file to `at`, when there is a narrower one.
    #[must_use]
    pub(super) fn at(self, narrower: Option<Position>) -> Self {
        match self {
            Self::File { path, at } => Self::File {
                path,
                at: narrower.or(at),
            },
            other => other,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { name } => write!(f, "flag {name}"),
            Self::Env { name } | Self::Fallback { name } => {
                write!(f, "environment variable {}", name.escape_debug())
            }
            Self::File { path, at } => {
                write!(f, "{}", path.display().to_string().escape_debug())?;
                at.map_or(Ok(()), |at| write!(f, ":{}:{}", at.line, at.column))
            }
            Self::Default { rule: "" } => f.write_str("default"),
            Self::Default { rule } => write!(f, "default ({rule})"),
        }
    }
}

/// Whether a mistake stops the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// The value is used; somebody should look at it.
    Warning,
}

/// One thing that is wrong, with what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Whether it stops the start.
    pub severity: Severity,
    /// The key, such as `queues.billing.weight`; empty for a mistake about a source as a whole.
    pub key: String,
    /// Where the value was found.
    pub source: Origin,
    /// What was found there, secrets hidden.
    pub found: String,
    /// What is allowed instead; empty when `found` says it all.
    pub allowed: String,
    /// What was probably meant, such as ``did you mean `lease`?``.
    pub hint: Option<String>,
}

impl Mistake {
    /// Creates an error without a hint.
    #[must_use]
    pub fn error(key: impl Into<String>, source: Origin, found: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            key: key.into(),
            source,
            found: found.into(),
            allowed: String::new(),
            hint: None,
        }
    }

    /// Turns the mistake into one that stops nothing.
    #[must_use]
    pub fn warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Says what is allowed instead.
    #[must_use]
    pub fn allowed(self, allowed: impl Into<String>) -> Self {
        Self {
            allowed: allowed.into(),
            ..self
        }
    }

    /// Says what was probably meant.
    #[must_use]
    pub fn hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl fmt::Display for Mistake {
    /// Writes one to three lines without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.source, self.found)?,
            key => write!(f, "`{key}` ({}): {}", self.source, self.found)?,
        }
        if !self.allowed.is_empty() {
            write!(f, "\n  allowed: {}", self.allowed)?;
        }
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
    }
}

/// Every mistake of one configuration, in the order of its sources.
///
/// `Display` is the text for people, one to three lines a mistake; `Serialize` the document for machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The mistakes.
    pub mistakes: Vec<Mistake>,
}

impl Report {
    /// Adds a mistake.
    pub fn push(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Returns how many mistakes stop the start.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Returns how many mistakes stop nothing.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        let same = |mistake: &&Mistake| mistake.severity == severity;
        self.mistakes.iter().filter(same).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{mistake}")?;
        }
        let (errors, warnings) = (self.errors(), self.warnings());
        match (errors, warnings) {
            (0, 0) => f.write_str("the configuration is right"),
            (0, _) => write!(f, "the configuration can be used, {warnings} warning(s)"),
            (_, 0) => write!(f, "{errors} mistake(s) in the configuration"),
            _ => write!(
                f,
                "{errors} mistake(s) and {warnings} warning(s) in the configuration"
            ),
        }
    }
}

impl std::error::Error for Report {}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut document = serializer.serialize_struct("Report", 4)?;
        document.serialize_field("ok", &(self.errors() == 0))?;
        document.serialize_field("errors", &self.errors())?;
        document.serialize_field("warnings", &self.warnings())?;
        document.serialize_field("mistakes", &self.mistakes)?;
        document.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_reads_in_three_lines() {
        let at = Some(Position { line: 3, column: 9 });
        let path = PathBuf::from("celeriac.toml");
        let mistake = Mistake::error("laese", Origin::File { path, at }, "there is no such key")
            .hint(Some("did you mean `lease`?".into()));
        assert_eq!(
            mistake.to_string(),
            "error: `laese` (celeriac.toml:3:9): there is no such key\n  did you mean `lease`?"
        );
    }

    #[test]
    fn a_report_is_one_json_document() {
        let mut report = Report::default();
        let name = "CELERIAC_LEASE".to_owned();
        report.push(Mistake::error("lease", Origin::Env { name }, "found nothing").warning());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["mistakes"][0]["severity"], "warning");
        assert_eq!(json["mistakes"][0]["source"]["kind"], "env");
    }
}
