//! Power-safe acknowledgement: the log is synced beside the writer, and then the callers are answered.
//!
//! The writer commits at `synchronous=NORMAL`, which survives every crash of processes. A commit survives a power cut
//! once the log's file was synced after it, because the log is read in order up to the first frame that is not whole.
//! So one sync serves all commits before it, the writer goes on meanwhile, and callers whose steps need no such safety
//! do not wait for it. (A checkpoint that empties the log syncs log and database itself.)

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender};

use celeriac_actors::ports::BrokerError;

use super::job::Job;
use super::place::Place;

/// How many commits may wait for a sync before the writer waits, too.
const WAITING: usize = 64;

/// The thread that syncs.
#[derive(Debug)]
pub(super) struct Syncer {
    commits: SyncSender<Vec<Box<dyn Job>>>,
}

impl Syncer {
    /// Starts the thread for the log in `place`, which exists.
    pub(super) fn spawn(place: &Place) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let log = File::open(place.log())?;
        // The names of new files must survive, too.
        File::open(place.root())?.sync_all()?;
        let (commits, waiting) = std::sync::mpsc::sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("celeriac-sync".to_owned());
        let handle = thread.spawn(move || serve(&log, &waiting))?;
        Ok((Self { commits }, handle))
    }

    /// Answers `jobs`, which are committed, once they are safe.
    pub(super) fn answer_when_safe(&self, jobs: Vec<Box<dyn Job>>) {
        if let Err(refused) = self.commits.send(jobs) {
            fail_all(refused.0, "the thread that syncs has ended");
        }
    }
}

fn serve(log: &File, waiting: &Receiver<Vec<Box<dyn Job>>>) {
    let mut broken = None;
    while let Ok(first) = waiting.recv() {
        let mut jobs = first;
        while let Ok(more) = waiting.try_recv() {
            jobs.extend(more);
        }
        if broken.is_none() {
            // After a sync that failed, the system may forget what it could not write: a later one proves nothing.
            broken = log.sync_data().err().map(|error| error.to_string());
        }
        match &broken {
            None => jobs.into_iter().for_each(Job::answer),
            Some(error) => fail_all(jobs, error),
        }
    }
}

fn fail_all(jobs: Vec<Box<dyn Job>>, error: &str) {
    for job in jobs {
        let why = format!("the log cannot be synced ({error}): restart the process");
        job.fail(BrokerError::Unavailable(why));
    }
}
