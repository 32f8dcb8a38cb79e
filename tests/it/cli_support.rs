//! The real program in a data directory of its own: daemons that end with their test, and one-shot commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory, and the program called on it.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Returns the program with `arguments`, free of the environment's settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CELERIAC_") || name.starts_with("CELERY_") || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.path())
            .arg("--data-dir")
            .arg(self.data())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that reads `input`.
    pub(crate) fn feed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Runs a command that succeeds and returns its lines.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.lines_of(arguments, 0)
    }

    /// Runs a command that ends with this code and returns its lines.
    pub(crate) fn lines_of(&self, arguments: &[&str], ends: i32) -> Vec<String> {
        let output = self.run(arguments);
        assert_eq!(code(&output), ends, "{arguments:?}: {}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs a command that succeeds and returns its only document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let lines = self.lines(arguments);
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }

    /// Starts a daemon and waits until it tells of itself.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Daemon {
        let mut all = vec!["run", "--demo"];
        all.extend_from_slice(arguments);
        let log = std::fs::File::create(self.path().join("daemon.log")).unwrap();
        let mut command = self.command(&all);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = Daemon {
            child: command.spawn().unwrap(),
        };
        let pid = daemon.child.id();
        self.until("the daemon is ready", || {
            let output = self.run(&["status", "--json"]);
            // Before it has made its broker there is none to ask.
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let Some(workers) = status["workers"].as_array() else {
                return false;
            };
            workers
                .iter()
                .any(|worker| worker["pid"] == pid && worker["alive"] == true)
        });
        daemon
    }

    /// Looks again and again until something is so.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the real program runs in real time"
        )]
        let (start, rest) = (Instant::now(), std::thread::sleep);
        while !is_so() {
            assert!(start.elapsed() < PATIENCE, "not so in time: {what}");
            rest(Duration::from_millis(50));
        }
    }
}

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Kills it without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns what a command wrote to standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the exit code of a command.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
