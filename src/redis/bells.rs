//! Bells: one task per slot that blocks on the wake lists of the queues somebody waits for, and hands tokens to them.
//!
//! A token taken for a queue that nobody waits for any more is handed back after a moment: its tasks may be another
//! process's to run. Revocations come over the [hub](super::hub) and reach all who wait.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use celeriac_actors::backoff::Backoff;
use celeriac_actors::ids::QueueName;
use celeriac_actors::ports::{BrokerError, Wake};
use redis::{Cmd, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::board::Board;
use super::decode;
use super::keys::{Keys, slot};
use super::link::{Dedicated, Links, Slot};
use super::script::RING;

/// How long one blocking call waits: whoever waits longer calls again.
const BLOCK: Duration = Duration::from_secs(5);
/// How much later than asked a blocking call may be answered before its connection counts as dead.
const LATE: Duration = Duration::from_secs(3);
/// How long to leave the next token to others after one that somebody who fetched left behind: he is at it already.
const LEAVE: Duration = Duration::from_millis(1);
/// How long a token waits for somebody who waits for its queue, before it is handed back.
const HOLD: Duration = Duration::from_millis(5);

/// What listens for tokens.
pub(super) struct Listener {
    pub(super) board: Weak<Board>,
    pub(super) links: Arc<Links>,
    pub(super) keys: Keys,
}

impl Listener {
    /// Listens until the board is gone.
    pub(super) async fn run(self) {
        let lines = Arc::new(Mutex::new(HashMap::new()));
        let handing_back = HandingBack {
            board: Weak::clone(&self.board),
            links: Arc::clone(&self.links),
            keys: self.keys.clone(),
            lines: Arc::clone(&lines),
        };
        drop(tokio::spawn(handing_back.run()));
        loop {
            let Some(board) = self.board.upgrade() else {
                return;
            };
            let mut groups: HashMap<Slot, BTreeSet<QueueName>> = HashMap::new();
            for queue in board.wanted() {
                let group = self.links.group(slot(&self.keys.root(&queue)));
                groups.entry(group).or_default().insert(queue);
            }
            for (slot, queues) in groups {
                let line = Arc::clone(lock(&lines).entry(slot).or_insert_with(|| self.line(slot)));
                line.want(queues, &self.links).await;
            }
            // Whoever begins to wait later leaves a permit.
            drop(timeout(BLOCK, board.wanted.notified()).await);
        }
    }

    /// Makes a line and has it listened to.
    fn line(&self, slot: Slot) -> Arc<Line> {
        let line = Arc::new(Line::new(slot));
        let ear = Ear {
            board: Weak::clone(&self.board),
            links: Arc::clone(&self.links),
            keys: self.keys.clone(),
            line: Arc::clone(&line),
        };
        drop(tokio::spawn(ear.run()));
        line
    }
}

type Lines = Mutex<HashMap<Slot, Arc<Line>>>;

fn lock(lines: &Lines) -> MutexGuard<'_, HashMap<Slot, Arc<Line>>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands tokens back that nobody waits for.
struct HandingBack {
    board: Weak<Board>,
    links: Arc<Links>,
    keys: Keys,
    lines: Arc<Lines>,
}

impl HandingBack {
    async fn run(self) {
        while let Some(board) = self.board.upgrade() {
            if timeout(BLOCK, board.abandoned.notified()).await.is_err() {
                continue;
            }
            sleep(HOLD).await;
            let withdrawn = board.withdraw();
            for line in lock(&self.lines).values() {
                board.forget_the_unwanted(&mut line.lock().wanted);
            }
            for queue in withdrawn {
                let root = self.keys.root(&queue);
                // Lost, it costs others the time until they look by themselves.
                drop(self.links.run(slot(&root), &RING, &RING.call(&root)).await);
            }
        }
    }
}

/// What one connection listens to.
struct Line {
    slot: Slot,
    state: Mutex<Heard>,
    changed: Notify,
}

#[derive(Default)]
struct Heard {
    wanted: BTreeSet<QueueName>,
    /// The queues of the blocking call that is under way, and whose connection to unblock.
    blocked: Option<(BTreeSet<QueueName>, i64)>,
    turn: usize,
}

impl Line {
    fn new(slot: Slot) -> Self {
        Self {
            slot,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the queues listened for; a call under way that leaves one out is ended.
    async fn want(&self, queues: BTreeSet<QueueName>, links: &Links) {
        loop {
            let id = {
                let mut state = self.lock();
                state.wanted.clone_from(&queues);
                match &state.blocked {
                    Some((heard, id)) if !queues.is_subset(heard) => *id,
                    _ => break,
                }
            };
            let mut command = redis::cmd("CLIENT");
            command.arg("UNBLOCK").arg(id);
            // It may not have begun to block yet: until it has ended, it is told again.
            if links.query(self.slot, &command).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.changed.notify_one();
    }
}

/// Listens on one connection.
struct Ear {
    board: Weak<Board>,
    links: Arc<Links>,
    keys: Keys,
    line: Arc<Line>,
}

impl Ear {
    async fn run(self) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0;
        while self.board.strong_count() > 0 {
            let began = Instant::now();
            let failed = match self.links.dedicated(self.line.slot).await {
                Ok(dedicated) => self.listen(dedicated).await,
                Err(error) => Some(error),
            };
            self.line.lock().blocked = None;
            let (Some(error), Some(board)) = (failed, self.board.upgrade()) else {
                return;
            };
            board.fail(&error);
            drop(board);
            failures = if began.elapsed() > BLOCK {
                1
            } else {
                failures + 1
            };
            let delay = backoff.delay(failures, &mut rand::rng());
            sleep(delay).await;
        }
    }

    /// Listens until the connection fails; `None` when nobody can wait any more.
    async fn listen(&self, mut dedicated: Dedicated) -> Option<BrokerError> {
        loop {
            if self.board.strong_count() == 0 {
                return None;
            }
            let Some((command, queues)) = self.next_call(dedicated.id) else {
                // Nobody waits: sleep until somebody does, or the board is gone.
                drop(timeout(BLOCK, self.line.changed.notified()).await);
                continue;
            };
            let answer = dedicated.connection.send_packed_command(&command);
            let answer = timeout(BLOCK + LATE, answer).await;
            self.line.lock().blocked = None;
            match answer {
                Ok(Ok(Value::Nil)) => self.forget_the_unwanted(),
                Ok(Ok(Value::ServerError(error))) => {
                    return Some(self.links.report(self.line.slot, &error.into()));
                }
                Ok(Ok(value)) => match self.heard(&queues, value) {
                    Ok(is_more) => {
                        if is_more {
                            sleep(LEAVE).await;
                        }
                    }
                    Err(error) => return Some(error),
                },
                Ok(Err(error)) => return Some(self.links.report(self.line.slot, &error)),
                Err(_) => {
                    let late = "a blocking call was not answered in time";
                    return Some(BrokerError::Unavailable(late.to_owned()));
                }
            }
        }
    }

    fn forget_the_unwanted(&self) {
        if let Some(board) = self.board.upgrade() {
            board.forget_the_unwanted(&mut self.line.lock().wanted);
        }
    }

    /// Returns the next blocking call, each time with another queue first, so that none is heard before all others.
    fn next_call(&self, id: i64) -> Option<(Cmd, BTreeSet<QueueName>)> {
        let mut state = self.line.lock();
        if state.wanted.is_empty() {
            return None;
        }
        state.blocked = Some((state.wanted.clone(), id));
        state.turn = (state.turn + 1) % state.wanted.len();
        let mut command = redis::cmd("BLPOP");
        let turned = state.wanted.iter().cycle().skip(state.turn);
        for queue in turned.take(state.wanted.len()) {
            for bell in ["wake", "due", "bell"] {
                command.arg(self.keys.of(queue, bell));
            }
        }
        command.arg(BLOCK.as_secs());
        Some((command, state.wanted.clone()))
    }

    /// Posts a token. Returns whether somebody who fetched left it behind.
    fn heard(&self, queues: &BTreeSet<QueueName>, value: Value) -> Result<bool, BrokerError> {
        let mut parts = decode::Parts::of(value)?;
        let key = parts.text()?;
        let is_more = parts.bytes()? == b"m";
        let wake = queues.iter().find_map(|queue| {
            Some(match key.strip_prefix(&self.keys.root(queue))? {
                "wake" => Wake::Ready(queue.clone()),
                "due" => Wake::Due(queue.clone()),
                _ => Wake::Dead,
            })
        });
        let wake = wake.ok_or_else(|| decode::strange(&format!("nobody listens to {key}")))?;
        if let Some(board) = self.board.upgrade() {
            board.post(wake);
        }
        Ok(is_more)
    }
}
