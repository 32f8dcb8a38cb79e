//! The plan by example, and as a game: whatever children do and in whatever order, the invariants hold.

use proptest::prelude::{Just, TestCaseError, any, prop, prop_assert, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

use super::*;
use crate::child::Strategy;
use crate::panics::PanicReport;

const LATER: Duration = Duration::from_secs(5);

fn child(phase: Phase) -> Facts {
    Facts {
        phase,
        goal: Goal::Run,
        restart: Restart::Permanent,
        tried: true,
        parks: false,
        parked: false,
    }
}

fn idle() -> Facts {
    child(Phase::Idle {
        not_before: Duration::ZERO,
    })
}

fn panicked() -> ExitReason {
    ExitReason::Panic {
        report: PanicReport {
            message: "m".into(),
            location: None,
            backtrace: None,
        },
    }
}

#[test]
fn judges_by_rule_then_by_kind_then_by_count() {
    use Restart::{Permanent, Temporary, Transient};
    let (limit, normal, outage) = (
        Limit::new(3, LATER),
        ExitReason::Normal,
        ExitReason::outage("o"),
    );
    let verdict = |restart, reason: &ExitReason, on_exhausted, own, together, on_probation| {
        let crashes = Crashes {
            own,
            together,
            on_probation,
        };
        judge(restart, reason, on_exhausted, crashes, limit)
    };
    let with = OnExhausted::Escalate;
    assert_eq!(
        verdict(Temporary, &panicked(), with, 9, 9, false),
        Verdict::End
    );
    assert_eq!(verdict(Transient, &normal, with, 9, 9, false), Verdict::End);
    assert_eq!(
        verdict(Permanent, &normal, with, 1, 3, false),
        Verdict::Restart
    );
    assert_eq!(
        verdict(Permanent, &normal, with, 1, 4, false),
        Verdict::Escalate
    );
    assert_eq!(
        verdict(Transient, &panicked(), with, 4, 4, false),
        Verdict::Escalate
    );
    assert_eq!(
        verdict(Permanent, &outage, with, 9, 9, false),
        Verdict::Restart
    );
    let with = OnExhausted::park(Limit::new(1, LATER));
    assert_eq!(
        verdict(Permanent, &panicked(), with, 1, 9, false),
        Verdict::RestartAlone
    );
    assert_eq!(
        verdict(Permanent, &panicked(), with, 2, 0, false),
        Verdict::Park
    );
    assert_eq!(
        verdict(Permanent, &panicked(), with, 0, 0, true),
        Verdict::Park
    );
    assert_eq!(
        verdict(Permanent, &outage, with, 9, 9, false),
        Verdict::RestartAlone
    );
    assert_eq!(verdict(Permanent, &outage, with, 0, 0, true), Verdict::Park);
}

#[test]
fn a_restart_is_shared_by_whom_the_strategy_names() {
    let mut children = [child(Phase::Up); 6];
    children[0].restart = Restart::Temporary;
    children[3].phase = Phase::Ended;
    children[4].parked = true;
    children[5].restart = Restart::Temporary;
    let recycle = Goal::Recycle { not_before: LATER };
    let shared = |strategy| share_restart(strategy, 1, &children, LATER);
    assert_eq!(shared(Strategy::OneForOne), []);
    assert_eq!(shared(Strategy::RestForOne), [(2, recycle), (5, Goal::End)]);
    assert_eq!(
        shared(Strategy::OneForAll),
        [(0, Goal::End), (2, recycle), (5, Goal::End)]
    );
}

#[test]
fn stops_the_last_first_and_one_at_a_time() {
    let mut children = [child(Phase::Up); 3];
    assert_eq!(next_stop(&children), None);
    children[0].goal = Goal::End;
    children[1].goal = Goal::End;
    assert_eq!(next_stop(&children), Some(1));
    children[1].phase = Phase::Stopping;
    assert_eq!(next_stop(&children), None);
    children[1].phase = Phase::Ended;
    assert_eq!(next_stop(&children), Some(0));
}

#[test]
fn starts_in_order_and_not_before_the_backoff() {
    let mut children = [idle(); 3];
    children.iter_mut().for_each(|child| child.tried = false);
    let now = Duration::ZERO;
    assert_eq!(
        next_start(Strategy::OneForOne, &children, now),
        NextStart::Now(0)
    );
    children[0].phase = Phase::Starting;
    children[0].tried = true;
    for strategy in [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ] {
        assert_eq!(next_start(strategy, &children, now), NextStart::Nothing);
    }
    children[0].phase = Phase::Idle { not_before: LATER };
    assert_eq!(
        next_start(Strategy::OneForOne, &children, now),
        NextStart::Now(1)
    );
    assert_eq!(
        next_start(Strategy::RestForOne, &children, now),
        NextStart::At(LATER)
    );
    children[0].parked = true;
    assert_eq!(
        next_start(Strategy::RestForOne, &children, now),
        NextStart::Now(1)
    );
}

/// What happens next in the game.
#[derive(Clone, Debug)]
enum Turn {
    Born(usize),
    /// Ends by itself; shares its restart as the strategy says.
    Crash(usize),
    /// Ends because it was told to.
    Stopped(usize),
    Order(usize, bool),
    Close,
    Wait,
}

fn turns() -> impl proptest::strategy::Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        6 => (0..6_usize).prop_map(Turn::Born),
        3 => (0..6_usize).prop_map(Turn::Crash),
        6 => (0..6_usize).prop_map(Turn::Stopped),
        1 => (0..6_usize, any::<bool>()).prop_map(|(index, end)| Turn::Order(index, end)),
        1 => Just(Turn::Close),
        3 => Just(Turn::Wait),
    ];
    prop::collection::vec(turn, 0..120)
}

/// The supervisor's side of the game, as the actor plays it.
struct Game {
    strategy: Strategy,
    children: Vec<Facts>,
    now: Duration,
    closing: bool,
}

impl Game {
    fn aim(&mut self, index: usize, goal: Goal) {
        let child = &mut self.children[index];
        if child.is_active() {
            child.goal = goal;
        } else if goal == Goal::End {
            child.phase = Phase::Ended;
        } else if let (Goal::Recycle { not_before }, Phase::Idle { not_before: own }) =
            (goal, child.phase)
        {
            child.phase = Phase::Idle {
                not_before: own.max(not_before),
            };
        }
    }

    fn play(&mut self, turn: &Turn) {
        let not_before = self.now + Duration::from_secs(1);
        match *turn {
            Turn::Born(index) if self.children[index].phase == Phase::Starting => {
                self.children[index].phase = Phase::Up;
            }
            Turn::Crash(index)
                if matches!(self.children[index].phase, Phase::Starting | Phase::Up) =>
            {
                let ends = self.children[index].goal == Goal::End
                    || self.children[index].restart == Restart::Temporary;
                self.children[index].goal = Goal::Run;
                self.children[index].phase = if ends {
                    Phase::Ended
                } else {
                    Phase::Idle { not_before }
                };
                if !ends {
                    for (sibling, goal) in
                        share_restart(self.strategy, index, &self.children, not_before)
                    {
                        self.aim(sibling, goal);
                    }
                }
            }
            Turn::Stopped(index) if self.children[index].phase == Phase::Stopping => {
                let child = &mut self.children[index];
                child.phase = match child.goal {
                    Goal::Recycle { not_before } => Phase::Idle { not_before },
                    Goal::End | Goal::Run => Phase::Ended,
                };
                child.goal = Goal::Run;
            }
            Turn::Order(index, end) if !self.closing => {
                self.aim(
                    index,
                    if end {
                        Goal::End
                    } else {
                        Goal::Recycle {
                            not_before: self.now,
                        }
                    },
                );
            }
            Turn::Close => {
                self.closing = true;
                (0..self.children.len()).for_each(|index| self.aim(index, Goal::End));
            }
            Turn::Wait => self.now += Duration::from_millis(700),
            _ => {}
        }
    }

    /// Gives orders until none is left, and checks each.
    fn drive(&mut self) -> Result<(), TestCaseError> {
        while let Some(index) = next_stop(&self.children) {
            prop_assert!(
                self.children
                    .iter()
                    .all(|child| child.phase != Phase::Stopping)
            );
            prop_assert!(
                self.children[index + 1..]
                    .iter()
                    .all(|child| !child.is_to_stop())
            );
            self.children[index].phase = Phase::Stopping;
        }
        for _ in 0..=self.children.len() {
            let NextStart::Now(index) = next_start(self.strategy, &self.children, self.now) else {
                return Ok(());
            };
            let Phase::Idle { not_before } = self.children[index].phase else {
                return Err(TestCaseError::fail("started what was not idle"));
            };
            prop_assert!(not_before <= self.now && !self.closing);
            if self.strategy != Strategy::OneForOne {
                let up = |child: &Facts| matches!(child.phase, Phase::Up | Phase::Ended);
                prop_assert!(self.children[..index].iter().all(up));
            }
            self.children[index].phase = Phase::Starting;
            self.children[index].tried = true;
        }
        Err(TestCaseError::fail("one child was started twice in a row"))
    }

    /// Lets everybody do what is expected of them, and time pass.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..20 {
            for index in 0..self.children.len() {
                self.play(&Turn::Stopped(index));
                self.play(&Turn::Born(index));
                self.drive()?;
            }
            self.now += LATER;
            self.drive()?;
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn order_holds_and_everything_settles(
        strategy in prop_oneof![
            Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)
        ],
        temporary in prop::collection::vec(any::<bool>(), 6),
        turns in turns(),
    ) {
        let children = temporary
            .into_iter()
            .map(|temporary| Facts {
                tried: false,
                restart: if temporary { Restart::Temporary } else { Restart::Permanent },
                ..idle()
            })
            .collect();
        let mut game = Game { strategy, children, now: Duration::ZERO, closing: false };
        game.drive()?;
        for turn in turns {
            game.play(&turn);
            game.drive()?;
        }
        game.settle()?;
        let wanted = |child: &Facts| match child.phase {
            Phase::Up => !game.closing,
            Phase::Ended => true,
            Phase::Idle { .. } | Phase::Starting | Phase::Stopping => false,
        };
        prop_assert!(game.children.iter().all(wanted), "{:?}", game.children);
    }
}
