//! What Redis says, as what a caller can do next. Pure.
//!
//! A server's error means that the command had no effect: Redis refuses a script before its first write, and ours check
//! before they write. Only silence leaves that open, and a script that broke off.

use std::fmt;
use std::time::Duration;

use celeriac_actors::ports::BrokerError;
use redis::{ErrorKind, RedisError};

use super::node::Node;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The incarnation was closed, say our scripts.
    Gone,
    /// The call cannot be carried out as it is, say our scripts or this process.
    Invalid,
    /// The server, or something on the way to it, said what is not foreseen: the outcome is unknown.
    Strange,
    /// The data does not fit this version.
    Schema,
    /// Memory is at its limit.
    Full,
    /// The server cannot write to its disk and refuses to go on.
    Disk,
    /// The server is a replica.
    ReadOnly,
    /// Fewer replicas are connected than the server wants for a write.
    NoReplicas,
    /// The server reads its data back.
    Loading,
    /// A script has been running for too long.
    Busy,
    /// The server does not know the script.
    NoScript,
    /// The user may not do this.
    Denied,
    /// The login was refused, or is missing.
    Login,
    /// The key is served elsewhere.
    Moved,
    /// The key is on its way elsewhere; this once it is served there.
    Ask,
    /// The keys are on their way elsewhere.
    TryAgain,
    /// A part of the cluster has no master.
    ClusterDown,
    /// A replica lost its master.
    MasterDown,
    /// A blocking command was ended by the server.
    Unblocked,
    /// The server takes no further connections.
    Crowded,
    /// No sentinel that answered knows the master: the command was never sent.
    Unnamed,
    /// There was no connection: the command was never sent.
    NotSent,
    /// Time ran out before a connection could show whether it is to be had: the command was never sent.
    NoTime,
    /// No answer came in time: the outcome is unknown.
    Late,
    /// The connection ended before the answer: the outcome is unknown.
    Dropped,
    /// The answer is no Redis protocol, or none that was expected: the outcome is unknown.
    Garbled,
}

/// A failure: its kind, and what to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: Class,
    text: String,
    /// Where the key is served, as the server said it: `host:port`.
    pub(super) redirect: Option<String>,
}

impl Fault {
    pub(super) fn new(class: Class, text: impl Into<String>) -> Self {
        Self {
            class,
            text: text.into(),
            redirect: None,
        }
    }

    /// Classes what the client or the server said.
    pub(super) fn of(error: &RedisError) -> Self {
        let class = class(error);
        let text = match error.code() {
            Some(code) => format!("{code} {}", error.detail().unwrap_or_default()),
            // Its own words, over several lines, tell at which byte.
            None if error.kind() == ErrorKind::Parse => {
                "the answer is no Redis protocol".to_owned()
            }
            None => error.to_string(),
        };
        Self {
            class,
            redirect: error.redirect_node().map(|(node, _)| node.to_owned()),
            text: text.trim_end().to_owned(),
        }
    }

    pub(super) fn not_sent(node: &Node, why: impl fmt::Display) -> Self {
        Self::new(Class::NotSent, format!("{node}: {why}"))
    }

    pub(super) fn no_time(node: &Node) -> Self {
        Self::new(
            Class::NoTime,
            format!("{node}: no time was left to connect"),
        )
    }

    /// Makes one failure of what several servers said, or why they could not be asked: the class of what tells most,
    /// and the words of all.
    pub(super) fn all(mut faults: Vec<Self>) -> Option<Self> {
        faults.sort_by_key(|fault| std::cmp::Reverse(fault.weight()));
        let texts: Vec<_> = faults.iter().map(|fault| fault.text.as_str()).collect();
        let text = texts.join("; ");
        let first = faults.into_iter().next()?;
        Some(Self { text, ..first })
    }

    /// Returns how much it tells: what a server said of itself is more than that none was reached, and that more than
    /// that time ran out, or that another server is to be asked.
    const fn weight(&self) -> u8 {
        match self.class {
            Class::NoTime | Class::Moved | Class::Ask => 0,
            Class::NotSent => 1,
            _ => 2,
        }
    }

    /// Returns this or what came before it: whichever tells more, and this one when both tell as much.
    pub(super) fn or_before(self, before: Option<Self>) -> Self {
        match before {
            Some(before) if before.weight() > self.weight() => before,
            _ => self,
        }
    }

    /// Returns whether there was no connection that the command could have been sent over.
    pub(super) const fn is_unsent(&self) -> bool {
        matches!(self.class, Class::Unnamed | Class::NotSent | Class::NoTime)
    }

    pub(super) fn late(node: &Node, after: Duration) -> Self {
        let text = format!("{node} did not answer within {} ms", after.as_millis());
        Self::new(Class::Late, text)
    }

    /// Says at which server it happened.
    pub(super) fn at(mut self, node: &Node) -> Self {
        self.text = format!("{node}: {}", self.text);
        self
    }

    /// Returns whether the connection is of no more use after this.
    pub(super) const fn breaks(&self) -> bool {
        matches!(
            self.class,
            Class::Late
                | Class::Dropped
                | Class::Garbled
                | Class::NotSent
                | Class::NoTime
                | Class::Login
        )
    }

    /// Returns whether the command may have taken effect although no answer says so.
    pub(super) const fn is_unknown(&self) -> bool {
        matches!(
            self.class,
            Class::Late | Class::Dropped | Class::Garbled | Class::Strange
        )
    }

    /// Returns whether the server itself says that it does not do such a thing.
    pub(super) fn is_unfit(&self) -> bool {
        let lacks = |what: &str| self.text.to_lowercase().contains(what);
        self.class == Class::Invalid
            || self.class == Class::Strange
                && (lacks("unknown command") || lacks("cluster support disabled"))
    }

    /// Returns whether it says that the server is not there, as opposed to what it does not take.
    pub(super) const fn is_absence(&self) -> bool {
        !matches!(
            self.class,
            Class::Gone
                | Class::Invalid
                | Class::Schema
                | Class::Full
                | Class::Disk
                | Class::ReadOnly
                | Class::NoReplicas
                | Class::Denied
        )
    }

    /// Returns what the caller of the port can do next.
    pub(super) fn into_broker_error(self) -> BrokerError {
        match self.class {
            Class::Gone => BrokerError::Gone,
            Class::Invalid => BrokerError::Invalid(self.to_string()),
            Class::Schema => BrokerError::Schema(self.to_string()),
            Class::Full | Class::Disk | Class::ReadOnly | Class::NoReplicas | Class::Denied => {
                BrokerError::Refused(self.to_string())
            }
            _ if self.is_unknown() => BrokerError::Unavailable(self.to_string()),
            _ => BrokerError::Away(self.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match advice(self.class) {
            "" => Ok(()),
            advice => write!(f, " ({advice})"),
        }
    }
}

/// Returns what to add to the server's words: what to do, or what became of the command.
const fn advice(class: Class) -> &'static str {
    match class {
        Class::Gone | Class::Invalid | Class::Schema | Class::Moved | Class::Ask => "",
        Class::Full => {
            "raise maxmemory, let the workers catch up, or keep results for a shorter time"
        }
        Class::Disk => "look at the server's disk and log",
        Class::ReadOnly => {
            "it is a replica, or was made one: name the master, or use redis+sentinel://"
        }
        Class::NoReplicas => {
            "min-replicas-to-write asks for more replicas than follow closely: bring them back, or lower it"
        }
        Class::Loading => "it reads its data back and answers when that is done",
        Class::Busy => "a script runs for too long there; `SCRIPT KILL` ends it",
        Class::NoScript => "the script is not loaded; nothing happened",
        Class::Denied => "docs/redis.md has the ACL rule that a broker's user needs",
        Class::Login => "check user, password and password file",
        Class::TryAgain => "keys are being moved; nothing happened",
        Class::ClusterDown => "a part of the cluster has no master; nothing happened",
        Class::MasterDown => "the replica lost its master; nothing happened",
        Class::Unblocked => "the server changed its role",
        Class::Crowded => "raise maxclients",
        Class::Unnamed | Class::NotSent | Class::NoTime => "nothing was sent",
        Class::Strange => {
            "no answer that is known here; whether it took effect is unknown, the same is asked again"
        }
        Class::Late | Class::Dropped | Class::Garbled => "whether it took effect is unknown",
    }
}

fn class(error: &RedisError) -> Class {
    match error.kind() {
        ErrorKind::AuthenticationFailed => return Class::Login,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => return Class::Garbled,
        ErrorKind::InvalidClientConfig | ErrorKind::Client => return Class::Invalid,
        ErrorKind::Io if error.is_timeout() => return Class::Late,
        ErrorKind::Io => return Class::Dropped,
        _ => {}
    }
    let text = error.detail().unwrap_or_default();
    match error.code().unwrap_or_default() {
        "GONE" => Class::Gone,
        "ASTRAY" | "TOOMANY" | "CROSSSLOT" => Class::Invalid,
        "SCHEMA" | "WRONGTYPE" => Class::Schema,
        "OOM" => Class::Full,
        "MISCONF" => Class::Disk,
        "READONLY" => Class::ReadOnly,
        "NOREPLICAS" => Class::NoReplicas,
        "LOADING" => Class::Loading,
        "BUSY" => Class::Busy,
        "NOSCRIPT" => Class::NoScript,
        "NOPERM" => Class::Denied,
        "NOAUTH" | "WRONGPASS" | "DENIED" => Class::Login,
        "MOVED" => Class::Moved,
        "ASK" => Class::Ask,
        "TRYAGAIN" => Class::TryAgain,
        "CLUSTERDOWN" => Class::ClusterDown,
        "MASTERDOWN" => Class::MasterDown,
        "UNBLOCKED" => Class::Unblocked,
        // It broke off in the middle: what it had written stays.
        _ if text.contains("@user_script") && !text.contains("user executing the script can't") => {
            Class::Garbled
        }
        _ if text.starts_with("max number of clients") => Class::Crowded,
        // What a script may not do is told in other words than what a client may not.
        _ if text.contains("user executing the script can't") => Class::Denied,
        // Not of our scripts, which name what is wrong with a call: a module, a proxy, a command that was renamed.
        _ => Class::Strange,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::make_extension_error;

    use super::*;

    fn said(code: &str, detail: &str) -> RedisError {
        make_extension_error(code.into(), Some(detail.into()))
    }

    /// Goal: whoever reads this table knows what every error of the server leads to.
    #[test]
    fn every_code_has_its_class_and_its_consequence() {
        use Class::*;
        let away = |class| (class, "away");
        for (code, detail, (class, outcome)) in [
            ("GONE", "closed", (Gone, "gone")),
            ("ASTRAY", "call 3", (Invalid, "invalid")),
            ("TOOMANY", "at most 9", (Invalid, "invalid")),
            ("CROSSSLOT", "Keys", (Invalid, "invalid")),
            ("ERR", "unknown command 'X'", (Strange, "unavailable")),
            ("ERR", "upstream failure", (Strange, "unavailable")),
            ("UNHEARD", "of", (Strange, "unavailable")),
            ("SCHEMA", "version 9", (Schema, "schema")),
            ("WRONGTYPE", "Operation against", (Schema, "schema")),
            ("OOM", "command not allowed", (Full, "refused")),
            ("MISCONF", "Redis is configured", (Disk, "refused")),
            ("READONLY", "You can't write", (ReadOnly, "refused")),
            ("NOREPLICAS", "Not enough", (NoReplicas, "refused")),
            ("NOPERM", "this user has no", (Denied, "refused")),
            (
                "ERR",
                "The user executing the script can't run this command",
                (Denied, "refused"),
            ),
            ("LOADING", "Redis is loading", away(Loading)),
            ("BUSY", "Redis is busy", away(Busy)),
            ("NOSCRIPT", "No matching script", away(NoScript)),
            ("NOAUTH", "Authentication required", away(Login)),
            ("WRONGPASS", "invalid username-", away(Login)),
            ("DENIED", "protected mode", away(Login)),
            ("MOVED", "3999 127.0.0.1:6381", away(Moved)),
            ("ASK", "3999 127.0.0.1:6381", away(Ask)),
            ("TRYAGAIN", "Multiple keys", away(TryAgain)),
            ("CLUSTERDOWN", "Hash slot", away(ClusterDown)),
            ("MASTERDOWN", "Link with", away(MasterDown)),
            ("UNBLOCKED", "force unblock", away(Unblocked)),
            ("ERR", "max number of clients reached", away(Crowded)),
        ] {
            let fault = Fault::of(&said(code, detail));
            assert_eq!(fault.class, class, "{code} {detail}");
            assert_eq!(fault.is_unknown(), class == Strange, "{code}");
            assert_eq!(fault.breaks(), class == Login, "{code}");
            let text = fault.to_string();
            assert!(text.contains(code) && text.contains(detail), "{text}");
            let found = match fault.into_broker_error() {
                BrokerError::Gone => "gone",
                BrokerError::Unavailable(_) => "unavailable",
                BrokerError::Away(_) => "away",
                BrokerError::Refused(_) => "refused",
                BrokerError::Invalid(_) => "invalid",
                BrokerError::Schema(_) => "schema",
                _ => "new",
            };
            assert_eq!(found, outcome, "{code}");
        }
    }

    #[test]
    fn silence_leaves_the_outcome_open() {
        for (kind, class) in [
            (io::ErrorKind::TimedOut, Class::Late),
            (io::ErrorKind::BrokenPipe, Class::Dropped),
            (io::ErrorKind::ConnectionReset, Class::Dropped),
            (io::ErrorKind::UnexpectedEof, Class::Dropped),
        ] {
            let fault = Fault::of(&io::Error::from(kind).into());
            assert_eq!(fault.class, class);
            assert!(fault.is_unknown() && fault.breaks());
            assert!(fault.to_string().contains("unknown"), "{fault}");
            assert!(matches!(
                fault.into_broker_error(),
                BrokerError::Unavailable(_)
            ));
        }
        let node = Node::tcp("h", 1);
        let never = Fault::not_sent(&node, "connection refused");
        assert!(never.breaks() && !never.is_unknown());
        assert_eq!(
            never.to_string(),
            "h:1: connection refused (nothing was sent)"
        );
        let never = never.into_broker_error();
        assert!(never.is_outage() && !never.is_unknown(), "{never:?}");
        let late = Fault::late(&node, Duration::from_secs(2));
        assert!(
            late.to_string()
                .contains("h:1 did not answer within 2000 ms"),
            "{late}"
        );
    }

    #[test]
    fn what_is_no_redis_is_told_in_a_line() {
        let parsed = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let fault = Fault::of(&parsed.unwrap_err());
        assert_eq!(fault.class, Class::Garbled);
        assert_eq!(
            fault.to_string(),
            "the answer is no Redis protocol (whether it took effect is unknown)"
        );
    }

    #[test]
    fn a_redirection_says_where_to() {
        let moved = redis::RedisError::from((
            ErrorKind::Server(redis::ServerErrorKind::Moved),
            "moved",
            "3999 127.0.0.1:6381".to_owned(),
        ));
        assert_eq!(
            Fault::of(&moved).redirect.as_deref(),
            Some("127.0.0.1:6381")
        );
        assert_eq!(Fault::of(&moved).class, Class::Moved);
        assert_eq!(Fault::of(&said("OOM", "x")).redirect, None);
    }

    #[test]
    fn what_is_denied_names_the_rule() {
        let fault = Fault::of(&said("NOPERM", "no"));
        assert!(!fault.breaks());
        let error = fault.into_broker_error();
        assert!(error.to_string().contains("docs/redis.md"), "{error}");
    }
}
