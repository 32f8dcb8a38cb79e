//! The data directory: where it may be, whom it belongs to, what is in it.
//!
//! `broker.db` (with SQLite's `-wal` and `-shm`), `locks/` (one file per living worker), `bells/` (one socket per
//! living process). Made for the owner only.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::options::OpenError;

/// File systems over a network, by the magic number `statfs` tells.
const NETWORK: [(i64, &str); 8] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x7375_7245, "Coda"),
    (0x0BD0_0BD0, "Lustre"),
    (0x00C3_6400, "Ceph"),
];
const FUSE: i64 = 0x6573_5546;

/// The data directory.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// Which file the database was when the directory was opened: its device and its number there.
    file: (u64, u64),
}

impl Place {
    /// Makes the directory where it is missing; returns it and what is doubtful about it.
    pub(super) fn prepare(root: &Path) -> Result<(Self, Vec<String>), OpenError> {
        make(root).map_err(OpenError::directory(root))?;
        let root = root.canonicalize().map_err(OpenError::directory(root))?;
        let doubts = doubts_about(&root)?;
        let file = (0, 0);
        let mut place = Self { root, file };
        for inner in [place.locks(), place.bells()] {
            make(&inner).map_err(OpenError::directory(&inner))?;
        }
        place.touch_database()?;
        let path = place.database();
        place.file = file_at(&path).map_err(OpenError::directory(&path))?;
        Ok((place, doubts))
    }

    /// Returns whether the database is known to be another file by now, or none at all.
    pub(super) fn is_lost(&self) -> bool {
        match file_at(&self.database()) {
            Ok(found) => found != self.file,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Returns whether the disk has only the room left that fetching and settling need. A disk that does not tell is not.
    pub(super) fn is_tight(&self) -> bool {
        rustix::fs::statvfs(&self.root).is_ok_and(|disk| {
            let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
            is_tight(free, total)
        })
    }

    /// Makes the database's file with its permissions, which SQLite's other files inherit; one that exists must be
    /// one that may be written.
    fn touch_database(&self) -> Result<(), OpenError> {
        let path = self.database();
        if path.try_exists().map_err(OpenError::directory(&path))? {
            // Not opened to see: closing it would let go of the locks that this process may have on it.
            return may(&path, Access::READ_OK | Access::WRITE_OK);
        }
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).mode(0o600);
        let made = options.write(true).open(&path);
        made.map(drop).map_err(OpenError::directory(&path))
    }

    /// Returns the directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the database.
    pub(super) fn database(&self) -> PathBuf {
        self.root.join("broker.db")
    }

    /// Returns the database's write-ahead log.
    pub(super) fn log(&self) -> PathBuf {
        self.root.join("broker.db-wal")
    }

    /// Returns where the lock files are.
    pub(super) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    /// Returns where the doorbells are.
    pub(super) fn bells(&self) -> PathBuf {
        self.root.join("bells")
    }
}

/// The room that is kept for settling, in bytes; a sixteenth of a disk that is smaller than sixteen times that.
const RESERVE: u64 = 4 << 20;

fn is_tight(free: u64, total: u64) -> bool {
    total > 0 && free < RESERVE.min(total / 16)
}

/// Checks that this process has rights at a path, for an error that says so; SQLite says less.
pub(super) fn may(path: &Path, access: Access) -> Result<(), OpenError> {
    let found = rustix::fs::access(path, access);
    found.map_err(|error| OpenError::directory(path)(io::Error::from(error)))
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns what is doubtful about the file system of a directory.
///
/// # Errors
/// [`OpenError::NetworkFileSystem`] when a broker must not be there.
pub(crate) fn doubts_about(root: &Path) -> Result<Vec<String>, OpenError> {
    let found = rustix::fs::statfs(root)
        .map_err(|error| OpenError::directory(root)(io::Error::from(error)))?;
    // The field's type differs between platforms.
    let magic = i128::from(found.f_type) & 0xFFFF_FFFF;
    let network = NETWORK
        .iter()
        .find(|(known, _)| i128::from(*known) == magic);
    if let Some((_, kind)) = network {
        let path = root.to_owned();
        return Err(OpenError::NetworkFileSystem { path, kind });
    }
    let mut doubts = Vec::new();
    if magic == i128::from(FUSE) {
        doubts.push(format!(
            "{} is on a FUSE file system: make sure that its locks hold and that it syncs",
            root.display()
        ));
    }
    Ok(doubts)
}

/// Makes a directory for its owner only, with its parents; one that exists is left as it is, but must be one.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_for_settling_on_large_disks_and_small_ones() {
        let (mib, gib) = (1 << 20, 1 << 30);
        assert!(is_tight(3 * mib, 100 * gib) && !is_tight(5 * mib, 100 * gib));
        assert!(is_tight(0, 2 * mib) && !is_tight(mib, 2 * mib));
        assert!(
            !is_tight(0, 0),
            "a file system without a size has no bound to keep"
        );
    }
}
