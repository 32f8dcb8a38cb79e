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
use futures_util::future::join_all;
use redis::{Cmd, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::board::Board;
use super::decode;
use super::keys::{Keys, slot};
use super::link::{Dedicated, Links, Slot};
use super::script::RING;

/// How long one blocking call waits: whoever waits longer calls again.
const BLOCK: Duration = Duration::from_secs(5);
/// How much later than asked a blocking call may be answered before its connection counts as dead.
const LATE: Duration = Duration::from_secs(3);
/// How often it looks whether another server has the slot.
const LOOK: Duration = Duration::from_secs(1);
/// How long to leave the next token to others after one that somebody who fetched left behind: he is at it already.
const LEAVE: Duration = Duration::from_millis(1);
/// The same after one of several tokens of a burst: until all who were woken with this one have fetched.
const LEAVE_BURST: Duration = Duration::from_millis(4);
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
                line.want(queues);
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
            // All at once: a server that is away holds up none of the others.
            let rung = withdrawn.iter().map(async |queue| {
                let root = self.keys.root(queue);
                // Lost, it costs others the time until they look by themselves.
                drop(self.links.run(slot(&root), &RING, &RING.call(&root)).await);
            });
            drop(join_all(rung).await);
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

    /// Has the queues listened for; a call under way that leaves one out is ended by whoever made it.
    fn want(&self, queues: BTreeSet<QueueName>) {
        self.lock().wanted = queues;
        self.changed.notify_one();
    }

    /// Returns whether a queue is wanted that is not among these.
    fn wants_more_than(&self, queues: &BTreeSet<QueueName>) -> bool {
        !self.lock().wanted.is_subset(queues)
    }
}

/// Listens on one connection.
struct Ear {
    board: Weak<Board>,
    links: Arc<Links>,
    keys: Keys,
    line: Arc<Line>,
}

/// Why listening on a connection ended.
enum Ended {
    /// Nobody can wait any more.
    Unwanted,
    /// Another server has the slot.
    Moved,
    Failed(BrokerError),
}

impl Ear {
    async fn run(self) {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut failures = 0;
        while self.board.strong_count() > 0 {
            let began = Instant::now();
            let ended = match self.links.dedicated(self.line.slot).await {
                Ok(dedicated) => self.listen(dedicated).await,
                Err(error) => Ended::Failed(error),
            };
            match (ended, self.board.upgrade()) {
                (Ended::Unwanted, _) | (_, None) => return,
                (Ended::Moved, _) => {}
                (Ended::Failed(error), Some(board)) => board.fail(&error),
            }
            failures = if began.elapsed() > BLOCK {
                1
            } else {
                failures + 1
            };
            let delay = backoff.delay(failures, &mut rand::rng());
            sleep(delay).await;
        }
    }

    /// Listens until the connection fails or leads to the wrong server.
    async fn listen(&self, dedicated: Dedicated) -> Ended {
        loop {
            if self.board.strong_count() == 0 {
                return Ended::Unwanted;
            }
            if self.links.has_left(self.line.slot, &dedicated.node) {
                return Ended::Moved;
            }
            let Some((command, queues)) = self.next_call() else {
                // Nobody waits: sleep until somebody does, or the board is gone.
                drop(timeout(BLOCK, self.line.changed.notified()).await);
                continue;
            };
            let heard = self.block(&dedicated, &command, &queues).await;
            match heard.and_then(|value| self.take(&queues, value)) {
                Ok(Some(leave)) => sleep(leave).await,
                Ok(None) => {}
                Err(ended) => return ended,
            }
        }
    }

    /// Blocks until the server answers; has it answer when somebody wants more, and turns away when it has lost the slot:
    /// who is cut off from the others, or succeeded, goes on answering.
    async fn block(
        &self,
        on: &Dedicated,
        command: &Cmd,
        queues: &BTreeSet<QueueName>,
    ) -> Result<Value, Ended> {
        let until = Instant::now() + BLOCK + LATE;
        let mut connection = on.connection.clone();
        let mut answer = std::pin::pin!(connection.send_packed_command(command));
        let mut pause = LOOK;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return match answer {
                    Ok(Value::ServerError(error)) => Err(self.failed(on, &error.into())),
                    Ok(value) => Ok(value),
                    Err(error) => Err(self.failed(on, &error)),
                },
                () = sleep_until(until) => {
                    let late = "a blocking call was not answered in time";
                    return Err(Ended::Failed(BrokerError::Unavailable(late.to_owned())));
                }
                () = self.line.changed.notified() => {}
                () = sleep(pause) => {}
            }
            if self.links.has_left(self.line.slot, &on.node) {
                return Err(Ended::Moved);
            }
            pause = LOOK;
            if self.line.wants_more_than(queues) {
                let mut unblock = redis::cmd("CLIENT");
                unblock.arg("UNBLOCK").arg(on.id);
                if self.links.send_to(&on.node, &unblock).await.is_ok() {
                    // It may not have begun to block yet: until it has ended, it is told again.
                    pause = Duration::from_millis(1);
                }
            }
        }
    }

    fn failed(&self, on: &Dedicated, error: &RedisError) -> Ended {
        Ended::Failed(self.links.report(self.line.slot, &on.node, error))
    }

    /// Takes what a blocking call returned. Returns how long to leave the next token to others.
    fn take(&self, queues: &BTreeSet<QueueName>, value: Value) -> Result<Option<Duration>, Ended> {
        if value == Value::Nil {
            self.forget_the_unwanted();
            return Ok(None);
        }
        self.heard(queues, value).map_err(Ended::Failed)
    }

    fn forget_the_unwanted(&self) {
        if let Some(board) = self.board.upgrade() {
            board.forget_the_unwanted(&mut self.line.lock().wanted);
        }
    }

    /// Returns the next blocking call, each time with another queue first, so that none is heard before all others.
    fn next_call(&self) -> Option<(Cmd, BTreeSet<QueueName>)> {
        let mut state = self.line.lock();
        if state.wanted.is_empty() {
            return None;
        }
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

    /// Posts a token. Returns how long to leave the next one to others.
    fn heard(
        &self,
        queues: &BTreeSet<QueueName>,
        value: Value,
    ) -> Result<Option<Duration>, BrokerError> {
        let mut parts = decode::Parts::of(value)?;
        let key = parts.text()?;
        let leave = match parts.bytes()?.as_slice() {
            b"m" => Some(LEAVE),
            b"b" => Some(LEAVE_BURST),
            _ => None,
        };
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
        Ok(leave)
    }
}
