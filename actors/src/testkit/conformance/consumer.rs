//! A consumer that numbers its calls and counts its tags, as the real one does.

use std::sync::Arc;

use crate::ids::IncarnationId;
use crate::lease::{Delivery, ExchangeCall, Exchanged, Incarnation, Outcome, Place, Settlement};
use crate::ports::{Broker, BrokerError};
use crate::testkit::label;

/// A consumer that counts its calls and tags.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its way to the broker.
    pub broker: Arc<dyn Broker>,
    /// Its life.
    pub incarnation: Incarnation,
    number: u64,
    next_tag: u64,
}

impl Consumer {
    /// Makes one that the broker was not told of.
    #[must_use]
    pub const fn new(broker: Arc<dyn Broker>, incarnation: Incarnation) -> Self {
        Self {
            broker,
            incarnation,
            number: 0,
            next_tag: 1,
        }
    }

    /// Returns its identity.
    #[must_use]
    pub const fn id(&self) -> IncarnationId {
        self.incarnation.id
    }

    /// Returns its next call.
    pub fn call(&mut self, settlements: Vec<(u64, Outcome)>, want: u32) -> Arc<ExchangeCall> {
        self.number += 1;
        let first_tag = self.next_tag;
        self.next_tag += u64::from(want);
        let settlement = |(tag, outcome)| Settlement { tag, outcome };
        Arc::new(ExchangeCall {
            queue: self.incarnation.queue.clone(),
            incarnation: self.incarnation.id,
            number: self.number,
            settlements: settlements.into_iter().map(settlement).collect(),
            want,
            first_tag,
        })
    }

    /// Settles and fetches.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn try_exchange(
        &mut self,
        settlements: Vec<(u64, Outcome)>,
        want: u32,
    ) -> Result<Exchanged, BrokerError> {
        let call = self.call(settlements, want);
        self.broker.exchange(call).await
    }

    /// Settles and fetches.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn exchange(&mut self, settlements: Vec<(u64, Outcome)>, want: u32) -> Exchanged {
        let exchanged = self.try_exchange(settlements, want).await;
        exchanged.expect("a living incarnation may exchange")
    }

    /// Fetches.
    pub async fn fetch(&mut self, want: u32) -> Vec<Delivery> {
        self.exchange(vec![], want).await.deliveries
    }

    /// Fetches one and returns its tag.
    ///
    /// # Panics
    /// When nothing is ready.
    pub async fn fetch_one(&mut self) -> u64 {
        let deliveries = self.fetch(1).await;
        deliveries.first().expect("something is ready").tag
    }

    /// Settles one delivery; returns what was stale.
    pub async fn settle(&mut self, tag: u64, outcome: Outcome) -> Vec<u64> {
        self.exchange(vec![(tag, outcome)], 0).await.stale
    }

    /// Returns the place of one of its tags.
    #[must_use]
    pub fn place(&self, tag: u64) -> Place {
        Place {
            queue: self.incarnation.queue.clone(),
            incarnation: self.incarnation.id,
            tag,
        }
    }
}

/// Returns what deliveries carry, as text.
pub(super) fn labels(deliveries: &[Delivery]) -> String {
    let labels: Vec<String> = deliveries.iter().map(|d| label(&d.frame)).collect();
    labels.join(" ")
}
