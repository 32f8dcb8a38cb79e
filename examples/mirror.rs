//! Dead letters, told to somebody else as well: each is also a line of `mirror/dead-letters.txt`.
//!
//! The mirror has a flaw: without its directory it panics where it should return an error. It runs inside the dead-letter
//! actor, one of the runtime's own, so that is worth seeing, too: the actor is restarted, the tasks go on, and when
//! restarts do not help the process ends with 70 and loses nothing.
//!
//! `cargo run --example mirror -- run --demo`, and meanwhile `cargo run --example mirror -- enqueue demo.fail`;
//! once more after `mkdir mirror`

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use celeriac::ids::BurialId;
use celeriac::ports::{
    ClusterCursor, ClusterPage, DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadPage,
    DeadStats, StoreError,
};

/// Writes a line for each dead letter before the store gets it.
#[derive(Debug)]
struct Mirror {
    store: Arc<dyn DeadLetters>,
}

#[async_trait]
impl DeadLetters for Mirror {
    async fn insert(&self, letters: Vec<DeadLetter>) -> Result<u64, StoreError> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open("mirror/dead-letters.txt")
            .expect("the directory `mirror` is here"); // The flaw.
        for letter in &letters {
            // May be written twice: a step whose outcome is unknown is repeated.
            writeln!(file, "{} {}", letter.id, letter.reason)
                .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        }
        self.store.insert(letters).await
    }

    // The rest is the store's.

    async fn list(
        &self,
        filter: &DeadFilter,
        after: Option<DeadCursor>,
        limit: u32,
    ) -> Result<DeadPage, StoreError> {
        self.store.list(filter, after, limit).await
    }

    async fn show(&self, id: BurialId) -> Result<DeadLetter, StoreError> {
        self.store.show(id).await
    }

    async fn begin_revival(
        &self,
        id: BurialId,
        edited: Option<&[u8]>,
    ) -> Result<DeadLetter, StoreError> {
        self.store.begin_revival(id, edited).await
    }

    async fn finish_revival(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        self.store.finish_revival(ids).await
    }

    async fn discard(&self, ids: &[BurialId]) -> Result<u64, StoreError> {
        self.store.discard(ids).await
    }

    async fn purge(&self, filter: &DeadFilter, limit: u32) -> Result<u64, StoreError> {
        self.store.purge(filter, limit).await
    }

    async fn clusters(
        &self,
        filter: &DeadFilter,
        after: Option<ClusterCursor>,
        limit: u32,
    ) -> Result<ClusterPage, StoreError> {
        self.store.clusters(filter, after, limit).await
    }

    async fn trim(&self, keep: u64, limit: u32) -> Result<u64, StoreError> {
        self.store.trim(keep, limit).await
    }

    async fn stats(&self, filter: &DeadFilter) -> Result<DeadStats, StoreError> {
        self.store.stats(filter).await
    }
}

fn main() -> ExitCode {
    celeriac::cli::main(|app| app.dead_letters(|store| Mirror { store }))
}
