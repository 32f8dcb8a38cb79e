//! A child's connection to its worker: one ear on the thread of the attempts, one mouth for all threads.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

use crate::isolation::mail::{Inbox, Outbox};
use crate::isolation::wire::{Answer, Question, Tag, frame, frame_of, value_of};

/// What the worker said.
pub(super) enum Said {
    Order(Vec<u8>),
    Cancel,
    Reply(Vec<u8>),
    /// It is gone, or cannot be understood.
    Nothing,
}

/// How many bytes may wait for the worker to read them, before log lines are left out.
const MAX_UNREAD: usize = 1 << 20;

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
            words: Mutex::new(Words {
                socket: socket.try_clone()?,
                unsaid: Outbox::default(),
                has_attempt: false,
            }),
            stuck: Notify::new(),
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

    /// Waits for what the worker says next, and writes meanwhile what it could not be told at once. Cancel-safe.
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
                    if self.wait().await.is_err() {
                        return Said::Nothing;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Said::Nothing,
            }
        }
    }

    /// Waits until there is something to read; writes meanwhile.
    async fn wait(&self) -> io::Result<()> {
        loop {
            let stuck = self.mouth.stuck.notified();
            let interest = if self.mouth.go_on(&self.ear)? {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            tokio::select! {
                biased;
                ready = self.ear.ready(interest) => if ready?.is_readable() {
                    return Ok(());
                },
                () = stuck => {}
            }
        }
    }
}

/// Says things to the worker, from any thread, and never waits for the worker to read them: what the socket does not
/// take is written by whoever listens.
#[derive(Debug)]
pub(super) struct Mouth {
    words: Mutex<Words>,
    /// Told when the socket did not take everything.
    stuck: Notify,
    questions: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

#[derive(Debug)]
struct Words {
    socket: StdStream,
    unsaid: Outbox,
    /// Whether an attempt runs: the worker listens only then.
    has_attempt: bool,
}

impl Mouth {
    pub(super) fn open(&self) {
        lock(&self.words).has_attempt = true;
    }

    /// Says that the program's tasks are made.
    pub(super) fn begun(&self) -> io::Result<()> {
        self.say(lock(&self.words), frame(Tag::Begun, &[]))
    }

    /// Says how the attempt ended, and nothing behind that until the next one.
    pub(super) fn report(&self, report: &[u8]) -> io::Result<()> {
        let mut words = lock(&self.words);
        words.has_attempt = false;
        // Nobody answers what is still open.
        lock(&self.waiting).clear();
        self.say(words, frame(Tag::Report, report))
    }

    /// Says something that needs no answer, if somebody listens and is not far behind.
    pub(super) fn mention(&self, tag: Tag, value: &impl Serialize) {
        let said = frame_of(tag, value);
        let words = lock(&self.words);
        if words.has_attempt && words.unsaid.unwritten() <= MAX_UNREAD {
            // A worker that is gone ends this process soon enough.
            let _unheard = self.say(words, said);
        }
    }

    /// Asks something; `None` when nobody answers.
    pub(super) async fn ask(&self, question: Question) -> Option<Answer> {
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let (told, answer) = oneshot::channel();
        let asked = frame_of(Tag::Call, &(number, question));
        {
            let words = lock(&self.words);
            if !words.has_attempt {
                return None;
            }
            lock(&self.waiting).insert(number, told);
            self.say(words, asked).ok()?;
        }
        answer.await.ok()
    }

    /// Writes as much of it as the socket takes; the rest is written while somebody listens.
    fn say(&self, mut words: MutexGuard<'_, Words>, frame: Vec<u8>) -> io::Result<()> {
        use std::io::Write as _;

        let Words { socket, unsaid, .. } = &mut *words;
        unsaid.push(frame);
        unsaid.write(|bytes| socket.write(bytes))?;
        if !unsaid.is_empty() {
            self.stuck.notify_one();
        }
        Ok(())
    }

    /// Writes what is left, as far as the socket takes it; returns whether that was all.
    fn go_on(&self, socket: &UnixStream) -> io::Result<bool> {
        let unsaid = &mut lock(&self.words).unsaid;
        unsaid.write(|bytes| socket.try_write(bytes))?;
        Ok(unsaid.is_empty())
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::isolation::connection::Connection;

    const LARGE: usize = 2 << 20;

    fn share(value: Vec<u8>) -> Question {
        Question::Share {
            key: "key".to_owned(),
            expected: 0,
            value,
            ttl_ms: 1,
        }
    }

    /// Goal: worker and child do not wait for each other to read what both write.
    /// Method: on one thread, both write far more than a socket holds, before either reads anything.
    #[tokio::test]
    async fn large_frames_pass_each_other() {
        let (ours, theirs) = StdStream::pair().unwrap();
        for socket in [&ours, &theirs] {
            socket.set_nonblocking(true).unwrap();
        }
        let mut worker = Connection::new(ours).unwrap();
        let mut link = Link::new(theirs, Inbox::default()).unwrap();
        let mouth = link.mouth();
        mouth.open();
        worker.send(frame(Tag::Order, &vec![1; LARGE]));
        let work = async {
            for _ in 0..2 {
                let Some((Tag::Call, body)) = worker.next().await else {
                    panic!("a call")
                };
                let (number, Question::Share { value, .. }) = value_of(&body).unwrap() else {
                    panic!("as it was asked")
                };
                let answer = Answer::Shared(Some((number, value)));
                worker.send(frame_of(Tag::Reply, &(number, answer)));
            }
            let Some((Tag::Report, report)) = worker.next().await else {
                panic!("the report")
            };
            assert_eq!(report.len(), LARGE);
            assert!(worker.into_idle().is_ok(), "all that was sent was read");
        };
        let attempt = async {
            let asked = [2, 3].map(|byte| mouth.ask(share(vec![byte; LARGE])));
            let answers = futures_util::future::join_all(asked).await;
            for (answer, byte) in answers.into_iter().zip([2, 3]) {
                let Some(Answer::Shared(Some((_, value)))) = answer else {
                    panic!("{answer:?}")
                };
                assert!(value.len() == LARGE && value[0] == byte);
            }
            mouth.report(&vec![4; LARGE]).unwrap();
            assert!(mouth.ask(share(Vec::new())).await.is_none());
        };
        let listen = async {
            loop {
                match link.listen().await {
                    Said::Order(order) => assert_eq!(order.len(), LARGE),
                    Said::Reply(body) => mouth.hear(&body),
                    Said::Cancel => panic!("nobody said so"),
                    Said::Nothing => return,
                }
            }
        };
        let all = async { tokio::join!(work, attempt, listen) };
        tokio::time::timeout(Duration::from_secs(120), all)
            .await
            .expect("nobody waits for the other");
    }

    /// Goal: what is logged faster than it is read costs a bounded amount of memory, and is in nobody's way.
    #[tokio::test]
    async fn lines_that_nobody_reads_are_left_out() {
        let (ours, theirs) = StdStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let link = Link::new(theirs, Inbox::default()).unwrap();
        let mouth = link.mouth();
        mouth.open();
        let line = "x".repeat(100_000);
        for _ in 0..100 {
            mouth.mention(Tag::Log, &line);
        }
        assert!(lock(&mouth.words).unsaid.unwritten() <= MAX_UNREAD + 2 * line.len());
        drop(ours);
    }
}
