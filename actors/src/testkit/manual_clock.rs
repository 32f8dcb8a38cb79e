//! A clock that stands still until a test turns it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::time::{Clock, Timestamp};

/// A [`Clock`] turned by hand: wall and boot-time clock together or each by itself.
///
/// Starts at 2026-01-01T00:00:00Z, an hour after boot. It wakes nobody: timers of the runtime know nothing of it.
///
/// ```
/// use celeriac_actors::{testkit::ManualClock, time::Clock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now().since(before), Duration::from_secs(5));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    hands: Mutex<Hands>,
}

#[derive(Clone, Copy, Debug)]
struct Hands {
    wall: Timestamp,
    boot: Duration,
}

impl ManualClock {
    /// Creates a clock that stands at 2026-01-01T00:00:00Z, an hour after boot.
    #[must_use]
    pub const fn new() -> Self {
        let hands = Hands {
            wall: Timestamp::from_millis(1_767_225_600_000),
            boot: Duration::from_secs(3_600),
        };
        Self {
            hands: Mutex::new(hands),
        }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        self.turn(|hands| {
            hands.wall = hands.wall.plus(by);
            hands.boot = hands.boot.saturating_add(by);
        });
    }

    /// Suspends the machine: time passes on both clocks while nothing runs. The same as [`advance`](Self::advance),
    /// because the boot-time clock goes on through a suspension; a name of its own says what a test means.
    pub fn suspend(&self, by: Duration) {
        self.advance(by);
    }

    /// Steps the wall clock forward, as a correction does; the boot-time clock does not notice.
    pub fn step_wall_forward(&self, by: Duration) {
        self.turn(|hands| hands.wall = hands.wall.plus(by));
    }

    /// Steps the wall clock back; the boot-time clock does not notice.
    pub fn step_wall_back(&self, by: Duration) {
        self.turn(|hands| hands.wall = hands.wall.minus(by));
    }

    /// Boots the machine again: the boot-time clock starts at `since_boot`, the wall clock goes on.
    pub fn reboot(&self, since_boot: Duration) {
        self.turn(|hands| hands.boot = since_boot);
    }

    fn turn(&self, turn: impl FnOnce(&mut Hands)) {
        turn(&mut self.hands.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn hands(&self) -> Hands {
        *self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().wall
    }

    fn since_boot(&self) -> Duration {
        self.hands().boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_the_wall_clock_leaves_the_boot_time_clock_alone() {
        let clock = ManualClock::new();
        let (wall, boot) = (clock.now(), clock.since_boot());
        let hour = Duration::from_secs(3_600);
        clock.step_wall_back(hour);
        clock.step_wall_back(hour);
        clock.step_wall_forward(hour);
        assert_eq!(clock.now(), wall.minus(hour));
        assert_eq!(clock.since_boot(), boot);
        clock.suspend(hour);
        assert_eq!((clock.now(), clock.since_boot()), (wall, boot + hour));
        clock.reboot(Duration::ZERO);
        assert_eq!((clock.now(), clock.since_boot()), (wall, Duration::ZERO));
    }
}
