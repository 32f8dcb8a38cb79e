//! Real daemons for the tests: processes of the built program on a temporary data directory.
//!
//! Every wait is bounded and looks until what it waits for is there; nothing sleeps for a guessed time. A daemon is
//! killed when it is dropped, and says what it logged when its test fails.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use celeriac::client::Client;
use celeriac::runtime::WorkerDetail;
use celeriac::store::{Store, StoreOptions, StoreUrl};
use celeriac_actors::frame::encode_value;
use celeriac_actors::header::Header;
use celeriac_actors::ids::{QueueName, TaskId, TaskName};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::ports::{
    Broker, Counters, DeadFilter, DeadLetter, DeadLetters as _, QueueStatus, ScanRequest,
    StoredTask, WorkerRecord, id_of,
};
use celeriac_actors::producer::{EnqueueOptions, Prepared, TaskHandle};
use celeriac_actors::state::TaskState;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long anything may take on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory, a client of it, and the daemons that work on it.
pub(crate) struct Ground {
    pub(crate) client: Client,
    directory: TempDir,
    config: String,
}

impl Ground {
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// Opens a ground whose daemons have this configuration.
    pub(crate) fn with(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("celeriac.toml"), config).unwrap();
        Self {
            client: Client::embedded(directory.path().join("data")).unwrap(),
            directory,
            config: config.to_owned(),
        }
    }

    /// Opens a ground whose daemons share the broker at `url`.
    #[cfg(feature = "redis")]
    pub(crate) fn on_redis(url: &str, config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = format!("broker = {url:?}\n{config}");
        std::fs::write(directory.path().join("celeriac.toml"), &config).unwrap();
        Self {
            client: crate::redis_works::client(url, Duration::from_secs(20)),
            directory,
            config,
        }
    }

    /// Gives its later daemons this configuration too.
    pub(crate) fn configured(mut self, more: &str) -> Self {
        self.config.push_str(more);
        std::fs::write(self.path().join("celeriac.toml"), &self.config).unwrap();
        self
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn broker(&self) -> &Arc<dyn Broker> {
        self.client.broker()
    }

    /// Starts a daemon with the demo tasks and waits until its whole tree serves.
    pub(crate) async fn daemon(&self, args: &[&str]) -> Daemon {
        let daemon = self.launch(args, &[]);
        self.detail_where(&daemon, |detail| detail.tree.is_complete())
            .await;
        daemon
    }

    /// Starts a daemon without waiting for it.
    pub(crate) fn launch(&self, args: &[&str], environment: &[(&str, &Path)]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
        self.dress(&mut command);
        command.args(args).envs(environment.iter().copied());
        Daemon::spawn(command)
    }

    /// Starts a program of one's own as a daemon, in the ground's directory.
    pub(crate) fn launch_program(&self, program: &Path) -> Daemon {
        let mut command = Command::new(program);
        self.dress(&mut command);
        Daemon::spawn(command)
    }

    /// Starts a daemon to which a limit on the size of files is an error of writing, not a signal that kills.
    pub(crate) fn launch_ignoring_file_limits(&self) -> Daemon {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_celeriac"));
        self.dress(&mut command);
        Daemon::spawn(command)
    }

    fn dress(&self, command: &mut Command) {
        command
            .args(["run", "--demo", "--log-format", "term", "--config"])
            .arg(self.directory.path().join("celeriac.toml"))
            .current_dir(self.directory.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CELER") || name == "REDIS_URL" {
                command.env_remove(name);
            }
        }
        command
            .env_remove("NOTIFY_SOCKET")
            .env("CELERIAC_DATA_DIR", self.data());
    }

    /// Enqueues demo tasks given by their arguments.
    pub(crate) async fn enqueue(
        &self,
        task: &str,
        all: impl IntoIterator<Item = Value>,
    ) -> Vec<TaskHandle> {
        self.enqueue_to("default", task, all).await
    }

    pub(crate) async fn enqueue_to(
        &self,
        queue: &str,
        task: &str,
        all: impl IntoIterator<Item = Value>,
    ) -> Vec<TaskHandle> {
        let options = EnqueueOptions::default().queue(QueueName::new(queue).unwrap());
        self.enqueue_with(options, task, all).await
    }

    pub(crate) async fn enqueue_with(
        &self,
        options: EnqueueOptions,
        task: &str,
        all: impl IntoIterator<Item = Value>,
    ) -> Vec<TaskHandle> {
        let name = TaskName::new(task).unwrap();
        let prepare = |args: Value| {
            let options = options.clone().want_outcome();
            let args = encode_value(&args).unwrap();
            let producer = self.client.producer();
            producer
                .prepare_encoded(&name, "default", &args, options)
                .unwrap()
        };
        let prepared: Vec<Prepared> = all.into_iter().map(prepare).collect();
        let handles = prepared.iter().map(|task| task.handle.clone()).collect();
        self.client.producer().add(prepared).await.unwrap();
        handles
    }

    /// Waits until these tasks have ended; returns how, in their order.
    pub(crate) async fn ends(&self, handles: &[TaskHandle]) -> Vec<FinalRecord> {
        let mut ends = Vec::new();
        for handle in handles {
            match self.client.outcome(handle, PATIENCE).await {
                Ok(end) => ends.push(end),
                Err(error) => panic!("{error}; {:#?}", self.broker().queues().await),
            }
        }
        ends
    }

    /// Asserts that these tasks succeed.
    pub(crate) async fn all_succeed(&self, handles: &[TaskHandle]) {
        for end in self.ends(handles).await {
            assert_eq!(end.state, TaskState::Succeeded, "task {}", end.id);
        }
    }

    /// Waits until nothing is held and every dead task is in the store.
    pub(crate) async fn settled(&self) -> Vec<QueueStatus> {
        eventually("everything ends", async || {
            let queues = self.broker().queues().await.ok()?;
            let left = |queue: &QueueStatus| queue.held() + queue.dead_outbox;
            (queues.iter().map(left).sum::<u64>() == 0).then_some(queues)
        })
        .await
    }

    /// Returns what all queues counted, and asserts that nothing was lost or made up.
    pub(crate) async fn audit(&self) -> Counters {
        let queues = self.broker().queues().await.unwrap();
        let mut all = Counters::default();
        for queue in &queues {
            let counted = queue.counters;
            assert_eq!(counted.outstanding(), i128::from(queue.held()), "{queue:?}");
            all.enqueued += counted.enqueued;
            all.succeeded += counted.succeeded;
            all.dead += counted.dead;
            all.rescued += counted.rescued;
            all.released += counted.released;
            all.retried += counted.retried;
            all.stale += counted.stale;
        }
        all
    }

    /// Waits for the record of a daemon.
    pub(crate) async fn record(&self, daemon: &Daemon) -> WorkerRecord {
        let what = format!("process {} tells of itself", daemon.pid());
        eventually(&what, async || {
            let workers = self.broker().workers().await.ok()?;
            workers
                .into_iter()
                .find(|worker| worker.pid == daemon.pid())
        })
        .await
    }

    /// Waits until a daemon's record is as asked for.
    pub(crate) async fn detail_where(
        &self,
        daemon: &Daemon,
        test: impl Fn(&WorkerDetail) -> bool,
    ) -> WorkerDetail {
        eventually("the worker's record is as it must be", async || {
            let record = self.record(daemon).await;
            let detail: WorkerDetail = serde_json::from_str(&record.detail).ok()?;
            test(&detail).then_some(detail)
        })
        .await
    }

    /// Returns the tasks in flight, with the process that holds each.
    pub(crate) async fn active(&self) -> Vec<(TaskId, String)> {
        let mut active = Vec::new();
        for status in self.broker().queues().await.unwrap() {
            let request = ScanRequest {
                queue: status.queue,
                state: TaskState::Active,
                after: None,
                limit: 500,
            };
            for task in self.broker().scan(&request).await.unwrap().tasks {
                if let (Some(id), Some((worker, _))) = (id_of(&task.frame), task.holder) {
                    active.push((id, worker.to_string()));
                }
            }
        }
        active
    }

    /// Returns the headers of a queue's tasks that may be fetched, in their order.
    pub(crate) async fn ready(&self, queue: &str) -> Vec<Header> {
        let request = ScanRequest {
            queue: QueueName::new(queue).unwrap(),
            state: TaskState::Ready,
            after: None,
            limit: 500,
        };
        let page = self.broker().scan(&request).await.unwrap();
        let header = |task: &StoredTask| Header::read(&task.frame).unwrap();
        page.tasks.iter().map(header).collect()
    }

    /// Waits until a daemon tells that so many attempts run.
    pub(crate) async fn running(&self, daemon: &Daemon, count: usize) {
        let running = |detail: &WorkerDetail| {
            let lanes = detail.lanes.iter();
            lanes.map(|lane| lane.running_total).sum::<usize>() == count
        };
        self.detail_where(daemon, running).await;
    }

    /// Waits until a daemon holds at least so many tasks; returns them.
    pub(crate) async fn holding(&self, daemon: &Daemon, count: usize) -> Vec<TaskId> {
        let worker = self.record(daemon).await.worker.to_string();
        eventually("the daemon holds tasks", async || {
            let active = self.active().await.into_iter();
            let held: Vec<TaskId> = active
                .filter(|(_, by)| *by == worker)
                .map(|(id, _)| id)
                .collect();
            (held.len() >= count).then_some(held)
        })
        .await
    }

    /// Waits until so many dead letters are stored; returns them.
    pub(crate) async fn letters(&self, count: usize) -> Vec<DeadLetter> {
        let url = StoreUrl::file(self.data().join("store.db"));
        let store = Store::open(&url, StoreOptions::default()).unwrap();
        eventually("the dead letters are stored", async || {
            let page = store.list(&DeadFilter::default(), None, 1_000).await.ok()?;
            (page.letters.len() >= count).then_some(page.letters)
        })
        .await
    }
}

impl Ground {
    /// Freezes a daemon on the embedded broker, but not in the midst of a write: then nobody else could write any more.
    pub(crate) async fn freeze(&self, daemon: &Daemon) {
        use diesel::Connection as _;
        use diesel::connection::SimpleConnection as _;

        let path = self.data().join("broker.db");
        eventually("the daemon is frozen between two writes", async || {
            daemon.signal(Signal::STOP);
            let mut other = diesel::SqliteConnection::establish(path.to_str()?).ok()?;
            other.batch_execute("PRAGMA busy_timeout = 1000").ok()?;
            let is_free = other.batch_execute("BEGIN IMMEDIATE; ROLLBACK").is_ok();
            if !is_free {
                daemon.signal(Signal::CONT);
            }
            is_free.then_some(())
        })
        .await;
    }
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ground({:?}, {:?})", self.data(), self.config)
    }
}

/// Looks until there is something, for at most [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// As [`eventually`], for what comes once a minute.
pub(crate) async fn eventually_slowly<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(3 * PATIENCE, what, look).await
}

async fn within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < patience, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One daemon.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it without a word and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the daemon ends", async || self.child.try_wait().unwrap()).await
    }

    /// Waits for its end; returns its exit code.
    pub(crate) async fn code(&mut self) -> i32 {
        let status = self.ended().await;
        status
            .code()
            .unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()))
    }

    /// Waits until it has logged a line with this text.
    pub(crate) async fn logs(&self, text: &str) -> String {
        eventually(&format!("the daemon logs {text:?}"), async || {
            let log = self.log.lock().unwrap();
            log.iter().find(|line| line.contains(text)).cloned()
        })
        .await
    }
}

impl Daemon {
    /// Returns the lines with this text that it has logged so far.
    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|line| line.contains(text))
            .cloned()
            .collect()
    }
}

impl Drop for Daemon {
    #[expect(
        clippy::print_stdout,
        reason = "the test harness shows it when the test fails"
    )]
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            println!("log of process {}:\n{}", self.pid(), log.join("\n"));
        }
    }
}
