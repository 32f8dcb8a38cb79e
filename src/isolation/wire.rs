//! What worker and child say to each other: frames of a length, a tag and a body, on a socket between them.
//!
//! Both run the same program, so the form has no versions. Lengths are bounded by what a frame of a task, a result or a
//! batch of follow-up tasks may be; a longer one is damage and ends the connection.

use std::time::Duration;

use celeriac_actors::frame::{FrameLimits, decode_value, encode_value};
use celeriac_actors::ids::{ChannelId, QueueName, TaskId, WorkerId};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::policy::ResultLimits;
use celeriac_actors::ports::{BrokerError, EnqueueCall, EnqueueKind, NewTask, When};
use celeriac_actors::route::Route;
use celeriac_actors::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::adding::{Adding, Refusal};

/// Length and tag.
pub(super) const HEAD: usize = 5;

/// The longest body.
pub(super) const MAX_BODY: usize = 1 << 30;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    /// To the child, once: who it is.
    Hello = 1,
    /// To the child: an attempt.
    Order = 2,
    /// To the child: its attempt is to stop.
    Cancel = 3,
    /// To the child: what the broker said.
    Reply = 4,
    /// To the worker: how the attempt ended.
    Report = 5,
    /// To the worker: a log line.
    Log = 6,
    /// To the worker: a question for the broker.
    Call = 7,
    /// To the worker, once: the program's tasks are made. What ends the child from here on is the attempt's own doing.
    Begun = 8,
    /// To the worker: how far the attempt has come.
    Progress = 9,
}

impl Tag {
    const ALL: [Self; 9] = [
        Self::Hello,
        Self::Order,
        Self::Cancel,
        Self::Reply,
        Self::Report,
        Self::Log,
        Self::Call,
        Self::Begun,
        Self::Progress,
    ];

    /// Returns the tag of that number.
    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tag| *tag as u8 == number)
    }
}

/// Puts length and tag before a body.
pub(super) fn frame(tag: Tag, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + body.len());
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.push(tag as u8);
    out.extend_from_slice(body);
    out
}

/// Encodes a value as the body of a frame.
pub(super) fn frame_of(tag: Tag, value: &impl Serialize) -> Vec<u8> {
    let body = encode_value(value).expect("plain data of ours can be written");
    frame(tag, &body)
}

/// Decodes the body of a frame.
pub(super) fn value_of<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    decode_value(body, &FrameLimits::default()).ok()
}

/// A tag and a body.
pub(super) type Frame = (Tag, Vec<u8>);

/// The connection carries something that is no frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// Who a child is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) worker: WorkerId,
    /// The bounds of frames: stored, decompressed, deep.
    pub(super) frames: (usize, usize, usize),
    /// How long results are kept, in milliseconds, and how large they may be.
    pub(super) results: (u64, usize),
    /// Patterns of tasks and their queues.
    pub(super) routes: Vec<(String, String)>,
    pub(super) blocking_threads: usize,
    /// The least severe level that is logged, by number.
    pub(super) level: usize,
    pub(super) nice: u8,
    pub(super) memory_limit: Option<u64>,
    pub(super) demo: bool,
}

impl Hello {
    pub(super) fn limits(&self) -> FrameLimits {
        let (max_frame, max_body, max_depth) = self.frames;
        FrameLimits {
            max_frame,
            max_body,
            max_depth,
        }
    }

    pub(super) fn result_limits(&self) -> ResultLimits {
        let (ttl, max_size) = self.results;
        ResultLimits {
            ttl: Duration::from_millis(ttl),
            max_size,
        }
    }

    pub(super) fn routes(&self) -> Vec<Route> {
        let routes = self.routes.iter();
        routes
            .map(|(task, queue)| Route::new(task, queue))
            .collect()
    }
}

/// A log line of a child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    /// The level, by number.
    pub(super) level: usize,
    pub(super) message: String,
    /// What else it says, as `key=value`.
    pub(super) fields: String,
}

/// A question of a child for the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// A call of a producer once more, whose outcome was left open.
    Enqueue(Box<Batch>),
    Add(Adding),
    Shared(String),
    Share {
        key: String,
        expected: u64,
        value: Vec<u8>,
        ttl_ms: u64,
    },
    Result(QueueName, TaskId),
}

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    At(Timestamp),
    /// How many the broker and the spool took.
    Added(usize, usize),
    NotAdded(Refusal),
    Shared(Option<(u64, Vec<u8>)>),
    Version(Option<u64>),
    Result(Option<FinalRecord>),
    Failed(Fault),
}

/// A failure of the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Fault {
    Gone,
    Unavailable(String),
    Away(String),
    Refused(String),
    Invalid(String),
    Schema(String),
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Gone => Self::Gone,
            BrokerError::Unavailable(why) => Self::Unavailable(why),
            BrokerError::Away(why) => Self::Away(why),
            BrokerError::Refused(why) => Self::Refused(why),
            BrokerError::Schema(why) => Self::Schema(why),
            BrokerError::Invalid(why) => Self::Invalid(why),
            other => Self::Invalid(other.to_string()),
        }
    }
}

impl From<Fault> for BrokerError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::Gone,
            Fault::Unavailable(why) => Self::Unavailable(why),
            Fault::Away(why) => Self::Away(why),
            Fault::Refused(why) => Self::Refused(why),
            Fault::Invalid(why) => Self::Invalid(why),
            Fault::Schema(why) => Self::Schema(why),
        }
    }
}

/// A numbered call of a child's producer, to be made as it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Batch {
    queue: QueueName,
    channel: ChannelId,
    number: u64,
    tasks: Vec<(Vec<u8>, Option<Due>)>,
    revival: bool,
    remember_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Due {
    After(u64),
    At(Timestamp),
}

impl Due {
    pub(super) fn of(when: When) -> Option<Self> {
        match when {
            When::Now => None,
            When::After(delay) => Some(Self::After(celeriac_actors::time::millis(delay))),
            When::At(at) => Some(Self::At(at)),
        }
    }

    pub(super) const fn when(due: Option<Self>) -> When {
        match due {
            None => When::Now,
            Some(Self::After(ms)) => When::After(Duration::from_millis(ms)),
            Some(Self::At(at)) => When::At(at),
        }
    }
}

impl From<&EnqueueCall> for Batch {
    fn from(call: &EnqueueCall) -> Self {
        let tasks = call.tasks.iter();
        Self {
            queue: call.queue.clone(),
            channel: call.channel,
            number: call.number,
            tasks: tasks
                .map(|task| (task.frame.clone(), Due::of(task.when)))
                .collect(),
            revival: call.kind == EnqueueKind::Revival,
            remember_ms: celeriac_actors::time::millis(call.remember),
        }
    }
}

impl From<Batch> for EnqueueCall {
    fn from(batch: Batch) -> Self {
        let tasks = batch.tasks.into_iter();
        Self {
            queue: batch.queue,
            channel: batch.channel,
            number: batch.number,
            tasks: tasks
                .map(|(frame, due)| NewTask {
                    frame,
                    when: Due::when(due),
                })
                .collect(),
            kind: if batch.revival {
                EnqueueKind::Revival
            } else {
                EnqueueKind::New
            },
            remember: Duration::from_millis(batch.remember_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_a_producer_arrives_as_it_was() {
        let call = EnqueueCall {
            queue: "default".parse().unwrap(),
            channel: ChannelId::random(),
            number: 7,
            tasks: [When::Now, When::After(Duration::from_secs(1))]
                .map(|when| NewTask {
                    frame: vec![1, 200],
                    when,
                })
                .into(),
            kind: EnqueueKind::New,
            remember: Duration::from_secs(9),
        };
        let question = Question::Enqueue(Box::new(Batch::from(&call)));
        let bytes = frame_of(Tag::Call, &question);
        let Some(Question::Enqueue(batch)) = value_of(&bytes[HEAD..]) else {
            panic!()
        };
        assert_eq!(EnqueueCall::from(*batch), call);
    }
}
