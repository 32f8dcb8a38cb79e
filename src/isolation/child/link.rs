//! A child's connection to its worker: one ear on the thread of the attempts, one mouth for all threads.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::isolation::wire::{Answer, Inbox, Question, Tag, frame, frame_of, value_of};

/// What the worker said.
pub(super) enum Said {
    Order(Vec<u8>),
    Cancel,
    Reply(Vec<u8>),
    /// It is gone, or cannot be understood.
    Nothing,
}

/// The connection.
pub(super) struct Link {
    ear: UnixStream,
    inbox: Inbox,
    mouth: Arc<Mouth>,
    buffer: Box<[u8]>,
}

impl Link {
    /// Takes over a socket that does not block, with what was read of it.
    pub(super) fn new(socket: StdStream, inbox: Inbox) -> io::Result<Self> {
        let mouth = Mouth {
            socket: Mutex::new(socket.try_clone()?),
            has_attempt: AtomicBool::new(false),
            questions: AtomicU64::new(0),
            waiting: Mutex::default(),
        };
        Ok(Self {
            ear: UnixStream::from_std(socket)?,
            inbox,
            mouth: Arc::new(mouth),
            buffer: vec![0; 16 << 10].into_boxed_slice(),
        })
    }

    pub(super) fn mouth(&self) -> Arc<Mouth> {
        Arc::clone(&self.mouth)
    }

    /// Waits for what the worker says next. Cancel-safe.
    pub(super) async fn listen(&mut self) -> Said {
        loop {
            match self.inbox.next() {
                Ok(Some((Tag::Order, order))) => return Said::Order(order),
                Ok(Some((Tag::Cancel, _))) => return Said::Cancel,
                Ok(Some((Tag::Reply, body))) => return Said::Reply(body),
                Ok(Some(_)) | Err(_) => return Said::Nothing,
                Ok(None) => {}
            }
            match self.ear.try_read(&mut self.buffer) {
                Ok(0) => return Said::Nothing,
                Ok(count) => self.inbox.push(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.ear.readable().await.is_err() {
                        return Said::Nothing;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Said::Nothing,
            }
        }
    }
}

/// Says things to the worker, from any thread.
#[derive(Debug)]
pub(super) struct Mouth {
    socket: Mutex<StdStream>,
    /// Whether an attempt runs: the worker listens only then.
    has_attempt: AtomicBool,
    questions: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Mouth {
    pub(super) fn open(&self) {
        self.has_attempt.store(true, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.has_attempt.store(false, Ordering::Release);
        // Nobody answers what is still open.
        lock(&self.waiting).clear();
    }

    /// Tells how the attempt ended.
    pub(super) fn report(&self, report: &[u8]) -> io::Result<()> {
        self.write(&frame(Tag::Report, report))
    }

    /// Says something that needs no answer, if somebody listens.
    pub(super) fn mention(&self, tag: Tag, value: &impl Serialize) {
        if self.has_attempt.load(Ordering::Acquire) {
            // A worker that is gone ends this process soon enough.
            let _unheard = self.write(&frame_of(tag, value));
        }
    }

    /// Asks something; `None` when nobody answers.
    pub(super) async fn ask(&self, question: Question) -> Option<Answer> {
        if !self.has_attempt.load(Ordering::Acquire) {
            return None;
        }
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let (told, answer) = oneshot::channel();
        lock(&self.waiting).insert(number, told);
        self.write(&frame_of(Tag::Call, &(number, question))).ok()?;
        answer.await.ok()
    }

    /// Takes in what the worker answered.
    pub(super) fn hear(&self, body: &[u8]) {
        if let Some((number, answer)) = value_of::<(u64, Answer)>(body)
            && let Some(waiting) = lock(&self.waiting).remove(&number)
        {
            // Whoever asked may have lost interest.
            drop(waiting.send(answer));
        }
    }

    /// Writes all of it, waiting for the worker to read where the socket is full.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        use std::io::Write as _;

        let mut socket = lock(&self.socket);
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&*socket, PollFlags::OUT)], None)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
