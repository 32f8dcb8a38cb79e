//! The machine: its clocks and its limits.

use std::time::Duration;

use celeriac_actors::time::{Clock as _, Timestamp};
use rustix::process::{Resource, getrlimit};

use super::finding::{Blame, Finding};
use crate::clock::{SystemClock, boot_id};
use crate::config::Config;

/// No machine that runs this has an earlier time: 2025-01-01.
const EARLIEST: Timestamp = Timestamp::from_millis(1_735_689_600_000);
/// Nor a later one: 2100-01-01.
const LATEST: Timestamp = Timestamp::from_millis(4_102_444_800_000);
/// Clocks of machines that are kept in time differ by less.
const SKEW: Duration = Duration::from_secs(5);
/// How long both clocks are watched.
const WATCHED: Duration = Duration::from_millis(50);
/// Databases, their logs, doorbells and connections of one worker need about so many files.
const FILES: u64 = 256;
/// So many leave room for what tasks open.
const ROOMY: u64 = 1_024;
/// Threads beside lanes and blocking work.
const OTHERS: u64 = 24;

/// Checks clocks and limits; `newest` is the newest instant that the data has.
pub(super) fn check(config: &Config, newest: Option<Timestamp>) -> Vec<Finding> {
    let mut findings = vec![clock(SystemClock.now(), newest), pace(), boot()];
    let files = getrlimit(Resource::Nofile).current;
    findings.push(files_limit(files.unwrap_or(u64::MAX)));
    let threads = getrlimit(Resource::Nproc).current;
    let wanted = config.arbiters as u64 + config.blocking_threads as u64 + OTHERS;
    findings.push(threads_limit(threads.unwrap_or(u64::MAX), wanted));
    findings
}

fn clock(now: Timestamp, newest: Option<Timestamp>) -> Finding {
    if !(EARLIEST..LATEST).contains(&now) {
        let text = format!("the wall clock says {now}");
        return Finding::failure(Blame::Data, "clock", text)
            .advise("set the clock; is NTP running?");
    }
    match newest {
        Some(newest) if newest > now.plus(SKEW) => {
            let ahead =
                humantime::format_duration(Duration::from_secs(newest.since(now).as_secs()));
            let text =
                format!("the wall clock says {now}, but the newest record is {ahead} ahead of it");
            let advice =
                "tasks become due late until the clock has caught up; set it, and keep it by NTP";
            Finding::warning("clock", text).advise(advice)
        }
        _ => Finding::ok("clock", format!("{now}")),
    }
}

/// Compares how far the wall clock and the boot-time clock go in the same short time.
fn pace() -> Finding {
    let start = (SystemClock.now(), SystemClock.since_boot());
    // A wait that needs no timer and holds up nobody: this is a command.
    while SystemClock.since_boot().saturating_sub(start.1) < WATCHED {
        std::thread::yield_now();
    }
    let wall = SystemClock.now().since(start.0);
    let boot = SystemClock.since_boot().saturating_sub(start.1);
    if wall.abs_diff(boot) > WATCHED {
        let text = format!("the wall clock went {wall:?} while {boot:?} passed");
        return Finding::warning("clock", text)
            .advise("something steps the clock; let NTP slew it");
    }
    Finding::ok("clock", "wall clock and boot clock agree")
}

fn boot() -> Finding {
    match boot_id().as_str() {
        "unknown" => Finding::warning("clock", "the system does not tell its boot id")
            .advise("after a reboot, leases of before it count until they end; mount /proc"),
        _ => Finding::ok("clock", "the system tells its boot id"),
    }
}

fn files_limit(limit: u64) -> Finding {
    let text = match limit {
        u64::MAX => "open files: no limit".to_owned(),
        limit => format!("open files: {limit}"),
    };
    let advice = "raise it: `ulimit -n 4096`, or LimitNOFILE= in the systemd unit";
    match limit {
        _ if limit < FILES => Finding::failure(Blame::Data, "limits", text).advise(advice),
        _ if limit < ROOMY => Finding::warning("limits", text).advise(advice),
        _ => Finding::ok("limits", text),
    }
}

fn threads_limit(limit: u64, wanted: u64) -> Finding {
    let text = match limit {
        u64::MAX => format!("threads: no limit, about {wanted} are used"),
        limit => format!("threads: {limit} for this user, about {wanted} are used"),
    };
    if limit / 2 < wanted {
        let advice = "raise it (`ulimit -u`), or set `blocking_threads` lower";
        return Finding::warning("limits", text).advise(advice);
    }
    Finding::ok("limits", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Verdict;

    #[test]
    fn a_clock_that_cannot_be_right_is_a_failure_and_one_behind_a_warning() {
        let now = Timestamp::from_millis(1_769_860_800_000);
        let verdict = |now, newest| clock(now, newest).verdict;
        assert_eq!(verdict(now, None), Verdict::Ok);
        assert_eq!(
            verdict(now, Some(now.plus(Duration::from_secs(4)))),
            Verdict::Ok
        );
        let behind = clock(now, Some(now.plus(Duration::from_secs(3_600))));
        assert_eq!(behind.verdict, Verdict::Warning);
        assert!(behind.text.contains("1h ahead"), "{}", behind.text);
        assert_eq!(
            verdict(Timestamp::EPOCH, None),
            Verdict::Failure(Blame::Data)
        );
    }

    #[test]
    fn limits_are_judged_by_what_is_needed() {
        assert_eq!(files_limit(64).verdict, Verdict::Failure(Blame::Data));
        assert_eq!(files_limit(256).verdict, Verdict::Warning);
        assert_eq!(files_limit(u64::MAX).verdict, Verdict::Ok);
        assert_eq!(threads_limit(100, 60).verdict, Verdict::Warning);
        assert_eq!(threads_limit(u64::MAX, 60).verdict, Verdict::Ok);
    }
}
