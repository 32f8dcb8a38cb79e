//! What is asked for one task instead of what its kind says, as people type it: limits, attempts, ends, headers.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_actors::mode::Mode;
use celeriac_actors::ports::When;
use celeriac_actors::producer::EnqueueOptions;
use celeriac_actors::time::Timestamp;
use clap::Args;

use super::super::text::brief;
use super::when;

/// The flags.
#[derive(Args, Clone, Debug)]
pub(super) struct AskArgs {
    /// Do not start it later than this, a span such as `1h` or an instant such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "SPAN|RFC3339", allow_hyphen_values = true)]
    expires: Option<String>,
    /// Begin no further attempt later than this; the first one is made all the same. A span counts from when it is due.
    #[arg(long, value_name = "SPAN|RFC3339", allow_hyphen_values = true)]
    retry_until: Option<String>,
    /// Ask an attempt to stop after this long, such as `5m`.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true)]
    soft_limit: Option<String>,
    /// End an attempt after this long, such as `6m`.
    #[arg(long, value_name = "SPAN", allow_hyphen_values = true)]
    hard_limit: Option<String>,
    /// Make so many attempts at most, the first one included.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u16>,
    /// Run it `inline`, `blocking` (on a thread that may be blocked) or `isolated` (in a process of its own).
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Attach a text to it, such as `tenant=7`; may be given often.
    #[arg(long = "header", id = "headers", value_name = "KEY=VALUE")]
    headers: Vec<String>,
}

impl AskArgs {
    /// Reads what was typed.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub(super) fn read(&self) -> Result<Asks, String> {
        let mut headers = BTreeMap::new();
        for text in &self.headers {
            let (key, value) = pair(text)?;
            if headers.insert(key.clone(), value).is_some() {
                return Err(format!("the header `{}` is given twice", brief(&key, 60)));
            }
        }
        Ok(Asks {
            expires: moment("--expires", self.expires.as_deref())?,
            retry_until: moment("--retry-until", self.retry_until.as_deref())?,
            soft_limit: limit("--soft-limit", self.soft_limit.as_deref())?,
            hard_limit: limit("--hard-limit", self.hard_limit.as_deref())?,
            max_attempts: self.max_attempts,
            mode: mode("--mode", self.mode.as_deref())?,
            headers,
        })
    }
}

/// What is asked for one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Asks {
    pub(super) expires: Option<When>,
    pub(super) retry_until: Option<When>,
    pub(super) soft_limit: Option<Duration>,
    pub(super) hard_limit: Option<Duration>,
    pub(super) max_attempts: Option<u16>,
    pub(super) mode: Option<Mode>,
    pub(super) headers: BTreeMap<String, String>,
}

impl Asks {
    /// Writes it into the options of a task that is enqueued now.
    ///
    /// # Errors
    /// When it would end before it is due, for people.
    pub(super) fn apply(self, options: &mut EnqueueOptions, now: Timestamp) -> Result<(), String> {
        let due = options.when.map_or(now, |when| instant(when, now));
        let overrides = &mut options.overrides;
        overrides.soft_limit_ms = self.soft_limit.map(celeriac_actors::time::millis);
        overrides.hard_limit_ms = self.hard_limit.map(celeriac_actors::time::millis);
        overrides.max_attempts = self.max_attempts;
        overrides.mode = self.mode;
        overrides.retry_until = self.retry_until.map(|when| instant(when, due));
        options.expires_at = self.expires.map(|when| instant(when, now));
        options.headers = self.headers;
        match options.expires_at {
            Some(at) if at <= due && due > now => {
                Err(format!("it expires at {at}, before it is due at {due}"))
            }
            _ => Ok(()),
        }
    }
}

fn instant(when: When, from: Timestamp) -> Timestamp {
    match when {
        When::Now => from,
        When::After(span) => from.plus(span),
        When::At(at) => at,
    }
}

/// Reads a span such as `1h` or an instant in RFC 3339.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(super) fn moment(what: &str, text: Option<&str>) -> Result<Option<When>, String> {
    let Some(text) = text else { return Ok(None) };
    // Only an instant has a `T` or begins with a year and its month.
    let is_instant = text.contains('T') || text.trim().get(4..5) == Some("-");
    let read = if is_instant {
        when::instant(what, text).map(When::At)
    } else {
        when::delay(what, text).map(When::After)
    };
    read.map(Some)
}

/// Reads the limit of an attempt.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(super) fn limit(what: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    text.map(|text| when::delay(what, text)).transpose()
}

/// Reads where a task runs.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(super) fn mode(what: &str, text: Option<&str>) -> Result<Option<Mode>, String> {
    let read = |text: &str| {
        let read = text.parse::<Mode>();
        read.map_err(|_| {
            let text = brief(text, 60);
            format!("{what} `{text}`: a mode is `inline`, `blocking` or `isolated`")
        })
    };
    text.map(read).transpose()
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// What is wrong, for people.
pub(in super::super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!(
            "--header `{}` is not of the form KEY=VALUE",
            brief(text, 60)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn applied(asks: Asks, when: Option<When>) -> Result<EnqueueOptions, String> {
        let mut options = EnqueueOptions {
            when,
            ..EnqueueOptions::default()
        };
        asks.apply(&mut options, NOW).map(|()| options)
    }

    #[test]
    fn spans_count_from_now_and_retries_from_when_it_is_due() {
        let asks = Asks {
            expires: moment("x", Some("2h")).unwrap(),
            retry_until: moment("x", Some("1h")).unwrap(),
            ..Asks::default()
        };
        let hour = Duration::from_secs(3_600);
        let options = applied(asks.clone(), Some(When::After(hour))).unwrap();
        assert_eq!(options.expires_at, Some(NOW.plus(2 * hour)));
        assert_eq!(options.overrides.retry_until, Some(NOW.plus(2 * hour)));

        let error = applied(asks, Some(When::After(2 * hour))).unwrap_err();
        assert!(error.contains("before it is due"), "{error}");
    }

    #[test]
    fn an_instant_is_told_from_a_span() {
        assert_eq!(
            moment("x", Some("1970-01-01T00:00:07Z")),
            Ok(Some(When::At(Timestamp::from_millis(7_000))))
        );
        for (text, said) in [
            ("soon", "x `soon`"),
            ("2026-01-31", "2026-01-31T12:00:00Z"),
            ("-1h", "x `-1h`"),
            ("200years", "longer than 100 years"),
        ] {
            let error = moment("x", Some(text)).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_header_may_hold_anything_behind_its_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
