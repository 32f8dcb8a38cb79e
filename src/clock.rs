//! The system's clock: the one place of the program that reads the time.
//!
//! Wall-clock instants come from the system's real-time clock, lengths from the boot-time clock, which goes on while
//! the machine is suspended and is stepped by nobody. Time since boot means nothing without [`boot_id`], which says
//! of which boot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use celeriac_actors::time::{Clock, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The clock of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everybody else is given"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp::EPOCH.plus(since.unwrap_or_default())
    }

    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Duration::new(seconds, nanos)
    }
}

/// Returns the identity of the machine's current boot, `unknown` where the system does not tell.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_run() {
        let (wall, boot) = (SystemClock.now(), SystemClock.since_boot());
        assert!(wall > Timestamp::from_millis(1_600_000_000_000));
        assert!(SystemClock.since_boot() >= boot);
        assert_eq!(boot_id(), boot_id());
    }
}
