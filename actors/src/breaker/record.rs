//! Where a breaker stands, and how it moves on. Pure: values in, the next record or nothing out.
//!
//! Each change gives the record a new *turn*, greater than every earlier one of its name. Whoever acts on a record says
//! which turn he means, and does nothing when another one came between.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::BreakerPolicy;
use crate::failure::cut;
use crate::ids::BreakerName;
use crate::time::{Timestamp, millis};

/// The longest cause kept, in bytes.
const MAX_CAUSE: usize = 200;

/// Whether calls pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// They do, and are counted.
    Closed,
    /// They do not.
    Open,
    /// One of the whole cluster does.
    HalfOpen,
}

impl BreakerState {
    /// Returns the state as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Where a breaker stands, as all workers of a broker share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerRecord {
    /// The breaker.
    pub name: BreakerName,
    /// Whether calls pass.
    pub state: BreakerState,
    /// Grows with each change.
    pub turn: u64,
    /// Since when, by the clock of who changed it.
    pub since: Timestamp,
    /// For an open one, when it may be probed, `None` when somebody closes it by hand; for a half-open one, when its
    /// probe loses it.
    pub until: Option<Timestamp>,
    /// How often it opened without having been well in between.
    pub openings: u32,
    /// Who changed it: a worker, or a person.
    pub by: String,
    /// Why.
    pub cause: String,
}

/// Who changes a breaker, when, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act<'a> {
    pub(crate) by: &'a str,
    pub(crate) cause: &'a str,
    pub(crate) now: Timestamp,
}

impl BreakerRecord {
    /// Returns the record of a breaker of which nothing is known: closed.
    #[must_use]
    pub fn closed(name: BreakerName) -> Self {
        Self {
            name,
            state: BreakerState::Closed,
            turn: 0,
            since: Timestamp::EPOCH,
            until: None,
            openings: 0,
            by: String::new(),
            cause: String::new(),
        }
    }

    fn next(&self, state: BreakerState, until: Option<Timestamp>, act: Act<'_>) -> Self {
        Self {
            name: self.name.clone(),
            state,
            // By the clock, so that a record that was forgotten and made anew repeats none of its turns.
            turn: self.turn.saturating_add(1).max(act.now.as_millis()),
            since: act.now,
            until,
            openings: self.openings,
            by: cut(act.by.to_owned(), MAX_CAUSE),
            cause: cut(act.cause.to_owned(), MAX_CAUSE),
        }
    }

    /// Opens a closed breaker because what is behind it fails.
    pub(crate) fn trip(
        &self,
        policy: &BreakerPolicy,
        act: Act<'_>,
        rng: &mut impl Rng,
    ) -> Option<Self> {
        (self.state == BreakerState::Closed).then(|| {
            // Soon after it was closed it was not well yet.
            let again = act.now.since(self.since) < policy.window;
            let openings = if again { self.openings } else { 0 };
            self.open(openings.saturating_add(1), policy, act, rng)
        })
    }

    fn open(
        &self,
        openings: u32,
        policy: &BreakerPolicy,
        act: Act<'_>,
        rng: &mut impl Rng,
    ) -> Self {
        let wait = policy.open.delay(openings, rng);
        let until = act.now.plus(wait.max(BreakerPolicy::MIN_OPEN));
        Self {
            openings,
            ..self.next(BreakerState::Open, Some(until), act)
        }
    }

    /// Returns whether the next attempt may probe it: its time is over, or that of its probe.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.state != BreakerState::Closed && self.until.is_some_and(|until| until <= now)
    }

    /// Takes the one probe of a breaker that is due, for at most `limit`.
    pub(crate) fn probe(&self, limit: Duration, act: Act<'_>) -> Option<Self> {
        self.is_due(act.now)
            .then(|| self.next(BreakerState::HalfOpen, Some(act.now.plus(limit)), act))
    }

    fn is_probe(&self, turn: u64) -> bool {
        self.state == BreakerState::HalfOpen && self.turn == turn
    }

    /// Closes it, if the probe of this turn still holds it: what is behind it answers.
    pub(crate) fn probe_succeeded(&self, turn: u64, act: Act<'_>) -> Option<Self> {
        self.is_probe(turn)
            .then(|| self.next(BreakerState::Closed, None, act))
    }

    /// Opens it again and for longer, if the probe of this turn still holds it.
    pub(crate) fn probe_failed(
        &self,
        turn: u64,
        policy: &BreakerPolicy,
        act: Act<'_>,
        rng: &mut impl Rng,
    ) -> Option<Self> {
        self.is_probe(turn)
            .then(|| self.open(self.openings.saturating_add(1), policy, act, rng))
    }

    /// Gives the probe to the next one at once, if this turn still holds it: it ended without telling anything.
    pub(crate) fn probe_returned(&self, turn: u64, act: Act<'_>) -> Option<Self> {
        self.is_probe(turn)
            .then(|| self.next(BreakerState::Open, Some(act.now), act))
    }

    /// Opens it by hand, for `length`, or until somebody closes it. Whoever probes it loses it.
    #[must_use]
    pub fn opened_by(&self, who: &str, length: Option<Duration>, now: Timestamp) -> Self {
        let act = Act {
            by: who,
            cause: "opened by hand",
            now,
        };
        Self {
            openings: 0,
            ..self.next(
                BreakerState::Open,
                length.map(|length| now.plus(length)),
                act,
            )
        }
    }

    /// Closes it by hand; `None` when it is closed.
    #[must_use]
    pub fn closed_by(&self, who: &str, now: Timestamp) -> Option<Self> {
        let act = Act {
            by: who,
            cause: "closed by hand",
            now,
        };
        (self.state != BreakerState::Closed).then(|| Self {
            openings: 0,
            ..self.next(BreakerState::Closed, None, act)
        })
    }

    /// Returns how long nothing passes yet: zero when it is closed or due, `None` until somebody closes it. A clock that
    /// is behind the one of who opened it waits no longer than it was opened for.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        if self.state == BreakerState::Closed {
            return Some(Duration::ZERO);
        }
        let until = self.until?;
        Some(until.since(now).min(until.since(self.since)))
    }

    /// Returns whether it says nothing that is still worth keeping.
    pub(crate) fn is_stale(&self, now: Timestamp, keep: Duration) -> bool {
        self.state == BreakerState::Closed
            && now.as_millis().saturating_sub(self.since.as_millis()) > millis(keep)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn at(now: u64) -> Act<'static> {
        Act {
            by: "w",
            cause: "c",
            now: Timestamp::from_millis(now),
        }
    }

    fn policy() -> BreakerPolicy {
        let (base, ceiling) = (Duration::from_millis(100), Duration::from_millis(800));
        BreakerPolicy::default().jitter(0.0).open_for(base, ceiling)
    }

    fn fresh() -> BreakerRecord {
        BreakerRecord::closed(BreakerName::new("stripe").unwrap())
    }

    #[test]
    fn it_opens_probes_and_closes() {
        let mut rng = StdRng::seed_from_u64(1);
        let open = fresh().trip(&policy(), at(50_000), &mut rng).unwrap();
        assert_eq!(open.until, Some(Timestamp::from_millis(50_100)));
        assert_eq!(open.trip(&policy(), at(50_001), &mut rng), None);
        assert_eq!(open.probe(Duration::from_secs(1), at(50_099)), None);
        let probed = open.probe(Duration::from_secs(1), at(50_100)).unwrap();
        assert_eq!(probed.probe(Duration::from_secs(1), at(50_200)), None);
        let closed = probed.probe_succeeded(probed.turn, at(50_300)).unwrap();
        assert_eq!(closed.state, BreakerState::Closed);
        // Not well yet: it goes on where it was.
        let again = closed.trip(&policy(), at(50_400), &mut rng).unwrap();
        assert_eq!(
            (
                again.openings,
                again.remaining(Timestamp::from_millis(50_400))
            ),
            (2, Some(Duration::from_millis(200)))
        );
        let later = closed.trip(&policy(), at(90_000), &mut rng).unwrap();
        assert_eq!(later.openings, 1);
    }

    #[test]
    fn a_probe_that_fails_doubles_the_wait_and_one_that_dies_frees_it_by_time() {
        let mut rng = StdRng::seed_from_u64(1);
        let open = fresh().trip(&policy(), at(50_000), &mut rng).unwrap();
        let first = open.probe(Duration::from_secs(1), at(50_100)).unwrap();
        let again = first
            .probe_failed(first.turn, &policy(), at(50_150), &mut rng)
            .unwrap();
        assert_eq!(again.until, Some(Timestamp::from_millis(50_350)));
        let lost = again.probe(Duration::from_secs(1), at(50_350)).unwrap();
        let second = lost.probe(Duration::from_secs(1), at(51_350)).unwrap();
        assert_eq!(second.probe_succeeded(lost.turn, at(51_400)), None);
        assert!(second.probe_succeeded(second.turn, at(51_400)).is_some());
    }

    #[test]
    fn what_is_opened_by_hand_stays_open() {
        let now = Timestamp::from_millis(1_000);
        let held = fresh().opened_by("ann", None, now);
        assert_eq!(held.remaining(now), None);
        assert_eq!(held.probe(Duration::from_secs(1), at(u64::MAX)), None);
        let closed = held.closed_by("ann", now).unwrap();
        assert_eq!(
            (closed.state, closed.closed_by("ann", now)),
            (BreakerState::Closed, None)
        );
        let timed = fresh().opened_by("ann", Some(Duration::from_secs(2)), now);
        assert!(timed.is_due(Timestamp::from_millis(3_000)));
        // A clock that is an hour behind waits as long as was said, not an hour.
        assert_eq!(
            timed.remaining(Timestamp::EPOCH),
            Some(Duration::from_secs(2))
        );
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Trip,
        Probe,
        Succeed(usize),
        Fail(usize),
        Return(usize),
        Open(bool),
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Trip),
            Just(Step::Probe),
            Just(Step::Probe),
            (0_usize..4).prop_map(Step::Succeed),
            (0_usize..4).prop_map(Step::Fail),
            (0_usize..4).prop_map(Step::Return),
            any::<bool>().prop_map(Step::Open),
            Just(Step::Close),
        ]
    }

    proptest! {
        /// Whatever is done in whatever order: turns grow, at most one probe holds it, and an old one changes nothing.
        #[test]
        fn one_probe_holds_it_and_turns_grow(
            steps in prop::collection::vec((step(), 0_u64..400), 1..120),
            seed: u64,
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut record, mut probes, mut now) = (fresh(), Vec::<u64>::new(), 0);
            for (step, by) in steps {
                now += by;
                let old = |back: usize| probes.iter().rev().nth(back).copied().unwrap_or(u64::MAX);
                let limit = Duration::from_millis(500);
                let next = match step {
                    Step::Trip => record.trip(&policy(), at(now), &mut rng),
                    Step::Probe => record.probe(limit, at(now)),
                    Step::Succeed(back) => record.probe_succeeded(old(back), at(now)),
                    Step::Fail(back) => record.probe_failed(old(back), &policy(), at(now), &mut rng),
                    Step::Return(back) => record.probe_returned(old(back), at(now)),
                    Step::Open(timed) => Some(record.opened_by("p", timed.then_some(limit), at(now).now)),
                    Step::Close => record.closed_by("p", at(now).now),
                };
                let Some(next) = next else { continue };
                prop_assert!(next.turn > record.turn);
                if let Step::Succeed(back) | Step::Fail(back) | Step::Return(back) = step {
                    // Only the newest probe, and only while it holds the breaker.
                    prop_assert_eq!(record.state, BreakerState::HalfOpen);
                    prop_assert_eq!((back, record.turn), (0, old(0)));
                }
                if next.state == BreakerState::HalfOpen {
                    let over = record.until.is_some_and(|until| until <= Timestamp::from_millis(now));
                    prop_assert!(over && record.state != BreakerState::Closed);
                    probes.push(next.turn);
                }
                if let (Step::Trip | Step::Fail(_), Some(until)) = (step, next.until) {
                    let wait = until.since(next.since);
                    prop_assert!(wait >= BreakerPolicy::MIN_OPEN && wait <= policy().open.ceiling());
                }
                record = next;
            }
        }
    }
}
