//! Proof of death: a process of this boot and this process namespace that is gone.
//!
//! A lease names the boot, the namespace, the process id and the time at which the process started. Only who shares boot
//! and namespace can judge: elsewhere the same number is another process, or nobody's.

use std::fmt;
use std::str::FromStr;

use rustix::io::Errno;
use rustix::process::Pid;

/// Which process it was that opened a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    boot: String,
    namespace: u64,
    pid: i32,
    /// In clock ticks since the boot, as `/proc/PID/stat` has it.
    started: u64,
}

impl Proof {
    /// Returns that of this process; `None` where the system does not tell.
    pub(super) fn own() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let boot = crate::clock::boot_id();
        (boot != "unknown").then_some(())?;
        Some(Self {
            boot,
            namespace: namespace()?,
            pid,
            started: started(pid)?,
        })
    }

    /// Returns whether the process is dead for certain, as seen from the process of `own`.
    pub(super) fn is_dead(&self, own: &Self) -> bool {
        if (&self.boot, self.namespace) != (&own.boot, own.namespace) || self.pid == own.pid {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return false;
        };
        match rustix::process::test_kill_process(pid) {
            Err(Errno::SRCH) => true,
            // The number may be another process's by now.
            _ => started(self.pid).is_some_and(|started| started != self.started),
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            namespace,
            pid,
            started,
        } = self;
        write!(f, "{boot}:{namespace}:{pid}:{started}")
    }
}

impl FromStr for Proof {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(());
        Ok(Self {
            boot: part()?.to_owned(),
            namespace: part()?.parse().map_err(drop)?,
            pid: part()?.parse().map_err(drop)?,
            started: part()?.parse().map_err(drop)?,
        })
    }
}

/// Returns the identity of this process's namespace of process ids.
fn namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let text = link.to_str()?;
    text.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// Returns when a process started. The second field is the program's name, which may hold anything, spaces and
/// parentheses too; the start is the twentieth field after it.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_are_told_from_the_living() {
        let own = Proof::own().unwrap();
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let proof = Proof {
            pid,
            started: started(pid).unwrap(),
            ..own.clone()
        };
        assert!(!proof.is_dead(&own));
        let reused = Proof {
            started: proof.started - 1,
            ..proof.clone()
        };
        assert!(reused.is_dead(&own), "the number is another's by now");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(proof.is_dead(&own));
        let elsewhere = Proof {
            namespace: own.namespace + 1,
            ..own.clone()
        };
        assert!(!proof.is_dead(&elsewhere), "a stranger cannot judge");
        assert!(!own.is_dead(&own));
    }
}
