//! The broker's clock, as far as a pump knows it: how far it was ahead of the worker's at the last reply.

use crate::time::Timestamp;

/// Follows the broker's clock from reply to reply.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BrokerClock(Option<(Timestamp, Timestamp)>);

impl BrokerClock {
    /// Takes in what the broker's clock said when the worker's said `here`.
    pub(super) fn set(&mut self, there: Timestamp, here: Timestamp) {
        self.0 = Some((there, here));
    }

    /// Returns what it says when the worker's says `now`; `None` before the first reply.
    pub(super) fn at(&self, now: Timestamp) -> Option<Timestamp> {
        let (there, here) = self.0?;
        Some(if now >= here {
            there.plus(now.since(here))
        } else {
            there.minus(here.since(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_distance_whichever_clock_is_ahead() {
        let at = Timestamp::from_millis;
        let mut clock = BrokerClock::default();
        assert_eq!(clock.at(at(5)), None);
        clock.set(at(1_000), at(9_000));
        assert_eq!(clock.at(at(9_500)), Some(at(1_500)));
        assert_eq!(clock.at(at(8_500)), Some(at(500)));
    }
}
