//! `demo.checksum`: the SHA-256 of a real file, read on the blocking pool.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};

use celeriac_actors::attempt::Attempt;
use celeriac_actors::policy::Policy;
use celeriac_actors::task::{Task, TaskError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How much is read at once; between two reads a cancelled attempt stops.
const CHUNK: usize = 128 << 10;

/// Computes the SHA-256 of a file. A file that does not exist is a permanent failure, any other trouble is tried again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checksum {
    pub(crate) path: String,
}

impl Task for Checksum {
    const NAME: &'static str = "demo.checksum";
    type Output = Digest;

    fn policy() -> Policy {
        super::quick()
    }
}

/// What a file consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// In hexadecimal, as `sha256sum` prints it.
    pub(crate) sha256: String,
}

pub(super) async fn run(attempt: Attempt<Checksum>) -> Result<Digest, TaskError> {
    let path = attempt.args.path.clone();
    let context = attempt.context().clone();
    let file = path.clone();
    let stop = move || context.is_cancelled();
    let digested = attempt.blocking(move || digest(&file, &stop)).await?;
    match digested {
        Ok((bytes, sha256)) => Ok(Digest {
            path,
            bytes,
            sha256,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(TaskError::permanent(format!("{path}: {error}")))
        }
        Err(error) => Err(format!("{path}: {error}").into()),
    }
}

/// Reads a file to its end, or until told to stop; returns its length and its digest.
pub(crate) fn digest(path: &str, stop: &dyn Fn() -> bool) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        if stop() {
            return Err(io::Error::other("told to stop"));
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&chunk[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((bytes, hex(&hasher.finalize())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_as_sha256sum_does() {
        assert_eq!(
            hex(&Sha256::digest(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
