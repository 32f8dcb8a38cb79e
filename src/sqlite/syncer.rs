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

/// What makes a log survive a power cut.
pub(super) type SyncLog = Box<dyn Fn(&File) -> std::io::Result<()> + Send>;

/// The thread that syncs.
#[derive(Debug)]
pub(super) struct Syncer {
    commits: SyncSender<Vec<Box<dyn Job>>>,
}

impl Syncer {
    /// Starts the thread for the log in `place`, which exists. At most `steps` wait for it, so the writer never does.
    pub(super) fn spawn(
        place: &Place,
        steps: usize,
        sync: SyncLog,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let log = File::open(place.log())?;
        // The names of new files must survive, too.
        File::open(place.root())?.sync_all()?;
        let (commits, waiting) = std::sync::mpsc::sync_channel(steps);
        let thread = std::thread::Builder::new().name("celeriac-sync".to_owned());
        let handle = thread.spawn(move || serve(&log, &waiting, &sync))?;
        Ok((Self { commits }, handle))
    }

    /// Answers `jobs`, which are committed, once they are safe.
    pub(super) fn answer_when_safe(&self, jobs: Vec<Box<dyn Job>>) {
        if let Err(refused) = self.commits.send(jobs) {
            fail_all(refused.0, "the thread that syncs has ended");
        }
    }
}

fn serve(log: &File, waiting: &Receiver<Vec<Box<dyn Job>>>, sync: &SyncLog) {
    let mut broken = None;
    while let Ok(first) = waiting.recv() {
        let mut jobs = first;
        while let Ok(more) = waiting.try_recv() {
            jobs.extend(more);
        }
        if broken.is_none() {
            // After a sync that failed, the system may forget what it could not write: a later one proves nothing.
            broken = sync(log).err().map(|error| error.to_string());
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
