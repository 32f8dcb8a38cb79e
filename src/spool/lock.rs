//! Who relays: the one process that holds the lock of a file beside the spool. The kernel lets it go with the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The right to relay; held until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it; `None` while somebody else has it.
    pub(super) fn take(spool: &Path) -> io::Result<Option<Self>> {
        let mut path = spool.as_os_str().to_owned();
        path.push(".lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(PathBuf::from(path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool.db");
        let lock = Lock::take(&spool).unwrap();
        assert!(lock.is_some());
        assert!(Lock::take(&spool).unwrap().is_none());
        drop(lock);
        assert!(Lock::take(&spool).unwrap().is_some());
    }
}
