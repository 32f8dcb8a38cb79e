//! The worker processes of the demo: started, killed, started again, and never left behind.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// The variables that a daemon reads beside its own.
const FALLBACKS: [&str; 4] = [
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "REDIS_URL",
    "NOTIFY_SOCKET",
];

/// The workers. Dropping them kills them.
pub(super) struct Fleet {
    root: PathBuf,
    program: PathBuf,
    workers: Vec<Child>,
}

impl Fleet {
    /// Starts `count` workers on the data directory below `root`; their logs go beside it.
    pub(super) fn start(root: &Path, count: usize) -> io::Result<Self> {
        // An empty file, so that no other configuration is found.
        File::create(root.join("demo.toml"))?;
        let mut fleet = Self {
            root: root.to_owned(),
            program: std::env::current_exe()?,
            workers: Vec::new(),
        };
        for index in 0..count {
            let worker = fleet.spawn(index)?;
            fleet.workers.push(worker);
        }
        Ok(fleet)
    }

    /// Returns the data directory of a demo in `root`.
    pub(super) fn data(root: &Path) -> PathBuf {
        root.join("data")
    }

    /// Returns the process ids.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(Child::id).collect()
    }

    /// Kills a worker without a word, as a crash of the machine's power or its memory would.
    pub(super) fn kill(&mut self, index: usize) -> io::Result<()> {
        self.workers[index].kill()?;
        self.workers[index].wait().map(drop)
    }

    /// Starts every worker again that has ended; returns which ones.
    pub(super) fn tend(&mut self) -> io::Result<Vec<usize>> {
        let mut started = Vec::new();
        for index in 0..self.workers.len() {
            if self.workers[index].try_wait()?.is_some() {
                self.workers[index] = self.spawn(index)?;
                started.push(index);
            }
        }
        Ok(started)
    }

    /// Tells all workers to stop and waits; returns how each ended, `None` for one that did not in time.
    pub(super) async fn stop(&mut self, limit: Duration) -> io::Result<Vec<Option<ExitStatus>>> {
        for worker in &mut self.workers {
            if worker.try_wait()?.is_none() {
                kill_process(Pid::from_child(worker), Signal::TERM)?;
            }
        }
        let deadline = Instant::now() + limit;
        loop {
            let ends = self.workers.iter_mut().map(Child::try_wait);
            let ends = ends.collect::<io::Result<Vec<_>>>()?;
            if ends.iter().all(Option::is_some) || Instant::now() >= deadline {
                return Ok(ends);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the last lines that the workers logged.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let mut text = String::new();
        for index in 0..self.workers.len() {
            let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            let all: Vec<&str> = log.lines().collect();
            text.push_str(&format!("log of worker {}:\n", index + 1));
            for line in &all[all.len().saturating_sub(lines)..] {
                text.push_str(&format!("  {line}\n"));
            }
        }
        text
    }

    fn log(&self, index: usize) -> PathBuf {
        self.root.join(format!("worker-{}.log", index + 1))
    }

    fn spawn(&self, index: usize) -> io::Result<Child> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(index))?;
        let mut command = Command::new(&self.program);
        command
            .args([
                "run",
                "--demo",
                "--no-http",
                "--with-parent",
                "--log-format",
                "term",
            ])
            .arg("--data-dir")
            .arg(Self::data(&self.root))
            .arg("--config")
            .arg(self.root.join("demo.toml"))
            // Where a core dump or a stray file goes with the rest.
            .current_dir(&self.root)
            // An interrupt from the terminal is for us: we stop them.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, _) in std::env::vars_os() {
            let foreign = name.to_string_lossy().starts_with("CELERIAC_");
            if foreign || FALLBACKS.iter().any(|fallback| name == *fallback) {
                command.env_remove(name);
            }
        }
        command.spawn()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            // One that has ended already cannot be killed and need not be.
            drop(worker.kill());
            drop(worker.wait());
        }
    }
}
