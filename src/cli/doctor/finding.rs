//! What a check found: well, doubtful or broken, and what to do about it.

use std::fmt;

use serde::{Serialize, Serializer};

use super::super::output::plain;

/// Whose fault a failure is, the configuration's last: it is to be mended first and decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blame {
    /// The broker's, the store's, or that of the machine they are on.
    Data,
    /// The configuration's.
    Configuration,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works; somebody should look at it.
    Warning,
    /// It does not work.
    Failure(Blame),
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure(_) => "failure",
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) check: &'static str,
    pub(super) text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) advice: String,
}

impl Finding {
    fn new(verdict: Verdict, check: &'static str, text: impl Into<String>) -> Self {
        Self {
            verdict,
            check,
            text: text.into(),
            advice: String::new(),
        }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, check, text)
    }

    pub(super) fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Warning, check, text)
    }

    pub(super) fn failure(blame: Blame, check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Verdict::Failure(blame), check, text)
    }

    /// Says what to do.
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = plain(&self.text);
        write!(f, "{:<8} {:<8} {text}", self.verdict.as_str(), self.check)?;
        match self.advice.as_str() {
            "" => Ok(()),
            advice => write!(f, "\n{:18}-> {}", "", plain(advice)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_its_advice_another() {
        let finding = Finding::warning("clock", "it\u{1b} is off").advise("set it");
        assert_eq!(
            finding.to_string(),
            "warning  clock    it\\u{1b} is off\n                  -> set it"
        );
        assert_eq!(
            serde_json::to_string(&Finding::failure(Blame::Data, "store", "away")).unwrap(),
            r#"{"verdict":"failure","check":"store","text":"away"}"#
        );
        assert!(Some(Blame::Configuration) > Some(Blame::Data) && Some(Blame::Data) > None);
    }
}
