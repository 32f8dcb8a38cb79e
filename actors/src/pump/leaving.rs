//! How a pump comes to its end: what was not started goes back at once, what runs is finished or undone, and blocking
//! work that nothing can stop is left behind: to the watchdog, or at the end of the process to who gives back the last.

use super::{Pump, Ready};
use crate::consumer::Mode;
use crate::lease::Outcome;

/// How it came to hold nothing.
#[derive(Clone, Copy)]
pub(super) enum Over {
    /// Its incarnation is closed.
    Closed,
    /// What is left is blocking work that still runs: somebody else keeps its lease and gives it back.
    LeftBehind,
}

impl Pump {
    pub(super) fn give_back_unstarted(&mut self) {
        let standby = self.standby.line.drain(..);
        let unstarted = self.waiting.drain(..).chain(self.suspects.drain(..));
        for Ready { tag, .. } in unstarted.chain(standby) {
            if self.line.table.finish(tag) {
                self.line.table.settle(tag, Outcome::release());
            }
        }
        self.seat.unreserve(self.seat.reserved());
        self.seat.stand_down(0);
    }

    /// Settles the rest, and closes the incarnation when nothing is left. Blocking work of attempts that were undone is
    /// waited for in a drain. Else it is left to the watchdog, so that it does not run beside itself; at the end of the
    /// process it is given back last of all.
    pub(super) fn call_for_the_last_time(&mut self) {
        self.seat.release(self.idle_permits());
        self.seat.stop_waiting();
        if !self.open && self.flights.is_empty() {
            // It holds nothing. Whether an opening that is under way happens is left to rescue.
            self.pending = None;
            self.over = Some(Over::Closed);
            return;
        }
        if self.pending.is_some() || !self.open {
            return;
        }
        if self.line.table.has_finished() {
            return self.exchange(0);
        }
        if !self.flights.is_empty() {
            return;
        }
        if !self.lingering.is_empty() {
            match self.control.mode() {
                Mode::GivingBack => {
                    self.over = Some(Over::LeftBehind);
                    return;
                }
                Mode::Draining | Mode::Running => return,
            }
        }
        if self.line.table.has_finished() {
            self.exchange(0);
        } else {
            self.pending = Some(self.line.close(&self.setup.link));
        }
    }
}
