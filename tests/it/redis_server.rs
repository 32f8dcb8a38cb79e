//! A Redis server of our own: on a free loopback port, in a temporary directory, gone when dropped.
//!
//! It can be killed and started again on the same port and data, frozen, filled, and given users and certificates.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::daemon::PATIENCE;
use crate::ports::{STARTS, free_port};
use crate::redis_resp::{Reply, Resp};

/// What a server keeps when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    None,
    AofEverysec,
    AofAlways,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct ServerOptions {
    pub(crate) persistence: Persistence,
    /// Bytes, and what is done beyond them.
    pub(crate) maxmemory: Option<(u64, &'static str)>,
    /// More lines of its configuration.
    pub(crate) config: Vec<String>,
    /// Users beside the default one, which may do everything: lines of an ACL file.
    pub(crate) users: Vec<String>,
    /// Whether it listens to TLS too, with a certificate of a throw-away authority.
    pub(crate) tls: bool,
    /// Whether it is a node of a cluster.
    pub(crate) cluster: bool,
    /// Whether it is no server but a sentinel.
    pub(crate) sentinel: bool,
    /// How much longer each sync of its log takes: a slow disk.
    pub(crate) slow_sync: Option<Duration>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            persistence: Persistence::AofEverysec,
            maxmemory: None,
            config: Vec::new(),
            users: Vec::new(),
            tls: false,
            cluster: false,
            sentinel: false,
            slow_sync: None,
        }
    }
}

/// A running server, or one that was killed.
#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Option<Child>,
    dir: TempDir,
    options: ServerOptions,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
    pub(crate) bus_port: u16,
}

impl RedisServer {
    pub(crate) fn start(options: ServerOptions) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("celeriac-redis")
            .tempdir()
            .unwrap();
        let mut server = Self {
            process: None,
            dir,
            options,
            port: 0,
            tls_port: 0,
            bus_port: 0,
        };
        if server.options.tls {
            certify(server.dir.path());
        }
        for _ in 0..STARTS {
            server.port = free_port();
            server.tls_port = free_port();
            server.bus_port = free_port();
            server.configure();
            if server.launch() {
                return server;
            }
        }
        panic!("redis-server does not start:\n{}", server.log());
    }

    fn configure(&self) {
        let (dir, options) = (self.dir.path().display(), &self.options);
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            format!("dir {dir}"),
            format!("logfile {dir}/log"),
        ];
        if !options.sentinel {
            lines.push(format!("unixsocket {}", self.socket().display()));
            lines.push("save \"\"".to_owned());
            lines.push(format!("aclfile {dir}/users.acl"));
        }
        match options.persistence {
            _ if options.sentinel => {}
            Persistence::None => lines.push("appendonly no".to_owned()),
            Persistence::AofEverysec => {
                lines.extend([
                    "appendonly yes".to_owned(),
                    "appendfsync everysec".to_owned(),
                ]);
            }
            Persistence::AofAlways => {
                lines.extend(["appendonly yes".to_owned(), "appendfsync always".to_owned()]);
            }
        }
        if let Some((bytes, policy)) = options.maxmemory {
            lines.push(format!("maxmemory {bytes}"));
            lines.push(format!("maxmemory-policy {policy}"));
        }
        if options.tls {
            lines.push(format!("tls-port {}", self.tls_port));
            lines.push(format!("tls-cert-file {dir}/server.pem"));
            lines.push(format!("tls-key-file {dir}/server.key"));
            lines.push(format!("tls-ca-cert-file {dir}/ca.pem"));
            lines.push("tls-auth-clients no".to_owned());
        }
        if options.cluster {
            lines.push("cluster-enabled yes".to_owned());
            lines.push(format!("cluster-port {}", self.bus_port));
            lines.push("cluster-node-timeout 2000".to_owned());
        }
        lines.extend(options.config.iter().cloned());
        let mut users = vec!["user default on nopass ~* &* +@all".to_owned()];
        users.extend(options.users.iter().cloned());
        std::fs::write(self.dir.path().join("redis.conf"), lines.join("\n") + "\n").unwrap();
        std::fs::write(self.dir.path().join("users.acl"), users.join("\n") + "\n").unwrap();
    }

    /// Starts the process and waits until it serves. Returns `false` when it ended instead.
    fn launch(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        command.arg(self.dir.path().join("redis.conf"));
        command.args(self.options.sentinel.then_some("--sentinel"));
        command.current_dir(self.dir.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(slow) = self.options.slow_sync {
            command.env("LD_PRELOAD", slow_disk(self.dir.path(), slow));
        }
        let spawned = command.spawn();
        let mut child =
            spawned.expect("`redis-server` is on PATH: the Debian package `redis-server`");
        let serves = wait_until("redis-server serves", || match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => self.answers(child.id()).then_some(true),
        });
        self.process = Some(child);
        serves
    }

    /// Returns whether this very process serves on our port.
    fn answers(&self, pid: u32) -> bool {
        let info = Resp::connect(self.port).and_then(|mut c| c.ask(&["INFO", "everything"]));
        info.is_ok_and(|info| {
            info.field("process_id") == Some(pid.to_string())
                && info.field("loading").is_none_or(|loading| loading == "0")
        })
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again, on the same port and with what it kept.
    pub(crate) fn restart(&mut self) {
        self.kill();
        wait_until("redis-server is back", || self.launch().then_some(()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Sends a command on a connection of its own; returns the reply, which may be an error.
    pub(crate) fn ask(&self, words: &[impl AsRef<[u8]>]) -> Reply {
        self.connect().ask(words).unwrap()
    }

    pub(crate) fn connect(&self) -> Resp {
        Resp::connect(self.port).unwrap()
    }

    /// Returns a field of `INFO`.
    pub(crate) fn info(&self, field: &str) -> String {
        let info = self.ask(&["INFO", "everything"]);
        info.field(field).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the URL for one of its users.
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port)
    }

    pub(crate) fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Returns the certificate of the authority that signed the server's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    #[expect(
        clippy::print_stdout,
        reason = "the test harness shows it when the test fails"
    )]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("log of Redis at {}:\n{}", self.port, self.log());
        }
    }
}

/// Looks until there is something, for at most [`PATIENCE`].
#[expect(clippy::disallowed_methods, reason = "another process is waited for")]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes an authority and a certificate of it for this machine.
fn certify(dir: &Path) {
    let config = "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = celeriac test\n\
        [ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n\
        [server]\nbasicConstraints = critical,CA:FALSE\nsubjectAltName = DNS:localhost,IP:127.0.0.1\n";
    std::fs::write(dir.join("openssl.cnf"), config).unwrap();
    let request = |name: &str, extra: &[&str]| {
        let out = Command::new("openssl")
            .args(
                "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
                    .split(' '),
            )
            .args(["-nodes", "-days", "2", "-extensions", name])
            .args([
                "-keyout",
                &format!("{name}.key"),
                "-out",
                &format!("{name}.pem"),
            ])
            .args(extra)
            .current_dir(dir)
            .output()
            .expect("`openssl` is on PATH: the Debian package `openssl`");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    request("ca", &[]);
    request("server", &["-CA", "ca.pem", "-CAkey", "ca.key"]);
}

/// Builds a library that slows the syncs of whoever it is loaded into.
fn slow_disk(dir: &Path, slow: Duration) -> PathBuf {
    let (source, library) = (dir.join("slow.c"), dir.join("slow.so"));
    let code = format!(
        "#include <unistd.h>\nint fdatasync(int file) {{ usleep({}); return fsync(file); }}\n",
        slow.as_micros()
    );
    std::fs::write(&source, code).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(built.expect("a C compiler is there").success());
    library
}
