//! What is asked for one task instead of what its kind says, as people write it: limits, attempts, ends, headers.

use std::collections::BTreeMap;
use std::time::Duration;

use celeriac_actors::mode::Mode;
use celeriac_actors::ports::When;
use celeriac_actors::producer::EnqueueOptions;
use celeriac_actors::time::Timestamp;

use super::super::text::brief;
use super::when;

/// What is asked for one task.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asks {
    pub(crate) expires: Option<When>,
    pub(crate) retry_until: Option<When>,
    pub(crate) soft_limit: Option<Duration>,
    pub(crate) hard_limit: Option<Duration>,
    pub(crate) max_attempts: Option<u16>,
    pub(crate) mode: Option<Mode>,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Asks {
    /// Writes it into the options of a task that is enqueued now.
    ///
    /// # Errors
    /// When it would end before it is due, for people.
    pub(crate) fn apply(self, options: &mut EnqueueOptions, now: Timestamp) -> Result<(), String> {
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
pub(crate) fn moment(what: &str, text: Option<&str>) -> Result<Option<When>, String> {
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
pub(crate) fn limit(what: &str, text: Option<&str>) -> Result<Option<Duration>, String> {
    text.map(|text| when::delay(what, text)).transpose()
}

/// Reads where a task runs.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(crate) fn mode(what: &str, text: Option<&str>) -> Result<Option<Mode>, String> {
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
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
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
