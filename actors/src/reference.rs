//! Stable references: one handle to a child over all of its restarts.
//!
//! A [`Slot`] is where the current incarnation of a child can be found; its supervisor points it at each new one. A
//! [`Ref`] is the slot seen through one message type, so that whoever sends need not know the actor behind it.
//!
//! Invariants: a message never vanishes: it is answered, or the sender gets a typed error. A message that was handed to
//! a mailbox is never sent again by us. An incarnation that was given up on can neither be found any more nor come back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

mod error;

pub use error::{SendError, TrySendError};

/// A handle to whichever incarnation of a child serves now, for messages of type `M`.
pub struct Ref<M: Message> {
    door: Arc<dyn Door<M>>,
    patience: Duration,
}

impl<M> Ref<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// How long a request waits for a child that is being restarted, unless set otherwise.
    pub const PATIENCE: Duration = Duration::from_secs(5);

    /// Sets how long a request waits for a child that is being restarted. Zero does not wait.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Returns the child's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.door.name()
    }

    /// Returns whether an incarnation serves right now. It may be gone by the next instant.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.door.is_up()
    }

    /// Sends a request and waits for the answer.
    ///
    /// Waits up to the reference's patience while the child is being restarted. Once the message has been handed over
    /// it waits for as long as the incarnation lives: bound that with a timeout where the handler may be slow.
    ///
    /// # Errors
    /// See [`SendError`]: all but `Interrupted` mean that nobody has got the message.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws a message that the actor has not begun to handle.
    pub async fn send(&self, message: M) -> Result<M::Result, SendError> {
        self.door.request(message, self.patience).await
    }

    /// Hands a message over without waiting for anything, for events that may be shed.
    ///
    /// `Ok` proves only that the mailbox had room: the child may die before it handles the message.
    ///
    /// # Errors
    /// The message comes back when the mailbox is full or the child is not there.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.door.offer(message)
    }
}

impl<M: Message> Clone for Ref<M> {
    fn clone(&self) -> Self {
        Self {
            door: Arc::clone(&self.door),
            patience: self.patience,
        }
    }
}

impl<M: Message> fmt::Debug for Ref<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ref")
            .field("child", &self.door.name())
            .finish_non_exhaustive()
    }
}

/// Where the current incarnation of one child is found. Make it first, then its references and its spec.
pub struct Slot<A: Actor> {
    shared: Arc<Shared<A>>,
}

struct Shared<A: Actor> {
    name: Arc<str>,
    status: watch::Sender<Status<A>>,
    /// Requests that were handed over and not answered yet.
    backlog: Arc<AtomicUsize>,
}

struct Status<A: Actor> {
    /// The newest incarnation that was begun.
    incarnation: u64,
    /// Incarnations up to this one will never answer, though their mailbox may look alive.
    abandoned: u64,
    occupancy: Occupancy<A>,
}

enum Occupancy<A: Actor> {
    /// Nobody; the address of the next incarnation will follow.
    Awaited,
    /// Not cloned for `try_send`: in actix each clone of an address may exceed the mailbox's bound by one.
    Taken(Addr<A>),
    Parked,
    Ended,
}

/// What becomes of a slot when its incarnation is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vacancy {
    /// Requests wait for the next incarnation.
    Awaited,
    /// Requests fail: no next incarnation is near.
    Parked,
    /// Requests fail: there is no next incarnation.
    Ended,
}

impl<A: Actor> Slot<A> {
    /// Creates an empty slot for a child called `name`.
    ///
    /// Requests wait until the child is started for the first time.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let status = Status {
            incarnation: 0,
            abandoned: 0,
            occupancy: Occupancy::Awaited,
        };
        let shared = Shared {
            name: name.into(),
            status: watch::Sender::new(status),
            backlog: Arc::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Creates a slot that points at `address`, for an actor that nobody supervises (in a test of its peers).
    #[must_use]
    pub fn attached(name: impl Into<Arc<str>>, address: Addr<A>) -> Self {
        let slot = Self::new(name);
        let incarnation = slot.begin();
        slot.occupy(incarnation, address);
        slot
    }

    /// Returns the child's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// Returns a stable reference for messages of type `M`.
    #[must_use]
    pub fn reference<M>(&self) -> Ref<M>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let door: Arc<dyn Door<M>> = Arc::<Shared<A>>::clone(&self.shared);
        Ref {
            door,
            patience: Ref::<M>::PATIENCE,
        }
    }

    pub(crate) fn backlog(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.shared.backlog)
    }

    /// Begins the next incarnation and returns its number. Whatever was found here before no longer is.
    pub(crate) fn begin(&self) -> u64 {
        let mut number = 0;
        self.shared.status.send_modify(|status| {
            status.incarnation += 1;
            number = status.incarnation;
            status.occupancy = Occupancy::Awaited;
        });
        number
    }

    /// Points the slot at `address`, unless `incarnation` has been given up on meanwhile; returns whether it did.
    pub(crate) fn occupy(&self, incarnation: u64, address: Addr<A>) -> bool {
        self.shared.status.send_if_modified(|status| {
            let current = status.incarnation == incarnation && status.abandoned < incarnation;
            let occupied = current && matches!(status.occupancy, Occupancy::Awaited);
            if occupied {
                status.occupancy = Occupancy::Taken(address);
            }
            occupied
        })
    }

    /// Empties the slot, unless a newer incarnation than `incarnation` has begun.
    pub(crate) fn vacate(&self, incarnation: u64, vacancy: Vacancy) {
        self.shared.status.send_if_modified(|status| {
            let current = status.incarnation == incarnation;
            if current {
                status.occupancy = match vacancy {
                    Vacancy::Awaited => Occupancy::Awaited,
                    Vacancy::Parked => Occupancy::Parked,
                    Vacancy::Ended => Occupancy::Ended,
                };
            }
            current
        });
    }

    /// Fails the requests that incarnations up to `incarnation` still hold, and lets nobody find those any more.
    ///
    /// For what was given up on: its mailbox may be alive, and nobody reads it.
    pub(crate) fn forsake(&self, incarnation: u64) {
        self.shared.status.send_if_modified(|status| {
            let news = status.abandoned < incarnation;
            status.abandoned = status.abandoned.max(incarnation);
            if news
                && status.incarnation == incarnation
                && matches!(status.occupancy, Occupancy::Taken(_))
            {
                status.occupancy = Occupancy::Awaited;
            }
            news
        });
    }
}

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<A: Actor> fmt::Debug for Slot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// A slot seen through one message type.
trait Door<M: Message>: Send + Sync {
    fn name(&self) -> &str;
    fn is_up(&self) -> bool;
    fn request(
        &self,
        message: M,
        patience: Duration,
    ) -> BoxFuture<'_, Result<M::Result, SendError>>;
    fn offer(&self, message: M) -> Result<(), TrySendError<M>>;
}

impl<A, M> Door<M> for Shared<A>
where
    A: Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn is_up(&self) -> bool {
        matches!(&self.status.borrow().occupancy, Occupancy::Taken(address) if address.connected())
    }

    fn request(
        &self,
        message: M,
        patience: Duration,
    ) -> BoxFuture<'_, Result<M::Result, SendError>> {
        Box::pin(async move {
            let mut status = self.status.subscribe();
            let (incarnation, answer) = self.hand_over(message, patience, &mut status).await?;
            let _counted = Counted::new(&self.backlog);
            let interrupted = || SendError::Interrupted {
                name: Arc::clone(&self.name),
            };
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|_| interrupted()),
                _ = status.wait_for(|status| status.abandoned >= incarnation) => Err(interrupted()),
            }
        })
    }

    fn offer(&self, message: M) -> Result<(), TrySendError<M>> {
        match &self.status.borrow().occupancy {
            Occupancy::Taken(address) => address.try_send(message).map_err(|error| match error {
                actix::prelude::SendError::Full(message) => TrySendError::Full(message),
                actix::prelude::SendError::Closed(message) => TrySendError::Unavailable(message),
            }),
            Occupancy::Awaited | Occupancy::Parked => Err(TrySendError::Unavailable(message)),
            Occupancy::Ended => Err(TrySendError::Ended(message)),
        }
    }
}

impl<A: Actor> Shared<A> {
    /// Waits for an incarnation and hands it the message; returns which one it was, and where the answer will come.
    async fn hand_over<M>(
        &self,
        message: M,
        patience: Duration,
        status: &mut watch::Receiver<Status<A>>,
    ) -> Result<(u64, actix::dev::Request<A, M>), SendError>
    where
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let name = || Arc::clone(&self.name);
        let mut deadline = None;
        loop {
            {
                let seen = status.borrow_and_update();
                match &seen.occupancy {
                    // A mailbox that closes between these two lines takes the message with it: `Interrupted`.
                    Occupancy::Taken(address) if address.connected() => {
                        return Ok((seen.incarnation, address.send(message)));
                    }
                    Occupancy::Taken(_) | Occupancy::Awaited => {}
                    Occupancy::Parked => return Err(SendError::Parked { name: name() }),
                    Occupancy::Ended => return Err(SendError::Ended { name: name() }),
                }
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + patience);
            match timeout_at(until, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(SendError::Unavailable { name: name() }),
            }
        }
    }
}

/// Counts one request for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
