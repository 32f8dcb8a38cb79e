//! The second half of the port: what every broker does, case by case.
//!
//! A broker's tests implement [`Harness`] and list every case with one line:
//!
//! ```ignore
//! celeriac_actors::conformance_tests!(MyHarness);
//! ```
//!
//! A case gets fresh data, plays producer, consumers and watchdog through the port alone, and compares whole states. Its
//! message names the rule that broke. Time is told in leases and passes by [`Harness::pass`], so that a broker on a
//! clock of its own can really wait. [`model`] plays random histories against a tiny model of the rules.

#![expect(
    clippy::missing_panics_doc,
    reason = "every case fails by panicking, and says so here"
)]

pub mod calls;
mod consumer;
pub mod dead;
pub mod enqueue;
pub mod guard;
pub mod inspect;
pub mod keep;
mod kit;
pub mod model;
pub mod order;
pub mod rescue;
pub mod settle;
pub mod suspects;
pub mod wake;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::consumer::Consumer;
pub use self::kit::{Stage, frame, outcome, rule, task};

use crate::ids::{QueueName, TaskId, WorkerId};
use crate::ports::Broker;

/// How a clock is stepped against real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// The wall clock jumps ahead.
    WallForward(Duration),
    /// The wall clock jumps back.
    WallBack(Duration),
    /// The machine boots again: the boot-time clock starts over.
    Reboot,
}

/// A broker under test, with the strings attached that no port has.
#[async_trait]
pub trait Harness: Sized + Send + Sync + 'static {
    /// Creates a broker without data. Called once per case, and once per history of the model.
    async fn fresh() -> Self;

    /// Returns the handle of one process.
    fn broker(&self) -> Arc<dyn Broker>;

    /// Opens a handle to the same data, as another process would.
    async fn another(&self) -> Arc<dyn Broker>;

    /// Lets this much time pass on the broker's clocks while nobody calls it.
    async fn pass(&self, time: Duration);

    /// Returns the lease that consumers take here: as short as the clock allows, at least a second.
    fn lease(&self) -> Duration;

    /// Returns for how long a wait must stay silent to count as silent.
    fn silence(&self) -> Duration;

    /// Returns whether [`pass`](Self::pass) costs no real time, so that cases may let days pass.
    fn time_is_free(&self) -> bool;

    /// Returns whether the harness dropped last on this thread saw so much more time pass than it was asked for that a
    /// failure of its case proves nothing. Such a case is played again, five times at most. Default no, as it must be
    /// where time is free.
    fn was_late() -> bool {
        false
    }

    /// Returns how many random histories the model plays.
    fn histories(&self) -> u32 {
        if self.time_is_free() { 200 } else { 20 }
    }

    /// Steps a clock. Returns `false`, with nothing done, where the broker's clock cannot be stepped.
    async fn step_clock(&self, step: ClockStep) -> bool;

    /// Proves a process dead. Returns `false` where no proof can be made up.
    async fn declare_dead(&self, worker: &WorkerId) -> bool;

    /// Overwrites the bytes of a task that is ready or in flight, behind the broker's back. Returns `false` where that
    /// cannot be done.
    async fn corrupt(&self, queue: &QueueName, task: TaskId, bytes: &[u8]) -> bool;
}

/// Runs a case to its end on a runtime of its own; fails it when it takes longer than ten minutes.
///
/// # Panics
/// When the case fails.
pub fn run(case: impl Future<Output = ()>) {
    let runtime = actix_rt::Runtime::new().expect("a runtime can be built");
    let limit = Duration::from_secs(600);
    runtime.block_on(async {
        let in_time = tokio::time::timeout(limit, case).await;
        assert!(in_time.is_ok(), "the case did not end within {limit:?}");
    });
}

/// Runs a case, and again if it fails while its harness [was late](Harness::was_late): the clock of a real server goes on
/// when a busy machine keeps the case waiting, and leases end that should not.
///
/// # Panics
/// When the case fails although the harness was in time, or five times.
pub fn play<H: Harness, C: Future<Output = ()>>(case: impl Fn() -> C) {
    again_while(H::was_late, || run(case()));
}

/// Runs `case` until it does not fail, or fails for good.
fn again_while(was_late: impl Fn() -> bool, case: impl Fn()) {
    const TRIES: u32 = 5;
    for _ in 1..TRIES {
        match catch_unwind(AssertUnwindSafe(&case)) {
            Ok(()) => return,
            Err(_) if was_late() => {}
            Err(panic) => resume_unwind(panic),
        }
    }
    case();
}

/// Lists every case of the suite as a test of the broker behind a [`Harness`](crate::testkit::conformance::Harness).
#[macro_export]
macro_rules! conformance_tests {
    ($harness:ty) => {
        $crate::conformance_tests! { @modules $harness;
            order {
                many_consumers_never_hold_a_task_twice
                nine_comes_before_zero_and_the_first_first
                a_fetch_takes_what_is_wanted_and_says_what_is_left
                two_handles_see_one_queue
            }
            calls {
                a_repeat_gives_the_same_reply
                a_repeat_leaves_out_what_was_taken_meanwhile
                a_repeat_settles_nothing_again
                a_number_that_does_not_follow_is_gone
                an_incarnation_that_was_never_opened_is_gone
                a_closed_identity_stays_closed
                opening_again_changes_nothing
                a_call_beyond_the_limits_is_invalid
            }
            settle {
                every_outcome_has_its_state_and_its_counter
                a_tag_that_is_not_held_is_stale_and_nothing_else
                a_tag_settled_twice_in_one_call_counts_once
                a_result_comes_with_the_step_that_ends_the_task
                what_is_released_goes_to_the_front_in_order
                a_task_released_with_a_delay_is_scheduled
                a_retry_waits_and_then_goes_to_the_back
                taking_a_delivery_works_once
                a_frame_without_a_header_cannot_be_handed_back
            }
            enqueue {
                a_repeated_call_adds_nothing
                a_number_that_does_not_follow_is_invalid
                a_call_is_added_whole_or_not_at_all
                a_batch_has_at_most_five_hundred_tasks
                a_channel_is_forgotten_when_its_time_is_over
                tasks_wait_for_their_time
                promotion_is_bounded_and_tells_what_is_next
            }
            rescue {
                a_silent_consumer_loses_its_tasks_to_the_front
                a_sweep_is_bounded_and_finished_by_the_next
                renewal_keeps_a_long_task
                an_exchange_renews_too
                the_rescued_are_fenced_everywhere
                proof_of_death_rescues_at_once
            }
            guard {
                an_outage_rescues_nobody
                a_wall_clock_step_rescues_nobody
                another_boot_loses_nothing
                proof_of_death_counts_even_then
                seldom_sweeps_rescue_all_the_same
            }
            suspects {
                two_strikes_are_poison
                neighbours_without_a_start_mark_never_strike
                whoever_waits_learns_of_a_burial_by_rescue
                twenty_deliveries_are_the_limit
                garbage_in_flight_is_buried_raw
                garbage_that_is_ready_reaches_the_dead_through_its_consumer
            }
            dead {
                the_dead_stay_until_they_are_dropped
                a_revived_task_can_die_again
                two_of_the_same_bytes_die_apart
            }
            wake {
                enqueueing_wakes_one_who_waits
                a_token_is_passed_on_while_something_is_left
                a_paused_queue_never_rings
                an_earlier_due_time_rings
                what_comes_back_rings
                a_burial_rings
                a_revocation_rings_for_all_who_wait
            }
            inspect {
                a_paused_queue_settles_but_hands_out_nothing
                a_scan_pages_through_every_state
                a_purge_ends_what_waits_step_by_step
                whoever_waits_for_a_purged_task_learns_of_it
                a_scan_refuses_what_it_cannot_read
                workers_beat_and_say_farewell
            }
            keep {
                results_end_and_are_seen_from_everywhere
                one_can_wait_for_results
                revocations_have_a_version_and_an_end
                rules_are_remembered_to_the_letter
                a_shared_value_is_compared_and_set
                a_shared_value_ends_and_its_version_never_returns
                housekeeping_forgets_what_is_over
            }
            model {
                random_histories_keep_the_promises
            }
        }
    };
    (@modules $harness:ty; $($module:ident { $($case:ident)+ })+) => {
        $( $crate::conformance_tests! { @module $harness; $module { $($case)+ } } )+
    };
    (@module $harness:ty; $module:ident { $($case:ident)+ }) => {
        mod $module {
            #[allow(unused_imports, reason = "the harness may be given by its full path")]
            use super::*;
            $(
                #[test]
                fn $case() {
                    $crate::testkit::conformance::play::<$harness, _>(
                        $crate::testkit::conformance::$module::$case::<$harness>,
                    );
                }
            )+
        }
    };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Plays a case that fails so many times; returns how often it was played and whether it failed in the end.
    fn played(failures: u32, late: bool) -> (u32, bool) {
        let times = Cell::new(0);
        let case = || {
            times.set(times.get() + 1);
            assert!(times.get() > failures, "as asked");
        };
        let end = catch_unwind(AssertUnwindSafe(|| again_while(|| late, case)));
        (times.get(), end.is_err())
    }

    #[test]
    fn only_what_was_late_is_played_again() {
        assert_eq!(played(0, true), (1, false));
        assert_eq!(played(3, true), (4, false));
        assert_eq!(played(9, true), (5, true));
        assert_eq!(played(1, false), (1, true));
    }
}
