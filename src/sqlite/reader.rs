//! The thread that looks: inspection on a connection of its own, so that it never queues behind the writer.

use std::sync::mpsc::{Receiver, SyncSender};

use celeriac_actors::ports::BrokerError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::errors::StepError;
use super::job::Reply;
use super::sql::Db;

/// A look at the database with its caller.
type Look = Box<dyn FnOnce(&mut Db) + Send>;

/// The sending end of the thread.
#[derive(Debug)]
pub(super) struct Reader {
    looks: SyncSender<Look>,
}

impl Reader {
    /// Starts the thread.
    pub(super) fn spawn(
        mut db: Db,
        bound: usize,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (looks, orders): (_, Receiver<Look>) = std::sync::mpsc::sync_channel(bound);
        let thread = std::thread::Builder::new().name("celeriac-read".to_owned());
        let handle = thread.spawn(move || {
            while let Ok(look) = orders.recv() {
                look(&mut db);
            }
        })?;
        Ok((Self { looks }, handle))
    }

    /// Looks at one state of the database.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        look: impl FnOnce(&mut Db) -> Result<T, StepError> + Send + 'static,
    ) -> Reply<T> {
        let gone = || BrokerError::Away("the broker was closed".to_owned());
        let (caller, reply) = oneshot::channel();
        let order: Look = Box::new(move |db| {
            let seen = consistently(db, look).map_err(StepError::into_broker);
            drop(permit);
            // A caller that went away does not need it.
            drop(caller.send(seen));
        });
        self.looks.try_send(order).map_err(|_| gone())?;
        reply.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn consistently<T>(
    db: &mut Db,
    look: impl FnOnce(&mut Db) -> Result<T, StepError>,
) -> Result<T, StepError> {
    db.run("BEGIN", &[])?;
    let seen = look(db);
    // A transaction that only read has nothing to lose.
    drop(db.run("COMMIT", &[]));
    seen
}
