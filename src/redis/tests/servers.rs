//! Servers for tests: on free ports of the loopback, in directories of their own, gone with their handle.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use redis::{Cmd, Value};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::redis::link::{Links, Slot};

/// A server of its own.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) dir: TempDir,
    config: String,
    program: &'static str,
    child: Option<Child>,
}

/// Returns whether tests with servers can run here, and says so when they cannot.
pub(super) fn installed() -> bool {
    let found = Command::new("redis-server")
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        println!("left out: redis-server is not installed");
    }
    found
}

/// How long anything may take on a machine that is busy with other things.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends a command until it is answered.
pub(super) async fn insist(links: &Links, slot: Slot, command: &Cmd) -> Value {
    let started = Instant::now();
    loop {
        match links.query(slot, command).await {
            Ok(answer) => return answer,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// Sends a command that must not succeed until the error has certain words.
pub(super) async fn told(links: &Links, slot: Slot, command: &Cmd, words: &str) -> String {
    let started = Instant::now();
    loop {
        let error = links.query(slot, command).await.unwrap_err().to_string();
        if error.contains(words) {
            return error;
        }
        assert!(started.elapsed() < PATIENCE, "{error} without {words:?}");
    }
}

/// Returns a port that nobody listens on now, below those that the kernel gives to clients: one of them could get the
/// port of a server that is to come back, and keep it.
pub(super) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let next = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 8_000 + (std::process::id().wrapping_mul(577) + next) % 8_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Starts a server with further lines of configuration; `DIR` in them is its directory.
    pub(super) async fn start(config: &str) -> Self {
        Self::start_as("redis-server", free_port(), config).await
    }

    pub(super) async fn start_at(port: u16, config: &str) -> Self {
        Self::start_as("redis-server", port, config).await
    }

    pub(super) async fn sentinel(config: &str) -> Self {
        Self::start_as("redis-sentinel", free_port(), config).await
    }

    async fn start_as(program: &'static str, port: u16, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().display().to_string();
        let mut lines = config.replace("DIR", &place);
        if !lines.starts_with("port ") {
            writeln!(lines, "\nport {port}").unwrap();
        }
        writeln!(lines, "\nbind 127.0.0.1\ndir {place}\nsave \"\"").unwrap();
        if program == "redis-sentinel" {
            lines = lines.replace("save \"\"\n", "");
        }
        let mut server = Self {
            port,
            dir,
            config: lines,
            program,
            child: None,
        };
        server.restart().await;
        server
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Has the server started with further lines of configuration from its next start on.
    pub(super) fn configure(&mut self, lines: &str) {
        writeln!(self.config, "{lines}").unwrap();
    }

    /// Starts the server again, with the same port and directory.
    pub(super) async fn restart(&mut self) {
        self.kill();
        let file = self.path("server.conf");
        std::fs::write(&file, &self.config).unwrap();
        let child = Command::new(self.program)
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        let address = ("127.0.0.1", self.port);
        let listens = || std::net::TcpStream::connect(address).is_ok();
        until(
            &format!("{} listens on {}", self.program, self.port),
            listens,
        )
        .await;
    }

    /// Ends the server at once, as SIGKILL does.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Stops or continues the server's process.
    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let id = self.child.as_ref().unwrap().id();
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Runs `redis-cli` against the server.
    pub(super) fn cli(&self, args: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(args)
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout)
            .trim()
            .to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
