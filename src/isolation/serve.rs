//! One attempt in a child, from the worker's side.

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
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::loan::Loan;
use super::nestling::Nestling;
use super::nursery::Nursery;
use super::wire::{Answer, Line, Question, Tag, frame, frame_of, value_of};
use crate::exits;

/// After how many frames a child that always has one ready lets others have the thread.
const TURN: u32 = 32;

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
    connection: &'a mut Connection,
    /// What the broker was asked and has not said yet.
    calls: FuturesUnordered<BoxFuture<'static, Vec<u8>>>,
}

#[async_trait]
impl Isolation for Nursery {
    fn places(&self) -> Option<Arc<Semaphore>> {
        Some(Arc::clone(&self.shared.places))
    }

    async fn run(&self, mut attempt: IsolatedAttempt) -> IsolatedEnd {
        let place = attempt.take_place();
        let lent = tokio::select! {
            biased;
            _why = attempt.stopped() => return IsolatedEnd::Withdrawn,
            lent = self.shared.lend(attempt.wants_new_child(), place) => lent,
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
        let mut connection = match Connection::new(child) {
            Ok(connection) => connection,
            Err(error) => return IsolatedEnd::Unavailable(error.to_string()),
        };
        if !attempt.begin() {
            loan.return_unused(connection.into_idle());
            return IsolatedEnd::Withdrawn;
        }
        attempt.runs_in(Arc::clone(&nestling) as _);
        nestling.begin(attempt.task(), attempt.id());
        nestling.output.begin(attempt.log());
        let visit = Visit {
            attempt,
            nestling: &nestling,
            connection: &mut connection,
            calls: FuturesUnordered::new(),
        };
        let told = visit.last().await;
        // From here on the child is not the attempt's: it may be somebody else's next.
        let killed = attempt.leaves_process();
        match told {
            Told::Report(report) => {
                nestling.output.finish();
                if !killed {
                    loan.give_back(connection.into_idle());
                }
                IsolatedEnd::Reported(report)
            }
            Told::Gone => {
                let ending = loan.end().await;
                if ending.never_began() && !nestling.has_begun() {
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
        let (attempt, nestling) = (self.attempt, self.nestling);
        self.connection.send(frame(Tag::Order, &attempt.order()));
        let talk = async move { self.talk().await };
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

/// What there is to do next.
enum Heard {
    Frame(Tag, Vec<u8>),
    Answered(Vec<u8>),
    Cancelled,
    Gone,
}

impl Visit<'_> {
    async fn talk(&mut self) -> Told {
        let mut asked_to_stop = false;
        let mut frames: u32 = 0;
        loop {
            let Self {
                connection,
                calls,
                attempt,
                ..
            } = self;
            let heard = tokio::select! {
                biased;
                Some(answer) = calls.next(), if !calls.is_empty() => Heard::Answered(answer),
                () = attempt.cancelled(), if !asked_to_stop => Heard::Cancelled,
                frame = connection.next() => {
                    frame.map_or(Heard::Gone, |(tag, body)| Heard::Frame(tag, body))
                }
            };
            match heard {
                Heard::Frame(Tag::Report, body) => {
                    return Report::decode(&body).map_or(Told::Gone, Told::Report);
                }
                Heard::Frame(Tag::Begun, _) => self.nestling.set_begun(),
                Heard::Frame(Tag::Log, body) => self.log(&body),
                Heard::Frame(Tag::Progress, body) => {
                    if let Some(progress) = value_of(&body) {
                        self.attempt.progressed(progress);
                    }
                }
                Heard::Frame(Tag::Call, body) => {
                    let producer = self.attempt.producer().clone();
                    self.calls.push(Box::pin(answer(producer, body)));
                }
                Heard::Answered(reply) => self.connection.send(reply),
                Heard::Cancelled => {
                    asked_to_stop = true;
                    self.connection.send(frame(Tag::Cancel, &[]));
                }
                Heard::Frame(..) | Heard::Gone => return Told::Gone,
            }
            frames = frames.wrapping_add(1);
            if frames.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
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
