//! Where the store is: a file or a PostgreSQL server. Whatever is shown of it has no password in it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a store.
///
/// A path, `sqlite:PATH`, `sqlite://PATH` (so `sqlite:///var/lib/app/store.db` is absolute), `postgres://…` or
/// `postgresql://…`. Paths are taken as they are: nothing is percent-decoded.
///
/// ```
/// use celeriac::store::StoreUrl;
///
/// let url: StoreUrl = "postgres://app:secret@db.example/tasks".parse().unwrap();
/// assert_eq!(url.to_string(), "postgres://app:***@db.example/tasks");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(pub(super) Place);

/// Which backend, and where.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

/// Why a text is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// The text has no path.
    #[error("a store needs a path or a URL")]
    Empty,
    /// A store in memory would be a different one for each connection.
    #[error("the store cannot be in memory: several connections share it; give a path")]
    Memory,
    /// The scheme is not known.
    #[error("the store's scheme {0:?} is not known; use a path, sqlite:// or postgres://")]
    Scheme(String),
}

impl StoreUrl {
    /// Creates the address of a SQLite file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::Sqlite(path.into()))
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("sqlite", text.strip_prefix("sqlite:").unwrap_or(text)),
        };
        match scheme {
            "sqlite" if rest.is_empty() => Err(StoreUrlError::Empty),
            "sqlite" if rest.contains(":memory:") => Err(StoreUrlError::Memory),
            "sqlite" => Ok(Self::file(rest)),
            "postgres" | "postgresql" => Ok(Self(Place::Postgres(text.to_owned()))),
            other => Err(StoreUrlError::Scheme(other.to_owned())),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Place::Postgres(url) => f.write_str(&without_secrets(url)),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

/// Returns a URL without its password and without its parameters, of which some are secret.
fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("postgres", url));
    let rest = rest.split('?').next().unwrap_or_default();
    // The last `@`: a password that should have been encoded must not show either.
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let name = user.split(':').next().unwrap_or_default();
            let secret = if user.contains(':') { ":***" } else { "" };
            format!("{scheme}://{name}{secret}@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_urls_are_the_same_place() {
        for text in [
            "/data/store.db",
            "sqlite:/data/store.db",
            "sqlite:///data/store.db",
        ] {
            assert_eq!(text.parse(), Ok(StoreUrl::file("/data/store.db")), "{text}");
        }
        assert_eq!("sqlite://store.db".parse(), Ok(StoreUrl::file("store.db")));
        assert_eq!("".parse::<StoreUrl>(), Err(StoreUrlError::Empty));
        assert_eq!(
            "sqlite://:memory:".parse::<StoreUrl>(),
            Err(StoreUrlError::Memory)
        );
        assert!(matches!(
            "redis://x".parse::<StoreUrl>(),
            Err(StoreUrlError::Scheme(_))
        ));
    }

    #[test]
    fn no_password_is_ever_shown() {
        for url in [
            "postgres://u:hunter2@h:5432/db?sslpassword=hunter2",
            "postgresql://u:hun@ter2:hunter2@h/db",
            "postgres://h/db?user=u&password=hunter2",
        ] {
            let url: StoreUrl = url.parse().unwrap();
            let shown = format!("{url} {url:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("ter2"),
                "{shown}"
            );
        }
    }
}
