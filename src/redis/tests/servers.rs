//! Servers for tests: on free ports of the loopback, in directories of their own, gone with their handle.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

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

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
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
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} did not start on {}", self.program, self.port);
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
