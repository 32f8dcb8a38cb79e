//! One attempt in a child, from the worker's side.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use async_trait::async_trait;
use celeriac_actors::isolated::{IsolatedAttempt, Report};
use celeriac_actors::ports::{
    ChildStatus, Death, EnqueueCall, IsolatedEnd, Isolation, KILL_GRACE, SharedValue, Stop,
};
use celeriac_actors::producer::Producer;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::process::Signal;
use slog::Level;
use tokio::net::UnixStream;

use super::nursery::{Loan, Nestling, Nursery};
use super::wire::{Answer, Inbox, Line, Question, Tag, frame, frame_of, value_of};
use crate::exits;

/// How much is read at once.
const CHUNK: usize = 16 << 10;

/// What a child with its attempt did.
enum Told {
    /// Its attempt has ended.
    Report(Report),
    /// It is gone, or says what nobody understands.
    Gone,
}

/// An attempt in a child.
struct Visit<'a> {
    attempt: &'a IsolatedAttempt,
    nestling: &'a Nestling,
    socket: &'a UnixStream,
    inbox: Inbox,
    /// What the broker was asked and has not said yet.
    calls: FuturesUnordered<BoxFuture<'static, Vec<u8>>>,
}

#[async_trait]
impl Isolation for Nursery {
    async fn run(&self, attempt: IsolatedAttempt) -> IsolatedEnd {
        let lent = tokio::select! {
            biased;
            _why = attempt.stopped() => return IsolatedEnd::Withdrawn,
            lent = self.shared.lend(attempt.wants_new_child()) => lent,
        };
        match lent {
            Ok(loan) => self.run_in(&attempt, loan).await,
            Err(why) => {
                slog::warn!(attempt.log(), "no child process can be had"; "error" => &why);
                IsolatedEnd::Unavailable(why)
            }
        }
    }

    fn children(&self) -> Vec<ChildStatus> {
        self.statuses()
    }

    async fn close(&self) {
        self.close_all().await;
    }
}

impl Nursery {
    async fn run_in(&self, attempt: &IsolatedAttempt, mut loan: Loan) -> IsolatedEnd {
        let Some(child) = loan.take_socket() else {
            return IsolatedEnd::Unavailable("the child is gone".to_owned());
        };
        let nestling = loan.nestling();
        let socket = match UnixStream::from_std(child) {
            Ok(socket) => socket,
            Err(error) => return IsolatedEnd::Unavailable(error.to_string()),
        };
        if !attempt.begin() {
            loan.return_unused(socket.into_std());
            return IsolatedEnd::Withdrawn;
        }
        attempt.runs_in(Arc::clone(&nestling) as _);
        nestling.begin(attempt.task(), attempt.id());
        nestling.output.begin(attempt.log());
        let visit = Visit {
            attempt,
            nestling: &nestling,
            socket: &socket,
            inbox: Inbox::default(),
            calls: FuturesUnordered::new(),
        };
        let told = visit.last().await;
        // From here on the child is not the attempt's: it may be somebody else's next.
        let killed = attempt.leaves_process();
        match told {
            Told::Report(report) => {
                nestling.output.finish();
                if !killed {
                    loan.give_back(socket.into_std());
                }
                IsolatedEnd::Reported(report)
            }
            Told::Gone => {
                let ending = loan.end().await;
                if ending.never_began() && nestling.is_new() {
                    let lines = nestling.output.finish().join("; ");
                    return IsolatedEnd::Unavailable(lines);
                }
                if ending.status.is_some_and(exits::was_told_to_end) {
                    // Perhaps the worker was told as well, and hears of it just now.
                    let _either = tokio::time::timeout(exits::HEARSAY, attempt.stopped()).await;
                }
                let on_purpose = attempt.stopped().now_or_never().is_some();
                IsolatedEnd::Died(Death {
                    status: if on_purpose {
                        ending.plain()
                    } else {
                        ending.to_string()
                    },
                    peak_memory: ending.peak_memory,
                    host: self.shared.host.clone(),
                    pid: nestling.pid,
                    last_lines: nestling.output.finish(),
                    was_alone: nestling.is_new(),
                })
            }
        }
    }
}

impl Visit<'_> {
    /// Lasts until the child has told how the attempt ended, or is to be killed or dead.
    async fn last(mut self) -> Told {
        let order = frame(Tag::Order, &self.attempt.order());
        let (attempt, nestling) = (self.attempt, self.nestling);
        let talk = async move {
            if send(self.socket, &order).await.is_err() {
                return Told::Gone;
            }
            self.talk().await
        };
        let mut talk = std::pin::pin!(talk);
        let stop = tokio::select! {
            biased;
            told = &mut talk => return told,
            stop = attempt.stopped() => stop,
        };
        if stop == Stop::HardLimit {
            nestling.signal(Signal::TERM);
            // It may have a moment: its last lines are worth having.
            if let Ok(told) = tokio::time::timeout(KILL_GRACE, &mut talk).await {
                return told;
            }
        }
        Told::Gone
    }
}

/// Says whether there is something to wait for.
enum Heard {
    Frame(Tag, Vec<u8>),
    Answered(Vec<u8>),
    Cancelled,
    Gone,
}

impl Visit<'_> {
    async fn talk(&mut self) -> Told {
        let mut asked_to_stop = false;
        loop {
            let Self {
                inbox,
                socket,
                calls,
                attempt,
                ..
            } = self;
            let heard = tokio::select! {
                biased;
                heard = receive(socket, inbox) => heard,
                Some(answer) = calls.next(), if !calls.is_empty() => Heard::Answered(answer),
                () = attempt.cancelled(), if !asked_to_stop => Heard::Cancelled,
            };
            let reply = match heard {
                Heard::Frame(Tag::Report, body) => {
                    return Report::decode(&body).map_or(Told::Gone, Told::Report);
                }
                Heard::Frame(Tag::Log, body) => {
                    self.log(&body);
                    continue;
                }
                Heard::Frame(Tag::Call, body) => {
                    let producer = self.attempt.producer().clone();
                    self.calls.push(Box::pin(answer(producer, body)));
                    continue;
                }
                Heard::Answered(reply) => reply,
                Heard::Cancelled => {
                    asked_to_stop = true;
                    frame(Tag::Cancel, &[])
                }
                Heard::Frame(..) | Heard::Gone => return Told::Gone,
            };
            if send(self.socket, &reply).await.is_err() {
                return Told::Gone;
            }
        }
    }

    /// Logs a line of the attempt as it was logged in the child.
    fn log(&self, body: &[u8]) {
        let Some(line) = value_of::<Line>(body) else {
            return;
        };
        if self.nestling.output.allows_a_line() {
            let level = Level::from_usize(line.level).unwrap_or(Level::Info);
            let log = self.attempt.log();
            let fields = Some(line.fields).filter(|fields| !fields.is_empty());
            match level {
                Level::Critical => slog::crit!(log, "{}", line.message; "fields" => fields),
                Level::Error => slog::error!(log, "{}", line.message; "fields" => fields),
                Level::Warning => slog::warn!(log, "{}", line.message; "fields" => fields),
                Level::Info => slog::info!(log, "{}", line.message; "fields" => fields),
                Level::Debug => slog::debug!(log, "{}", line.message; "fields" => fields),
                Level::Trace => slog::trace!(log, "{}", line.message; "fields" => fields),
            }
        }
    }
}

/// Waits for the next frame. Cancel-safe: what was read stays in the inbox.
async fn receive(socket: &UnixStream, inbox: &mut Inbox) -> Heard {
    let mut buffer = [0; CHUNK];
    loop {
        match inbox.next() {
            Ok(Some((tag, body))) => return Heard::Frame(tag, body),
            Ok(None) => {}
            Err(_) => return Heard::Gone,
        }
        match socket.try_read(&mut buffer) {
            Ok(0) => return Heard::Gone,
            Ok(count) => inbox.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if socket.readable().await.is_err() {
                    return Heard::Gone;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Heard::Gone,
        }
    }
}

async fn send(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Asks the broker what a child wants to know, and adds its tasks; returns what the child is told.
async fn answer(producer: Producer, body: Vec<u8>) -> Vec<u8> {
    let broker = producer.broker();
    let Some((number, question)) = value_of::<(u64, Question)>(&body) else {
        return Vec::new();
    };
    let said = match question {
        Question::Enqueue(batch) => {
            let call = Arc::new(EnqueueCall::from(*batch));
            broker.enqueue(call).await.map(Answer::At)
        }
        Question::Add(adding) => Ok(match adding.carry_out(&producer).await {
            Ok((accepted, spooled)) => Answer::Added(accepted, spooled),
            Err(refusal) => Answer::NotAdded(refusal),
        }),
        Question::Shared(key) => {
            let pair = |value: SharedValue| (value.version, value.value);
            let read = broker.shared(&key).await;
            read.map(|value| Answer::Shared(value.map(pair)))
        }
        Question::Share {
            key,
            expected,
            value,
            ttl_ms,
        } => {
            let ttl = std::time::Duration::from_millis(ttl_ms);
            let written = broker.share(&key, expected, &value, ttl).await;
            written.map(Answer::Version)
        }
        Question::Result(queue, task) => broker.result(&queue, task).await.map(Answer::Result),
    };
    let said = said.unwrap_or_else(|error| Answer::Failed(error.into()));
    frame_of(Tag::Reply, &(number, said))
}

impl Loan {
    /// Takes the socket to talk to the child; the child stays on loan.
    fn take_socket(&mut self) -> Option<StdStream> {
        self.socket.take()
    }
}
