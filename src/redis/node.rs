//! Where one server is.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The address of one server; cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node(Arc<Address>);

/// How a server is reached.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Address {
    /// A host by name or number, without brackets, and its port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Node {
    pub(super) fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self(Arc::new(Address::Tcp(host.into(), port)))
    }

    pub(super) fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Address::Unix(path.into())))
    }

    pub(super) fn address(&self) -> &Address {
        &self.0
    }

    /// Returns the host, when there is one.
    pub(super) fn host(&self) -> Option<&str> {
        match &*self.0 {
            Address::Tcp(host, _) => Some(host),
            Address::Unix(_) => None,
        }
    }

    /// Reads `host:port` as a server announces it; an empty or unknown host is that of `told_by`.
    pub(super) fn announced(text: &str, told_by: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::announced_as(host, port.parse().ok()?, told_by)
    }

    /// Makes a node of a host and port that a server announces; an empty or unknown host is that of `told_by`.
    pub(super) fn announced_as(host: &str, port: u16, told_by: &Self) -> Option<Self> {
        let host = match host {
            "" | "?" => told_by.host()?,
            host => host,
        };
        (port > 0).then(|| Self::tcp(host, port))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_address_may_leave_the_host_out() {
        let here = Node::tcp("10.0.0.1", 7_000);
        let read = |text| Node::announced(text, &here);
        assert_eq!(read("10.0.0.2:7001"), Some(Node::tcp("10.0.0.2", 7_001)));
        assert_eq!(read(":7001"), Some(Node::tcp("10.0.0.1", 7_001)));
        assert_eq!(read("?:7001"), Some(Node::tcp("10.0.0.1", 7_001)));
        assert_eq!(read("::1:7001"), Some(Node::tcp("::1", 7_001)));
        assert_eq!(read("[::1]:7001").unwrap().to_string(), "[::1]:7001");
        for wrong in ["", "host", "host:", "host:x", "host:0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(Node::announced(":1", &Node::unix("/run/redis.sock")), None);
    }
}
