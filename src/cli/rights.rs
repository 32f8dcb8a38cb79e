//! Files that may belong to somebody else: whether they are there, and what to do when they may not be read.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::exit::Failure;
use super::session::user_name;

/// Returns whether there is a file at `path`.
///
/// # Errors
/// When that cannot be told, or it may not be read, as with files of somebody else: that is not the same as nothing.
pub(crate) fn is_there(path: &Path) -> Result<bool, Failure> {
    let looked = path.try_exists().and_then(|found| match found {
        true => Ok(access(path, Access::READ_OK).map(|()| true)?),
        false => Ok(false),
    });
    looked.map_err(|error| {
        let advice = advice(path, &error);
        Failure::unavailable(anyhow::anyhow!(
            "{} cannot be read: {error}{advice}",
            path.display()
        ))
    })
}

/// Returns what to do about an error of the system at `path`, to be said after it; empty where it speaks for itself.
pub(crate) fn advice(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return String::new();
    }
    let user = user_name(rustix::process::geteuid().as_raw());
    // The nearest that lets itself be looked at is the one that keeps the rest to itself.
    let owner = path.ancestors().find_map(|part| part.metadata().ok());
    let owner = owner.map(|found| user_name(found.uid()));
    match owner.filter(|owner| *owner != user) {
        Some(owner) => format!(
            "; it belongs to {owner} and you are {user}: give the command as {owner}, or choose another data directory"
        ),
        None => format!(
            "; you are {user}: give yourself the right to read and write it, or choose another data directory"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_told_from_what_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        assert!(!is_there(&file).unwrap());
        std::fs::write(&file, b"").unwrap();
        assert!(is_there(&file).unwrap());
        let below = is_there(&file.join("below")).unwrap_err().to_string();
        assert!(below.contains("cannot be read"), "{below}");
    }

    #[test]
    fn only_missing_rights_need_advice() {
        let kind = |kind| advice(Path::new("/"), &io::Error::from(kind));
        assert_eq!(kind(io::ErrorKind::StorageFull), "");
        assert!(kind(io::ErrorKind::PermissionDenied).contains("another data directory"));
    }
}
