//! When a task is to run, as people type it. Pure.

use std::time::Duration;

use celeriac_actors::ports::When;
use celeriac_actors::time::Timestamp;

use super::super::text::brief;

/// The longest countdown: 100 years. What is meant to wait longer is a mistake.
const MAX_COUNTDOWN: Duration = Duration::from_secs(36_525 * 86_400);

/// Reads what was typed as countdown and as ETA; `None` when neither was.
///
/// # Errors
/// What is wrong, for people.
pub(crate) fn read(countdown: Option<&str>, eta: Option<&str>) -> Result<Option<When>, String> {
    match (countdown, eta) {
        (Some(_), Some(_)) => Err("give a countdown or an eta, not both".to_owned()),
        (Some(text), None) => delay("countdown", text).map(|delay| Some(When::After(delay))),
        (None, Some(text)) => instant("eta", text).map(|at| Some(When::At(at))),
        (None, None) => Ok(None),
    }
}

/// Reads a span such as `5m` or `1h 30s`.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(crate) fn span(what: &str, text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| {
        let found = brief(text, 60);
        format!("{what} `{found}`: {error}; write it as `30s`, `5m` or `1h 30m`")
    })
}

/// Reads a span of at most 100 years.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(crate) fn delay(what: &str, text: &str) -> Result<Duration, String> {
    let delay = span(what, text)?;
    if delay > MAX_COUNTDOWN {
        let found = brief(text, 60);
        return Err(format!("{what} `{found}` is longer than 100 years"));
    }
    Ok(delay)
}

/// Reads an instant in RFC 3339.
///
/// # Errors
/// What is wrong, for people; `what` names the value.
pub(crate) fn instant(what: &str, text: &str) -> Result<Timestamp, String> {
    let at: jiff::Timestamp = text.trim().parse().map_err(|error| {
        let found = brief(text, 60);
        let reason = brief(&format!("{error}"), 200);
        format!("{what} `{found}`: {reason}; write it as `2026-01-31T12:00:00Z` or with an offset, `…+02:00`")
    })?;
    let millis = u64::try_from(at.as_millisecond());
    millis
        .map(Timestamp::from_millis)
        .map_err(|_| format!("{what} `{}` is before 1970", brief(text, 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_names_the_same_instant() {
        let noon = When::At(Timestamp::from_millis(1_769_860_800_000));
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T06:30:00.000-05:30",
        ] {
            assert_eq!(read(None, Some(text)), Ok(Some(noon)), "{text}");
        }
        assert_eq!(
            read(Some("5m"), None),
            Ok(Some(When::After(Duration::from_secs(300))))
        );
        assert!(read(Some("99years"), None).is_ok());
        assert_eq!(read(None, None), Ok(None));
    }

    #[test]
    fn mistakes_say_what_is_right() {
        for (countdown, eta, said) in [
            (Some("5"), None, "write it as `30s`"),
            (Some("-5m"), None, "countdown `-5m`"),
            (Some("101years"), None, "longer than 100 years"),
            (
                Some("99999999999years"),
                None,
                "countdown `99999999999years`",
            ),
            (None, Some("tomorrow"), "2026-01-31T12:00:00Z"),
            (None, Some("2026-01-31T12:00:00"), "offset"),
            (None, Some("1969-01-01T00:00:00Z"), "before 1970"),
            (Some("5m"), Some("2026-01-31T12:00:00Z"), "not both"),
        ] {
            let error = read(countdown, eta).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
