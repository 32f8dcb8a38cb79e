//! Targets: where the broker, the results and the store are, read from URLs whose secrets never show.
//!
//! Owns the URL forms and the hiding of what is secret in them. Opens nothing and looks nothing up.

use std::fmt;
use std::path::PathBuf;

use crate::suggest;

/// The URL schemes that reach a Redis server, those of sockets last.
#[cfg(not(feature = "redis"))]
const REDIS: [&str; 8] = [
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "redis+socket",
    "unix",
];

/// A URL that may hold a password: shown and debugged with the secret parts replaced by `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Returns the URL with its secrets, for the one who connects. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the scheme, such as `redis`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hide(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", hide(&self.0))
    }
}

/// Where tasks wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerTarget {
    /// The embedded SQLite broker.
    Embedded {
        /// The directory of its files.
        dir: PathBuf,
    },
    /// In this process only: every task is lost when it ends.
    Memory,
    /// A Redis server, cluster or sentinel group.
    Redis {
        /// Where it is, with its credentials.
        url: SecretUrl,
    },
}

impl fmt::Display for BrokerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { dir } => write!(f, "sqlite:{}", dir.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis { url } => url.fmt(f),
        }
    }
}

/// Where dead letters, snapshots and the audit are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTarget {
    /// One SQLite file.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// A Postgres server; needs the feature `postgres`.
    Postgres {
        /// Where it is, with its credentials.
        url: SecretUrl,
    },
}

impl fmt::Display for StoreTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { file } => write!(f, "sqlite:{}", file.display()),
            Self::Postgres { url } => url.fmt(f),
        }
    }
}

/// A checked URL before the data directory is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Url {
    /// `sqlite:`, with the path when one is written.
    Sqlite(Option<PathBuf>),
    /// `memory:`.
    Memory,
    /// One of the Redis schemes.
    Redis(SecretUrl),
    /// `postgres://` or `postgresql://`.
    Postgres(SecretUrl),
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(None) => f.write_str("sqlite:"),
            Self::Sqlite(Some(path)) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis(url) | Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// What a key accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `sqlite:`, `memory:` and Redis.
    Broker,
    /// `sqlite:` and Postgres.
    Store,
}

impl Scheme {
    /// Returns the allowed forms as words.
    pub(super) fn allowed(self) -> &'static str {
        match self {
            Self::Broker => {
                "`sqlite:` (in the data directory), `sqlite:///absolute/dir`, `memory:`, `redis://host:port/db`, \
                 `rediss://…`, `redis+sentinel://host:port/master`, `redis+cluster://…`, `unix:///socket`"
            }
            Self::Store => {
                "`sqlite:` (store.db in the data directory), `sqlite:///absolute/file.db`, `postgres://user@host/db`"
            }
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Broker => &[
                "sqlite",
                "memory",
                "redis",
                "rediss",
                "redis+sentinel",
                "rediss+sentinel",
                "redis+cluster",
                "rediss+cluster",
                "redis+socket",
                "unix",
            ],
            Self::Store => &["sqlite", "postgres", "postgresql"],
        }
    }

    /// Reads a URL, or says what is wrong with it without repeating it, and what may have been meant.
    pub(super) fn parse(self, text: &str) -> Result<Url, (String, Option<String>)> {
        if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(("a URL with spaces or control characters".into(), None));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(("a text that is not a URL".into(), None));
        };
        let scheme = scheme.to_ascii_lowercase();
        if !self.names().contains(&scheme.as_str()) {
            let hint = suggest::did_you_mean(&scheme, self.names().iter().copied());
            let shown = scheme.chars().take(24).collect::<String>();
            return Err((format!("the unknown scheme {shown:?}"), hint));
        }
        match scheme.as_str() {
            "sqlite" => sqlite(rest).map(Url::Sqlite),
            "memory" if matches!(rest, "" | "//") => Ok(Url::Memory),
            "memory" => Err("`memory:` with something behind it".into()),
            "postgres" | "postgresql" => server(rest).map(|()| Url::Postgres(secret(text))),
            name => return redis(name, rest, text),
        }
        .map_err(|wrong| (wrong, None))
    }
}

/// Reads a Redis URL as the broker will.
#[cfg(feature = "redis")]
fn redis(_scheme: &str, _rest: &str, text: &str) -> Result<Url, (String, Option<String>)> {
    match text.parse::<crate::redis::RedisUrl>() {
        Ok(_) => Ok(Url::Redis(secret(text))),
        Err(error) => Err((
            error.found().to_owned(),
            error.hint().map(ToOwned::to_owned),
        )),
    }
}

/// Reads a Redis URL as far as it can be told without the broker.
#[cfg(not(feature = "redis"))]
fn redis(scheme: &str, rest: &str, text: &str) -> Result<Url, (String, Option<String>)> {
    let read = match REDIS[6..].contains(&scheme) {
        true => socket(rest),
        false => server(rest),
    };
    read.map(|()| Url::Redis(secret(text)))
        .map_err(|wrong| (wrong, None))
}

fn secret(text: &str) -> SecretUrl {
    SecretUrl(text.to_owned())
}

fn sqlite(rest: &str) -> Result<Option<PathBuf>, String> {
    let path = match rest.strip_prefix("//") {
        Some("") => "",
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("`sqlite://` followed by a host: a path takes three slashes".into()),
        None => rest,
    };
    if path.contains('?') {
        return Err("`sqlite:` with parameters".into());
    }
    Ok((!path.is_empty()).then(|| PathBuf::from(path)))
}

#[cfg(not(feature = "redis"))]
fn socket(rest: &str) -> Result<(), String> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.rsplit_once('@').map_or(path, |(_, path)| path);
    if path.starts_with('/') && path.len() > 1 {
        Ok(())
    } else {
        Err("a socket without an absolute path".into())
    }
}

/// Checks `//[credentials@]host[:port][,host…][/…]`: a host in each place, ports that are numbers.
fn server(rest: &str) -> Result<(), String> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err("a server without `//` in front of its host".into());
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    let hosts = rest.split(['/', '?', '#']).next().unwrap_or_default();
    for host in hosts.split([',', ';']) {
        // An address in brackets has colons of its own.
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        if name.is_empty() {
            return Err("a server without a host".into());
        }
        let bad = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if port.is_some_and(|port| !bad(port)) {
            return Err("a port that is not a number from 1 to 65535".into());
        }
    }
    Ok(())
}

/// Returns `url` with every secret replaced: the password before an `@`, and parameters that are named like secrets.
///
/// Everything up to the *last* `@` counts as credentials, so that a password with an unescaped `@` or `/` in it does not
/// show; a user name shows only when a password follows it, because a name alone may be a token.
fn hide(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once(':') else {
        return "***".into();
    };
    let (slashes, rest) = rest.strip_prefix("//").map_or(("", rest), |r| ("//", r));
    let (user, rest) = match rest.rsplit_once('@') {
        Some((credentials, rest)) => match credentials.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), rest),
            None => ("***@".into(), rest),
        },
        None => (String::new(), rest),
    };
    let shown = match rest.split_once('?') {
        None => rest.to_owned(),
        Some((path, query)) => {
            let pairs: Vec<String> = query.split('&').map(hide_parameter).collect();
            format!("{path}?{}", pairs.join("&"))
        }
    };
    format!("{scheme}:{slashes}{user}{shown}")
}

fn hide_parameter(pair: &str) -> String {
    const SHOWN: [&str; 14] = [
        "db",
        "namespace",
        "timeout",
        "connect_timeout",
        "ca",
        "cert",
        "key",
        "password_file",
        "sentinel_user",
        "sentinel_password_file",
        "sslmode",
        "ssl_cert_reqs",
        "protocol",
        "virtual_host",
    ];
    match pair.split_once('=') {
        Some((name, _)) if SHOWN.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => "***".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_form() {
        let broker = |text| Scheme::Broker.parse(text).map_err(|(wrong, _)| wrong);
        assert_eq!(broker("sqlite:"), Ok(Url::Sqlite(None)));
        assert_eq!(broker("sqlite://"), Ok(Url::Sqlite(None)));
        assert_eq!(
            broker("sqlite:///var/q"),
            Ok(Url::Sqlite(Some("/var/q".into())))
        );
        assert_eq!(broker("sqlite:q"), Ok(Url::Sqlite(Some("q".into()))));
        assert_eq!(broker("memory:"), Ok(Url::Memory));
        for redis in [
            "redis://localhost",
            "rediss://u:p@h:6380/1?timeout=2",
            "rediss+cluster://a,b:7000?namespace=shop",
            "redis+sentinel://:p@a:26379,b:26379/main",
            "redis+cluster://[::1]:7000",
            "unix:/run/redis.sock",
            "redis+socket:///run/redis.sock",
        ] {
            assert!(matches!(broker(redis), Ok(Url::Redis(_))), "{redis}");
        }
        for wrong in [
            "",
            "localhost",
            "sqlite://host/x",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "unix:",
            "memory:x",
            "amqp://h",
            "redis:h",
            "redis://a b",
            "postgres://h/db",
        ] {
            assert!(broker(wrong).is_err(), "{wrong}");
        }
        assert!(Scheme::Store.parse("postgresql://u:p@h/db").is_ok());
        assert!(Scheme::Store.parse("redis://h").is_err());
    }

    #[test]
    fn a_mistyped_scheme_is_suggested() {
        let (_, hint) = Scheme::Broker.parse("rediis://h").unwrap_err();
        assert_eq!(hint.as_deref(), Some("did you mean `redis`?"));
    }

    #[test]
    fn hides_what_is_secret() {
        for (url, shown) in [
            ("redis://h:1/0", "redis://h:1/0"),
            ("redis://:pw@h", "redis://:***@h"),
            ("redis://me:p@ss/w@h/0", "redis://me:***@h/0"),
            ("redis://token@h", "redis://***@h"),
            ("redis://h?password=x&db=2", "redis://h?password=***&db=2"),
            (
                "redis://h?namespace=n&ca=/c.pem",
                "redis://h?namespace=n&ca=/c.pem",
            ),
            ("sentinel://:a@h1;sentinel://:b@h2", "sentinel://:***@h2"),
        ] {
            assert_eq!(hide(url), shown);
            assert_eq!(format!("{:?}", secret(url)), format!("{shown:?}"));
        }
    }

    proptest! {
        #[test]
        fn a_password_never_shows(password in "[a-z:/?#@=&]{0,6}hunter2[a-z:/?#@=&]{0,6}") {
            let url = secret(&format!("redis://user:{password}@host/0"));
            let redis = BrokerTarget::Redis { url };
            let shown = format!("{redis} {redis:?}");
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            drop(Scheme::Broker.parse(&text));
            drop(hide(&text));
        }
    }
}
