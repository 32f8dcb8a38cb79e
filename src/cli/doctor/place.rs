//! The data directory: whose it is, who may read it, what it lies on, and how much room there is.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::output::size;
use super::super::session::Session;
use super::finding::{Blame, Finding};
use crate::config::BrokerTarget;
use crate::sqlite::SqliteBroker;

/// Less room than this, and the next burst of tasks may not fit.
const TIGHT: u64 = 1 << 30;
/// Less room than this is as good as none.
const FULL: u64 = 64 << 20;

pub(super) fn check(session: &Session) -> Vec<Finding> {
    let mut dirs = vec![session.config.data_dir.as_path()];
    if let BrokerTarget::Embedded { dir } = &session.config.broker
        && *dir != session.config.data_dir
    {
        dirs.push(dir);
    }
    dirs.into_iter().flat_map(check_one).collect()
}

fn check_one(dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    match dir.metadata() {
        Ok(found) if found.is_dir() => findings.extend(inside(dir)),
        Ok(_) => {
            let text = format!("{} is no directory", dir.display());
            let advice = "move the file away, or set `data_dir`";
            return vec![Finding::failure(Blame::Configuration, "files", text).advise(advice)];
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => findings.push(
            Finding::warning("files", format!("{} is not there yet", dir.display())).advise(
                "`celeriac run` and `celeriac migrate` make it; if it should be there, check `data_dir`",
            ),
        ),
        Err(error) => {
            let text = format!("{} cannot be looked at: {error}", dir.display());
            return vec![Finding::failure(Blame::Data, "files", text).advise("run as its owner")];
        }
    }
    // Where nothing is yet, what it will lie on counts.
    if let Some(there) = existing(dir) {
        findings.push(file_system(&there));
        findings.push(room(&there));
    }
    findings
}

/// Returns the directory, or the nearest one above it that exists.
fn existing(dir: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(dir).ok()?;
    let there = whole.ancestors().find(|above| above.is_dir());
    there.map(Path::to_owned)
}

/// Checks the rights of the directory and of the files in it.
fn inside(dir: &Path) -> Vec<Finding> {
    let me = rustix::process::geteuid().as_raw();
    let mut open = Vec::new();
    let mut foreign = Vec::new();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    for path in std::iter::once(dir.to_owned()).chain(paths) {
        // What is gone meanwhile needs no rights.
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        if found.mode() & 0o077 != 0 {
            open.push(format!("{} ({:o})", path.display(), found.mode() & 0o777));
        }
        if found.uid() != me {
            foreign.push(format!("{} (uid {})", path.display(), found.uid()));
        }
    }
    let mut findings = Vec::new();
    if !open.is_empty() {
        let text = format!("others than the owner may use {}", open.join(", "));
        let advice = format!("chmod -R go= {}", dir.display());
        findings.push(Finding::warning("files", text).advise(advice));
    }
    if !foreign.is_empty() {
        let text = format!("not owned by this user (uid {me}): {}", foreign.join(", "));
        let advice = "run every process as the same user, or chown the directory to it";
        findings.push(Finding::warning("files", text).advise(advice));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    if rustix::fs::access(dir, access).is_err() {
        let text = format!("{} cannot be written", dir.display());
        let advice = "run as its owner; is the disk mounted read-only?";
        findings.push(Finding::failure(Blame::Data, "files", text).advise(advice));
    }
    if findings.is_empty() {
        let text = format!("{}: for its owner only", dir.display());
        findings.push(Finding::ok("files", text));
    }
    findings
}

fn file_system(dir: &Path) -> Finding {
    match SqliteBroker::file_system_doubts(dir) {
        Ok(doubts) if doubts.is_empty() => Finding::ok("disk", "a local file system"),
        Ok(doubts) => Finding::warning("disk", doubts.join("; ")),
        Err(error) => Finding::failure(Blame::Configuration, "disk", error.to_string())
            .advise("set `data_dir` to a directory on a local disk"),
    }
}

fn room(dir: &Path) -> Finding {
    let found = match rustix::fs::statvfs(dir) {
        Ok(found) => found,
        Err(error) => {
            let text = format!("how much room there is cannot be told: {error}");
            return Finding::warning("disk", text);
        }
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let advice = "make room, or move the data directory";
    // Some file systems have no fixed number of files, and say 0 of 0.
    if found.f_files > 0 && found.f_favail == 0 {
        return Finding::failure(Blame::Data, "disk", "no more files can be made (inodes)")
            .advise(advice);
    }
    let text = format!("{} free", size(free));
    match free {
        _ if free < FULL => Finding::failure(Blame::Data, "disk", text).advise(advice),
        _ if free < TIGHT => Finding::warning("disk", text).advise(advice),
        _ => Finding::ok("disk", text),
    }
}
