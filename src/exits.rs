//! How a process ended, in words.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// How long it may take until a worker hears of what has ended its children too.
pub(crate) const HEARSAY: Duration = Duration::from_millis(250);

/// Returns whether somebody told the process to end, as a service manager tells a worker and all it has started.
pub(crate) fn was_told_to_end(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(1 | 2 | 15))
}

/// Returns the exit status or the signal of a process that nobody here has ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    let note = match status.signal() {
        Some(9) => ", perhaps for want of memory",
        _ => "",
    };
    plain(status) + note
}

/// Returns the exit status or the signal in words, without a guess at its cause.
pub(crate) fn plain(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(number)) => {
            let note = if status.core_dumped() {
                ", core dumped"
            } else {
                ""
            };
            format!("signal {number}{}{note}", name_of(number))
        }
        (None, None) => "it ended".to_owned(),
    }
}

/// Returns the name of a signal in brackets, where it is one that kills.
fn name_of(number: i32) -> &'static str {
    match number {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        24 => " (SIGXCPU)",
        25 => " (SIGXFSZ)",
        31 => " (SIGSYS)",
        _ => "",
    }
}
