//! Time as the domain sees it: instants of the broker's wall clock, and the clock that is passed in.
//!
//! Nothing in the vocabulary reads a clock. Due times and expiries are wall-clock [`Timestamp`]s compared on the
//! broker's side; leases and gaps are measured on the boot-time clock, which steps with nobody's correction and
//! goes on while a machine is suspended.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
///
/// Arithmetic saturates; an instant before 1970 cannot be expressed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of 1970, which stands for "never" where an expiry is optional on the wire.
    pub const EPOCH: Self = Self(0);

    /// Creates an instant from milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this instant is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns this instant moved forward by `by`, truncated to milliseconds, at most the last instant.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// Returns this instant moved back by `by`, truncated to milliseconds, at least the epoch.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 in UTC with milliseconds, such as `2026-01-31T12:00:00.250Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, of_day) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let (h, m, s) = (
            of_day / 3_600_000,
            of_day / 60_000 % 60,
            of_day / 1_000 % 60,
        );
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z",
            self.0 % 1_000
        )
    }
}

/// Returns `duration` in whole milliseconds, saturating.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a span by its two largest units: `12ms`, `3.4s`, `5m 12s`, `2h 5m`, `3d 4h`.
#[must_use]
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..=9 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        10..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Returns how long ago `then` was, or how far ahead it is.
#[must_use]
pub fn when(then: Timestamp, now: Timestamp) -> String {
    if then > now {
        format!("in {}", span(then.since(now)))
    } else {
        format!("{} ago", span(now.since(then)))
    }
}

/// Converts days since 1970-01-01 into year, month and day of the Gregorian calendar.
///
/// Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`, for days that are not negative.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Where time comes from. One per process; a manual one in tests.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the wall clock's instant. May step in both directions.
    fn now(&self) -> Timestamp;

    /// Returns the time since the machine booted, suspension included. Never goes back within one boot.
    fn since_boot(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_known_instants() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (4_102_444_800_001, "2100-01-01T00:00:00.001Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let early = Timestamp::from_millis(5);
        assert_eq!(early.minus(Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(early.since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(early.plus(Duration::MAX).as_millis(), u64::MAX);
    }

    #[test]
    fn spans_show_two_units() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (3_450, "3.4s"),
            (59_999, "59s"),
            (312_000, "5m 12s"),
            (7_500_000, "2h 5m"),
            (273_600_000, "3d 4h"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        let now = Timestamp::from_millis(10_000);
        assert_eq!(when(Timestamp::from_millis(15_000), now), "in 5.0s");
        assert_eq!(when(Timestamp::from_millis(9_990), now), "10ms ago");
    }
}
