//! Who asks: roles by bearer token, compared in constant time.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use slog::{Logger, warn};
use subtle::ConstantTimeEq as _;

use crate::config::{HttpConfig, Secret, TokenSource};

/// The largest file of a token that is read.
const MAX_FILE: u64 = 4_096;

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Look.
    Read,
    /// Look and change.
    Admin,
}

/// The tokens, as what they hash to: comparing takes the same time whatever is wrong with the one that was sent.
pub(super) struct Tokens {
    read: Option<[u8; 32]>,
    admin: Option<[u8; 32]>,
}

impl Tokens {
    /// Reads the tokens that the configuration names.
    ///
    /// # Errors
    /// Which one cannot be used, for people; never the token.
    pub(super) fn load(config: &HttpConfig, log: &Logger) -> Result<Self, String> {
        let one = |source: &Option<TokenSource>, key| -> Result<Option<Secret>, String> {
            match source {
                None => Ok(None),
                Some(TokenSource::Given(secret)) => Ok(Some(secret.clone())),
                Some(TokenSource::File(path)) => read(path, log)
                    .map(Some)
                    .map_err(|why| format!("`http.{key}_token_file` ({}): {why}", path.display())),
            }
        };
        let (read, admin) = (
            one(&config.read_token, "read")?,
            one(&config.admin_token, "admin")?,
        );
        if read.is_some() && read == admin {
            return Err(
                "the HTTP tokens of both roles are the same: whoever may read could change"
                    .to_owned(),
            );
        }
        let digest = |secret: Option<Secret>| secret.map(|secret| hash(secret.expose()));
        Ok(Self {
            read: digest(read),
            admin: digest(admin),
        })
    }

    /// Returns whether nobody needs a token.
    pub(super) const fn is_open(&self) -> bool {
        self.read.is_none() && self.admin.is_none()
    }

    /// Returns what the holder of a token may do; `None` for a wrong one.
    pub(super) fn role_of(&self, token: &str) -> Option<Role> {
        let sent = hash(token);
        let is = |known: Option<[u8; 32]>| {
            let there = known.is_some();
            bool::from(known.unwrap_or_default().ct_eq(&sent)) && there
        };
        // Both are compared, whatever the first one says.
        let (admin, read) = (is(self.admin), is(self.read));
        match (admin, read) {
            (true, _) => Some(Role::Admin),
            (false, true) => Some(Role::Read),
            (false, false) => None,
        }
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn read(path: &Path, log: &Logger) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file
        .metadata()
        .map_or(0, |found| found.permissions().mode());
    if mode & 0o004 != 0 {
        warn!(log, "everybody on this machine may read the token of the HTTP API"; "file" => %path.display());
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    Secret::new(text.trim()).map_err(|fault| format!("{fault}; a token is {}", Secret::RULE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(read: Option<&str>, admin: Option<&str>) -> Tokens {
        Tokens {
            read: read.map(hash),
            admin: admin.map(hash),
        }
    }

    #[test]
    fn a_token_has_its_role_and_nothing_else_has_one() {
        let both = tokens(Some("reader"), Some("admin"));
        assert_eq!(both.role_of("reader"), Some(Role::Read));
        assert_eq!(both.role_of("admin"), Some(Role::Admin));
        for wrong in ["", "Admin", "admin ", "reade", "readerr"] {
            assert_eq!(both.role_of(wrong), None, "{wrong}");
        }
        assert!(!both.is_open() && tokens(None, None).is_open());
        // What is not there is nobody's.
        assert_eq!(tokens(Some("reader"), None).role_of(""), None);
        assert_eq!(tokens(None, None).role_of(""), None);
    }
}
