//! Servers that all tests of one process share, each test under a namespace of its own; and the end of them.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use celeriac::redis::{RedisBroker, RedisOptions, acl_rules};

use crate::redis_server::{RedisServer, ServerOptions};
use crate::redis_topology::RedisCluster;

/// Ends servers and removes their directories when this process is gone, however it goes.
#[derive(Debug)]
struct Guard(#[expect(dead_code, reason = "its standard input ends with this process")] Child);

impl Guard {
    fn of<'a>(servers: impl IntoIterator<Item = &'a RedisServer>) -> Self {
        let (mut pids, mut directories) = (Vec::new(), Vec::new());
        for server in servers {
            pids.push(server.pid().to_string());
            directories.push(server.directory().to_owned());
        }
        let script = format!(
            "trap '' INT TERM HUP; cat; kill -9 {}; rm -rf \"$@\"",
            pids.join(" ")
        );
        let child = Command::new("/bin/sh")
            .args(["-c", &script, "sh"])
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

/// Returns the one server: AOF synced each second, TLS, a socket, and a user `worker` with the least rights.
pub(crate) fn server() -> &'static RedisServer {
    static SERVER: OnceLock<(RedisServer, Guard)> = OnceLock::new();
    let start = || {
        let server = RedisServer::start(ServerOptions {
            users: vec![format!(
                "user worker on >secret resetkeys resetchannels {}",
                acl_rules("acl*")
            )],
            tls: true,
            ..ServerOptions::default()
        });
        let guard = Guard::of([&server]);
        (server, guard)
    };
    &SERVER.get_or_init(start).0
}

/// Returns the one cluster of three masters.
pub(crate) fn cluster() -> &'static RedisCluster {
    static CLUSTER: OnceLock<(RedisCluster, Guard)> = OnceLock::new();
    let start = || {
        let cluster = RedisCluster::start();
        let guard = Guard::of(&cluster.nodes);
        (cluster, guard)
    };
    &CLUSTER.get_or_init(start).0
}

/// Returns a namespace that nobody else has.
pub(crate) fn namespace(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::new_v4().simple())
}

/// Returns `url` with a parameter.
pub(crate) fn with(url: &str, name: &str, value: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{name}={value}")
}

/// Opens a broker as a client would.
pub(crate) fn open(url: &str) -> RedisBroker {
    RedisBroker::open(RedisOptions::new(url).unwrap()).unwrap()
}

/// Opens a broker as a worker would.
pub(crate) fn open_as(url: &str, worker: &str) -> RedisBroker {
    let options = RedisOptions::new(url).unwrap();
    RedisBroker::open(options.worker(worker.parse().unwrap())).unwrap()
}
