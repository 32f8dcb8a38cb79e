//! The one thread of a process that writes its spool: the steps of many callers in one transaction, answered when it
//! survives a power cut.

use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use celeriac_actors::ports::SpoolError;
use diesel::result::{Error as DieselError, QueryResult};
use tokio::sync::{mpsc, oneshot};

use super::book::Book;
use crate::sqlite::{Trouble, trouble};

/// The most steps of one transaction.
const GROUP: usize = 128;

/// What a step says of itself, if SQLite let it run.
type Reply<T> = Result<T, SpoolError>;
type Step<T> = Box<dyn FnMut(&mut Book) -> QueryResult<Reply<T>> + Send>;

/// A step whose kind is forgotten.
trait Job: Send {
    /// Runs it and keeps its reply; may be run again after the transaction was undone.
    fn run(&mut self, book: &mut Book) -> QueryResult<()>;
    /// Gives the caller the reply kept.
    fn answer(self: Box<Self>);
    /// Gives the caller an error instead.
    fn fail(self: Box<Self>, error: SpoolError);
}

struct Call<T> {
    step: Step<T>,
    reply: Option<Reply<T>>,
    caller: oneshot::Sender<Reply<T>>,
}

impl<T: Send> Job for Call<T> {
    fn run(&mut self, book: &mut Book) -> QueryResult<()> {
        self.reply = Some((self.step)(book)?);
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(reply) = self.reply {
            // A caller that went away need not know.
            drop(self.caller.send(reply));
        }
    }

    fn fail(self: Box<Self>, error: SpoolError) {
        drop(self.caller.send(Err(error)));
    }
}

/// Hands steps to the thread. Dropping it ends the thread behind the last step.
#[derive(Debug)]
pub(super) struct Scribe {
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Scribe {
    /// Starts the thread.
    pub(super) fn start(book: Book) -> std::io::Result<Self> {
        let (jobs, coming) = mpsc::channel(GROUP);
        let thread = std::thread::Builder::new().name("spool-write".to_owned());
        let thread = thread.spawn(move || serve(book, coming))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a step carried out; returns its reply when it survives a power cut.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        step: impl FnMut(&mut Book) -> QueryResult<Reply<T>> + Send + 'static,
    ) -> Reply<T> {
        let (caller, reply) = oneshot::channel();
        let call = Call {
            step: Box::new(step),
            reply: None,
            caller,
        };
        let closed = || SpoolError::Failed("it was closed".to_owned());
        let jobs = self.jobs.as_ref().ok_or_else(closed)?;
        jobs.send(Box::new(call)).await.map_err(|_| closed())?;
        let ended = |_| Err(SpoolError::Unknown("its thread ended".to_owned()));
        reply.await.unwrap_or_else(ended)
    }
}

impl Drop for Scribe {
    fn drop(&mut self) {
        self.jobs = None;
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // One that panicked has said so already.
            drop(thread.join());
        }
    }
}

fn serve(mut book: Book, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(job) = jobs.try_recv() else { break };
            group.push(job);
        }
        carry_out(&mut book, group);
    }
}

fn carry_out(book: &mut Book, mut group: Vec<Box<dyn Job>>) {
    let failure = match attempt(book, &mut group) {
        Ok(()) => return group.into_iter().for_each(Job::answer),
        Err(failure) => failure,
    };
    match failure {
        // One of them may be why: each for itself.
        Failure::Run(_) if group.len() > 1 => {
            for job in group {
                carry_out(book, vec![job]);
            }
        }
        Failure::Begin(error) | Failure::Run(error) => fail(group, &error),
        Failure::Commit(error) => fail(group, &error),
    }
}

fn fail(group: Vec<Box<dyn Job>>, error: &SpoolError) {
    for job in group {
        job.fail(error.clone());
    }
}

enum Failure {
    Begin(SpoolError),
    Run(SpoolError),
    Commit(SpoolError),
}

fn attempt(book: &mut Book, group: &mut [Box<dyn Job>]) -> Result<(), Failure> {
    let begun = book.db.run("BEGIN IMMEDIATE", &[]);
    begun.map_err(|error| Failure::Begin(failed(&error)))?;
    let ran: QueryResult<()> = group.iter_mut().try_for_each(|job| job.run(book));
    let outcome = match ran {
        Err(error) => Err(Failure::Run(failed(&error))),
        Ok(()) => match book.db.run("COMMIT", &[]) {
            Ok(_) => return Ok(()),
            Err(error) => Err(Failure::Commit(doubtful(&error))),
        },
    };
    // SQLite may have undone it by itself.
    drop(book.db.batch("ROLLBACK"));
    outcome
}

pub(super) fn failed(error: &DieselError) -> SpoolError {
    SpoolError::Failed(error.to_string())
}

/// The error of a commit: nothing was written where there was no room or no lock; else the disk may have it all the same.
fn doubtful(error: &DieselError) -> SpoolError {
    let text = error.to_string();
    if text.contains("disk is full") || trouble(&text) == Trouble::Busy {
        SpoolError::Failed(text)
    } else {
        SpoolError::Unknown(text)
    }
}
