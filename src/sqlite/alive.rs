//! Proof of life: a worker holds the lock of a file for as long as it lives, and the kernel lets it go at its death.
//!
//! A lock that is free proves its worker dead, however it died. A file that is missing proves nothing. Files of the
//! dead are removed by whoever got their lock, while holding it; a newcomer checks that the file it locked is still
//! the one in the directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use celeriac_actors::ids::WorkerId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The lock of a living worker. Held until dropped; its file stays as proof until nobody needs it.
#[derive(Debug)]
pub(super) struct Alive {
    _lock: File,
}

impl Alive {
    /// Takes the lock of `worker`; `None` when somebody holds it.
    pub(super) fn claim(locks: &Path, worker: &WorkerId) -> io::Result<Option<Self>> {
        let path = path_of(locks, worker);
        loop {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(&path)?;
            if !lock(&file)? {
                return Ok(None);
            }
            // Somebody may have taken the file for a dead one's and removed it before we got the lock.
            if is_same(&file, &path)? {
                return Ok(Some(Self { _lock: file }));
            }
        }
    }
}

/// What a lock file says about a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Somebody holds its lock.
    Alive,
    /// Its lock is free.
    Dead,
    /// It has no lock file.
    Unknown,
}

/// Returns what is known of `worker`.
pub(super) fn verdict(locks: &Path, worker: &WorkerId) -> Verdict {
    match OpenOptions::new().write(true).open(path_of(locks, worker)) {
        // The lock is let go with the handle, so a look takes nothing away.
        Ok(file) => match lock(&file) {
            Ok(true) => Verdict::Dead,
            _ => Verdict::Alive,
        },
        Err(_) => Verdict::Unknown,
    }
}

/// Removes the lock files of the dead that nobody needs as proof any more.
pub(super) fn tidy(locks: &Path, needed: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(locks)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if name.is_none_or(|name| needed.iter().any(|worker| file_name(worker) == name)) {
            continue;
        }
        let Ok(file) = OpenOptions::new().write(true).open(&path) else {
            continue;
        };
        if lock(&file)? && is_same(&file, &path)? {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn path_of(locks: &Path, worker: &WorkerId) -> PathBuf {
    locks.join(format!("{}.lock", file_name(worker.as_str())))
}

/// Worker ids consist of characters that a file may have in its name; only a leading dot would hide it.
fn file_name(worker: &str) -> String {
    worker.replace('.', "_")
}

fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(found) => Ok((held.ino(), held.dev()) == (found.ino(), found.dev())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_free_proves_death() {
        let dir = tempfile::tempdir().unwrap();
        let worker: WorkerId = "web-1.example:4711:9f".parse().unwrap();
        assert_eq!(verdict(dir.path(), &worker), Verdict::Unknown);
        let alive = Alive::claim(dir.path(), &worker).unwrap().unwrap();
        assert_eq!(verdict(dir.path(), &worker), Verdict::Alive);
        assert!(Alive::claim(dir.path(), &worker).unwrap().is_none());
        drop(alive);
        assert_eq!(verdict(dir.path(), &worker), Verdict::Dead);
        tidy(dir.path(), &[worker.to_string()]).unwrap();
        assert_eq!(verdict(dir.path(), &worker), Verdict::Dead);
        tidy(dir.path(), &[]).unwrap();
        assert_eq!(verdict(dir.path(), &worker), Verdict::Unknown);
    }
}
