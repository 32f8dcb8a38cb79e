//! Redis URLs: where the servers are, how to log in, and under which namespace the keys lie. Opens nothing.
//!
//! What is shown of a URL, in errors too, never holds a password.

mod parse;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::node::{Address, Node};

/// The namespace of keys unless the URL says otherwise.
const NAMESPACE: &str = "celeriac";
/// How long connecting, and answering, may take unless the URL says otherwise.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a Redis broker is.
///
/// - `redis://[user:password@]host[:port][/db]`, `rediss://…` with TLS
/// - `redis+sentinel://host[:port],host2[:port]/master[/db]`, `rediss+sentinel://…`
/// - `redis+cluster://host[:port],host2[:port]`, `rediss+cluster://…`
/// - `unix:///path/to.sock`, `redis+socket:///path/to.sock`
///
/// User and password are percent-decoded. Parameters: `db`, `namespace`, `password_file` (read at each connecting, so
/// that it can be rotated), `ca`, `cert`, `key` (PEM files, read likewise), `connect_timeout`, `timeout` (such as `2s`
/// or `500ms`), `sentinel_user`, `sentinel_password_file`.
///
/// ```
/// use celeriac::redis::RedisUrl;
///
/// let url: RedisUrl = "redis+sentinel://app:secret@a,b:26380/main?namespace=shop".parse().unwrap();
/// assert_eq!(url.to_string(), "redis+sentinel://app:***@a:26379,b:26380/main?namespace=shop");
///
/// let error = "redis://localhost?namspace=shop".parse::<RedisUrl>().unwrap_err();
/// assert_eq!(error.to_string(), "the unknown parameter `namspace`; did you mean `namespace`?");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(super) place: Place,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    pub(super) tls: Option<TlsFiles>,
    pub(super) db: u32,
    pub(super) namespace: String,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// What kind of installation the servers form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One server.
    Server(Node),
    /// A master that sentinels know by name.
    Sentinel {
        sentinels: Vec<Node>,
        master: String,
    },
    /// A cluster, of which some nodes are known.
    Cluster(Vec<Node>),
}

/// How to log in.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Password,
}

/// Where a password comes from.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Password {
    #[default]
    None,
    /// It stood in the URL.
    Inline(String),
    /// It stands in a file, which may change.
    File(PathBuf),
}

/// Files for TLS beyond the system's own roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// Who signs the servers' certificates, instead of the system's roots.
    pub(super) ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// What is wrong with a Redis URL, without repeating what may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlError {
    found: String,
    hint: Option<String>,
}

impl UrlError {
    /// Returns what was found instead of a URL.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// Returns what may have been meant.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UrlError {}

impl RedisUrl {
    /// Returns the namespace of the keys.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn new(place: Place, tls: bool) -> Self {
        Self {
            place,
            login: Login::default(),
            sentinel_login: Login::default(),
            tls: tls.then(TlsFiles::default),
            db: 0,
            namespace: NAMESPACE.to_owned(),
            connect_timeout: PATIENCE,
            timeout: PATIENCE,
        }
    }

    fn parameters(&self) -> Vec<String> {
        let mut shown = Vec::new();
        let files = self.tls.as_ref();
        let identity = files.and_then(|tls| tls.identity.as_ref());
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        if let Password::File(file) = &self.login.password {
            shown.push(path("password_file", file));
        }
        shown.extend(
            files
                .and_then(|tls| tls.ca.as_ref())
                .map(|ca| path("ca", ca)),
        );
        if let Some((cert, key)) = identity {
            shown.extend([path("cert", cert), path("key", key)]);
        }
        if self.namespace != NAMESPACE {
            shown.push(format!("namespace={}", self.namespace));
        }
        for (name, span) in [
            ("connect_timeout", self.connect_timeout),
            ("timeout", self.timeout),
        ] {
            if span != PATIENCE {
                shown.push(format!("{name}={}ms", span.as_millis()));
            }
        }
        let sentinel = &self.sentinel_login;
        shown.extend(
            sentinel
                .user
                .as_ref()
                .map(|user| format!("sentinel_user={user}")),
        );
        if let Password::File(file) = &sentinel.password {
            shown.push(path("sentinel_password_file", file));
        }
        shown
    }
}

impl FromStr for RedisUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse::url(text)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.user.as_deref().unwrap_or_default();
        let user = match self.login.password {
            Password::Inline(_) => format!("{user}:***@"),
            _ if user.is_empty() => String::new(),
            _ => format!("{user}@"),
        };
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        match &self.place {
            Place::Server(node) => match node.address() {
                Address::Unix(path) => write!(f, "unix://{user}{}", path.display())?,
                Address::Tcp(..) => write!(f, "{scheme}://{user}{node}")?,
            },
            Place::Sentinel { sentinels, master } => {
                write!(f, "{scheme}+sentinel://{user}{}/{master}", list(sentinels))?;
            }
            Place::Cluster(nodes) => write!(f, "{scheme}+cluster://{user}{}", list(nodes))?,
        }
        let mut parameters = self.parameters();
        match &self.place {
            _ if self.db == 0 => {}
            Place::Server(node) if node.host().is_none() => {
                parameters.insert(0, format!("db={}", self.db));
            }
            _ => write!(f, "/{}", self.db)?,
        }
        if !parameters.is_empty() {
            write!(f, "?{}", parameters.join("&"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

fn list(nodes: &[Node]) -> String {
    let nodes: Vec<String> = nodes.iter().map(Node::to_string).collect();
    nodes.join(",")
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, ***)", self.user)
    }
}

#[cfg(test)]
mod tests;
