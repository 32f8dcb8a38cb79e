//! Instants as people type them: RFC 3339 with any offset, a day in UTC, or an age such as `2h`.

use std::str::FromStr;
use std::time::Duration;

use celeriac_actors::time::Timestamp;

/// An instant as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// This one.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl When {
    /// Returns the instant, seen from `now`.
    pub(crate) fn instant(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(age) => now.minus(age),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(age) = humantime::parse_duration(text) {
            return Ok(Self::Ago(age));
        }
        let day = text.len() == "2026-01-31".len();
        let moment = if day {
            format!("{text}T00:00:00Z").parse::<jiff::Timestamp>()
        } else {
            text.parse()
        };
        let moment = moment.map_err(|_| {
            "expected an instant such as 2026-01-31T12:00:00+02:00 (with its offset), a day such as 2026-01-31, \
             or an age such as 2h or 7days"
                .to_owned()
        })?;
        match u64::try_from(moment.as_millisecond()) {
            Ok(millis) => Ok(Self::At(Timestamp::from_millis(millis))),
            Err(_) => Err("lies before 1970".to_owned()),
        }
    }
}

/// Returns an instant to the second, such as `2026-01-31T12:00:00Z`.
pub(crate) fn to_the_second(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.')
        .map_or_else(|| text.clone(), |(second, _)| format!("{second}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_days_and_ages_are_understood() {
        let at = |millis| Ok(When::At(Timestamp::from_millis(millis)));
        assert_eq!("2h".parse(), Ok(When::Ago(Duration::from_secs(7_200))));
        assert_eq!("2026-01-31T12:00:00Z".parse(), at(1_769_860_800_000));
        assert_eq!("2026-01-31T14:00:00+02:00".parse(), at(1_769_860_800_000));
        assert_eq!(
            "2026-01-31T06:30:00.250-05:30".parse(),
            at(1_769_860_800_250)
        );
        assert_eq!("2026-01-31".parse(), at(1_769_817_600_000));
        let now = Timestamp::from_millis(10_000);
        assert_eq!(
            When::Ago(Duration::from_secs(3)).instant(now).as_millis(),
            7_000
        );
        assert_eq!(
            When::Ago(Duration::from_secs(99)).instant(now),
            Timestamp::EPOCH
        );
    }

    #[test]
    fn the_second_is_enough_for_a_list() {
        let at = Timestamp::from_millis(1_769_860_800_250);
        assert_eq!(to_the_second(at), "2026-01-31T12:00:00Z");
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-01-31T12:00:00",
            "1969-12-31T23:59:59Z",
            "2026-13-01",
            "-2h",
        ] {
            assert!(text.parse::<When>().is_err(), "{text}");
        }
    }
}
