//! The blocking pool's part of the patrol: replaces threads whose work has overstayed its hard limit, and asks for a new
//! process when more of them are given up on than can be replaced.

use slog::{error, info};

use super::Duty;
use crate::blocking::Stuck;

impl Duty {
    /// Looks for stuck threads; `before` is what the last look found.
    pub(super) fn check_pool(&self, before: &mut Stuck) {
        let stuck = self
            .setup
            .worker
            .blocking
            .make_up(self.setup.blocked_deadline);
        if stuck.threads > before.threads {
            error!(self.log, "blocking work goes on beyond its hard limit; its threads are replaced";
                "stuck" => stuck.threads);
        } else if stuck.threads < before.threads {
            info!(self.log, "threads came back from blocking work"; "stuck" => stuck.threads);
        }
        *before = stuck;
        if stuck.too_many && !self.setup.recycle.send_replace(true) {
            error!(self.log, "too many threads hang in blocking work; asking to be replaced";
                "stuck" => stuck.given_up);
        }
    }
}
