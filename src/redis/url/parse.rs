//! Reading a URL. A value is never repeated in an error: it may be a part of a password in the wrong place.

use std::path::PathBuf;
use std::time::Duration;

use super::{Login, Password, Place, RedisUrl, TlsFiles, UrlError};
use crate::redis::node::Node;
use crate::suggest;

const PARAMETERS: [&str; 11] = [
    "db",
    "namespace",
    "password_file",
    "ca",
    "cert",
    "key",
    "connect_timeout",
    "timeout",
    "sentinel_user",
    "sentinel_password_file",
    // Named to say what to use instead of it.
    "password",
];
const SCHEMES: [&str; 8] = [
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "unix",
    "redis+socket",
];
const PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(600);

fn wrong(found: impl Into<String>) -> UrlError {
    UrlError {
        found: found.into(),
        hint: None,
    }
}

fn hinted(found: impl Into<String>, hint: impl Into<String>) -> UrlError {
    UrlError {
        found: found.into(),
        hint: Some(hint.into()),
    }
}

/// Reads a whole URL.
pub(super) fn url(text: &str) -> Result<RedisUrl, UrlError> {
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(wrong("a URL with spaces or control characters"));
    }
    let (scheme, rest) = text
        .split_once(':')
        .ok_or_else(|| wrong("a text that is not a URL"))?;
    let scheme = scheme.to_ascii_lowercase();
    if !SCHEMES.contains(&scheme.as_str()) {
        let hint = suggest::did_you_mean(&scheme, SCHEMES);
        let found = wrong("an unknown scheme");
        return Err(UrlError { hint, ..found });
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        return Err(hinted(
            "an `@` behind a `?`",
            "write `?`, `/`, `@` and `#` within a password or a path as %3F, %2F, %40 and %23",
        ));
    }
    if rest.contains('#') || query.contains('#') {
        return Err(hinted("a `#`", "write it as %23"));
    }
    let mut url = match scheme.as_str() {
        "unix" | "redis+socket" => socket(rest)?,
        scheme => servers(scheme, rest)?,
    };
    let mut files = Files::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        parameter(&mut url, &mut files, pair)?;
    }
    files.settle(&mut url)?;
    Ok(url)
}

fn socket(rest: &str) -> Result<RedisUrl, UrlError> {
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (login, path) = match rest.rsplit_once('@') {
        Some((credentials, path)) => (self::login(credentials)?, path),
        None => (Login::default(), rest),
    };
    if !path.starts_with('/') || path.len() < 2 {
        return Err(hinted(
            "a socket without an absolute path",
            "write unix:///run/redis/redis.sock",
        ));
    }
    let mut url = RedisUrl::new(Place::Server(Node::unix(decode(path)?)), false);
    url.login = login;
    Ok(url)
}

fn servers(scheme: &str, rest: &str) -> Result<RedisUrl, UrlError> {
    let rest = rest
        .strip_prefix("//")
        .ok_or_else(|| wrong("a server without `//` in front of its host"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err(hinted(
            "an `@` behind a `/`",
            "write `/` and `@` within a password as %2F and %40",
        ));
    }
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (self::login(credentials)?, hosts),
        None => (Login::default(), authority),
    };
    let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let mut path = path.split('/').filter(|part| !part.is_empty());
    let port = if kind == "sentinel" {
        SENTINEL_PORT
    } else {
        PORT
    };
    let mut nodes = hosts
        .split(',')
        .map(|host| self::host(host, port))
        .collect::<Result<Vec<Node>, _>>()?;
    let place = match kind {
        "sentinel" => Place::Sentinel {
            sentinels: nodes,
            master: match path.next() {
                Some(master) => decode(master)?,
                None => {
                    return Err(hinted(
                        "sentinels without the name of a master",
                        "write redis+sentinel://host:26379/NAME",
                    ));
                }
            },
        },
        "cluster" => Place::Cluster(nodes),
        _ if nodes.len() == 1 => Place::Server(nodes.remove(0)),
        _ => {
            return Err(hinted(
                "several servers",
                "use redis+sentinel:// or redis+cluster:// for more than one",
            ));
        }
    };
    let mut url = RedisUrl::new(place, family == "rediss");
    url.login = login;
    if let Some(db) = path.next() {
        url.db = number(db)?;
    }
    if path.next().is_some() {
        return Err(wrong("a path with more parts than a database"));
    }
    cluster_has_one_database(&url)?;
    Ok(url)
}

fn login(credentials: &str) -> Result<Login, UrlError> {
    let (user, password) = match credentials.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (credentials, None),
    };
    let user = decode(user)?;
    Ok(Login {
        user: (!user.is_empty()).then_some(user),
        password: match password {
            Some(password) if !password.is_empty() => Password::Inline(password),
            _ => Password::None,
        },
    })
}

fn host(text: &str, default: u16) -> Result<Node, UrlError> {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let name = match name.strip_prefix('[') {
        Some(inner) => inner
            .strip_suffix(']')
            .ok_or_else(|| wrong("a `[` without its `]`"))?,
        None if name.contains(':') => {
            return Err(wrong("an IPv6 address without `[` and `]` around it"));
        }
        None => name,
    };
    if name.is_empty() {
        return Err(wrong("a server without a host"));
    }
    let port = match port {
        None => default,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(wrong("a port that is not a number from 1 to 65535")),
            Ok(port) => port,
        },
    };
    Ok(Node::tcp(name, port))
}

/// Files as they come, in any order.
#[derive(Default)]
struct Files {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    fn settle(self, url: &mut RedisUrl) -> Result<(), UrlError> {
        let any = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(wrong("one of `cert` and `key` without the other")),
        };
        match &mut url.tls {
            Some(tls) => {
                *tls = TlsFiles {
                    ca: self.ca,
                    identity,
                };
            }
            None if any => {
                return Err(hinted(
                    "`ca`, `cert` or `key` without TLS",
                    "use the scheme rediss, rediss+sentinel or rediss+cluster",
                ));
            }
            None => {}
        }
        for login in [&url.login, &url.sentinel_login] {
            if login.user.is_some() && login.password == Password::None {
                return Err(hinted(
                    "a user without a password",
                    "write user:password@, :password@ or ?password_file=/path",
                ));
            }
        }
        cluster_has_one_database(url)
    }
}

fn parameter(url: &mut RedisUrl, files: &mut Files, pair: &str) -> Result<(), UrlError> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(wrong("a parameter without a value"));
    };
    let value = decode(value)?;
    if value.is_empty() {
        return Err(wrong("a parameter without a value"));
    }
    let sentinel = matches!(url.place, Place::Sentinel { .. });
    match name {
        "db" => url.db = number(&value)?,
        "namespace" => url.namespace = namespace(value)?,
        "password_file" => file_for(&mut url.login, value)?,
        "ca" => files.ca = Some(value.into()),
        "cert" => files.cert = Some(value.into()),
        "key" => files.key = Some(value.into()),
        "connect_timeout" => url.connect_timeout = span(&value)?,
        "timeout" => url.timeout = span(&value)?,
        "sentinel_user" if sentinel => url.sentinel_login.user = Some(value),
        "sentinel_password_file" if sentinel => file_for(&mut url.sentinel_login, value)?,
        "sentinel_user" | "sentinel_password_file" => {
            return Err(wrong("credentials for sentinels without sentinels"));
        }
        "password" => {
            return Err(hinted(
                "a password among the parameters",
                "write it as :password@ in front of the host, or as ?password_file=/path",
            ));
        }
        name => return Err(unknown(name)),
    }
    Ok(())
}

fn unknown(name: &str) -> UrlError {
    // What does not look like a name may be a secret in the wrong place.
    let plain = |name: &str| {
        name.len() <= 24
            && name
                .bytes()
                .all(|b| b"_-".contains(&b) || b.is_ascii_lowercase())
    };
    let known = || {
        PARAMETERS
            .iter()
            .copied()
            .filter(|known| *known != "password")
    };
    match suggest::did_you_mean(name, known()) {
        hint @ Some(_) if plain(name) => UrlError {
            found: format!("the unknown parameter `{name}`"),
            hint,
        },
        _ => {
            let known: Vec<&str> = known().collect();
            hinted(
                "an unknown parameter",
                format!("known are {}", known.join(", ")),
            )
        }
    }
}

fn file_for(login: &mut Login, path: String) -> Result<(), UrlError> {
    if login.password != Password::None {
        return Err(wrong("a password and a password file"));
    }
    login.password = Password::File(path.into());
    Ok(())
}

fn namespace(text: String) -> Result<String, UrlError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
    match text.bytes().all(allowed) && text.len() <= 64 {
        true => Ok(text),
        false => Err(wrong(
            "a namespace other than 1 to 64 letters, digits and `_-.:`",
        )),
    }
}

fn number(text: &str) -> Result<u32, UrlError> {
    text.parse()
        .map_err(|_| wrong("a database that is not a number"))
}

fn cluster_has_one_database(url: &RedisUrl) -> Result<(), UrlError> {
    match url.place {
        Place::Cluster(_) if url.db != 0 => Err(hinted(
            "a database of a cluster, which has only 0",
            "tell installations apart with ?namespace=NAME",
        )),
        _ => Ok(()),
    }
}

/// Reads a number with `ms`, `s` or `m`; seconds without any.
fn span(text: &str) -> Result<Duration, UrlError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: Option<u64> = number.parse().ok();
    let span = match (number, unit) {
        (Some(n), "ms") => Some(Duration::from_millis(n)),
        (Some(n), "" | "s") => Some(Duration::from_secs(n)),
        (Some(n), "m") => n.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    span.filter(|span| (SHORTEST..=LONGEST).contains(span))
        .ok_or_else(|| hinted("a timeout other than 10ms to 10m", "write 2s or 500ms"))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let bad = || hinted("a `%` that encodes no character", "write `%` itself as %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (high, low) = (digit().ok_or_else(bad)?, digit().ok_or_else(bad)?);
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}
