//! A data directory, tasks that died in it, and the program run on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use celeriac::sqlite::{SqliteBroker, SqliteOptions};
use celeriac::store::{Store, StoreOptions, StoreUrl};
use celeriac_actors::envelope::Envelope;
use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::frame::{FrameLimits, encode, encode_value};
use celeriac_actors::header::{Header, Priority};
use celeriac_actors::ids::{ChannelId, IncarnationId, QueueName, TaskId, TaskName, WorkerId};
use celeriac_actors::lease::{ExchangeCall, Incarnation, Outcome, Settlement};
use celeriac_actors::ports::{Broker, EnqueueCall, EnqueueKind, NewTask, QueueStatus, When};
use celeriac_actors::state::DeadReason;
use celeriac_actors::time::Timestamp;

/// A data directory and what runs on it.
pub(crate) struct Site {
    dir: tempfile::TempDir,
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Returns standard output as one JSON value a line.
    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// Expects an exit code; shows everything when it is another one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Site {
    /// Makes an empty place; the data directory is not there yet.
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns the data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Returns the directory in which the program runs.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Prepares the program, with nothing of our own environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_celeriac"));
        command
            .env_clear()
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, line: &str) -> Ran {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        self.command(&arguments).output().unwrap().into()
    }

    /// Opens the broker as a client.
    pub(crate) fn broker(&self) -> SqliteBroker {
        SqliteBroker::open(SqliteOptions::new(self.data())).unwrap()
    }

    /// Opens the store and brings it up to date.
    pub(crate) async fn store(&self) -> Store {
        std::fs::create_dir_all(self.data()).unwrap();
        let url = StoreUrl::file(self.data().join("store.db"));
        let store = Store::open(&url, StoreOptions::default()).unwrap();
        store.migrate().await.unwrap();
        store
    }

    /// Returns what the broker says of a queue.
    pub(crate) async fn queue(&self, name: &str) -> QueueStatus {
        let queues = self.broker().queues().await.unwrap();
        queues
            .into_iter()
            .find(|q| q.queue.as_str() == name)
            .unwrap()
    }

    /// Lets tasks die in the broker; they stay in its outbox.
    pub(crate) async fn bury(&self, deaths: &[Death]) {
        let broker = self.broker();
        for death in deaths {
            death.happen(&broker).await;
        }
    }
}

/// A task that dies.
#[derive(Clone)]
pub(crate) struct Death {
    pub(crate) queue: &'static str,
    pub(crate) task: &'static str,
    pub(crate) reason: DeadReason,
    pub(crate) message: &'static str,
    /// What is buried instead of the frame.
    pub(crate) garbage: Option<Vec<u8>>,
}

impl Death {
    pub(crate) fn of(queue: &'static str, task: &'static str, reason: DeadReason) -> Self {
        Self {
            queue,
            task,
            reason,
            message: "card declined",
            garbage: None,
        }
    }

    fn frames(&self) -> (Vec<u8>, Vec<u8>) {
        let header = Header {
            compressed: false,
            want_outcome: false,
            priority: Priority::NORMAL,
            deliveries: 0,
            strikes: 0,
            attempts: 0,
            id: TaskId::fresh(),
            enqueued_at: Timestamp::from_millis(1_769_860_800_250),
            expires_at: None,
        };
        let mut envelope = Envelope::new(TaskName::new(self.task).unwrap());
        envelope.headers = BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]);
        let args = encode_value(&serde_json::json!({ "customer": 7 })).unwrap();
        let limits = FrameLimits::default();
        let fresh = encode(header, &envelope, &args, &limits).unwrap();
        let failure = Failure::new(FailureKind::Panic, self.message)
            .with_causes(["the bank said no".to_owned()])
            .with_place(
                Some("src/bill.rs:7:9".into()),
                Some("0: bill\n1: main".into()),
            )
            .of(
                1,
                "web-1:1:aa",
                header.enqueued_at,
                Duration::from_millis(40),
            );
        envelope.history.push(failure);
        let header = Header {
            attempts: 1,
            ..header
        };
        (fresh, encode(header, &envelope, &args, &limits).unwrap())
    }

    async fn happen(&self, broker: &SqliteBroker) {
        let queue = QueueName::new(self.queue).unwrap();
        let (fresh, dead) = self.frames();
        let call = EnqueueCall {
            queue: queue.clone(),
            channel: ChannelId::random(),
            number: 1,
            tasks: vec![NewTask {
                frame: fresh,
                when: When::Now,
            }],
            kind: EnqueueKind::New,
            remember: Duration::from_secs(3_600),
        };
        broker.enqueue(Arc::new(call)).await.unwrap();
        let id = IncarnationId::random();
        let incarnation = Incarnation {
            id,
            queue: queue.clone(),
            worker: WorkerId::new("web-1:1:aa").unwrap(),
            lane: 0,
            lease: Duration::from_secs(12),
        };
        broker.open(&incarnation).await.unwrap();
        let bury = Settlement {
            tag: 1,
            outcome: Outcome::Bury {
                frame: Some(self.garbage.clone().unwrap_or(dead)),
                reason: self.reason,
                note: String::new(),
                result: None,
            },
        };
        for (number, settlements, want) in [(1, Vec::new(), 1), (2, vec![bury], 0)] {
            let call = ExchangeCall {
                queue: queue.clone(),
                incarnation: id,
                number,
                settlements,
                want,
                first_tag: number,
            };
            let exchanged = broker.exchange(Arc::new(call)).await.unwrap();
            assert!(exchanged.stale.is_empty());
            assert_eq!(exchanged.deliveries.len(), want as usize);
        }
        broker.close(&queue, id).await.unwrap();
    }
}
