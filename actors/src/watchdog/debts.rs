//! Debts: what the broker has to be told instead of a consumer that is dead, blocked, or too late. They stand in the
//! attempt tables, so they outlive the watchdog as well, and each is told again until the broker has answered.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::{debug, error, info};
use tokio::time::{Instant, sleep, timeout};

use super::Duty;
use crate::lane::LaneGauge;
use crate::lease::{MAX_BATCH, Outcome};
use crate::outage::Access;
use crate::ports::BrokerError;
use crate::table::AttemptTable;

/// How long it waits after the broker did not take something.
const PAUSE: Duration = Duration::from_millis(200);

impl Duty {
    /// Tells the broker what is owed, whenever the patrol rings.
    pub(super) async fn settle_debts(self) {
        let mut rng = StdRng::from_rng(&mut rand::rng());
        loop {
            self.debts.notified().await;
            let mut failed = false;
            for gauge in self.setup.board.gauges() {
                for table in gauge.tables() {
                    let began = Instant::now();
                    if table.needs_care()
                        && let Err(error) = self.settle(&gauge, &table, &mut rng).await
                    {
                        self.setup.link.outage.failed(began, Access::Write, &error);
                        failed = true;
                    }
                }
            }
            if failed {
                sleep(PAUSE).await;
                self.debts.notify_one();
            }
        }
    }

    async fn settle(
        &self,
        gauge: &LaneGauge,
        table: &Arc<AttemptTable>,
        rng: &mut StdRng,
    ) -> Result<(), BrokerError> {
        let orphaned = table.is_orphaned();
        if table.is_gone() {
            // Somebody else's now.
            if orphaned {
                gauge.remove_table(table);
            }
            return Ok(());
        }
        let runs = orphaned && self.give_back(gauge, table, rng);
        self.pay(table).await?;
        if orphaned && !runs {
            let broker = &self.setup.link.broker;
            let closing = broker.close(&table.queue, table.incarnation);
            let released = self.in_time(closing).await?;
            gauge.remove_table(table);
            info!(self.log, "closed what a consumer left"; "queue" => %table.queue,
                "incarnation" => %table.incarnation, "released" => released);
        }
        Ok(())
    }

    /// Takes what a consumer left. Returns whether blocking work of it still runs, for which the lease is kept.
    fn give_back(&self, gauge: &LaneGauge, table: &AttemptTable, rng: &mut StdRng) -> bool {
        table.take_prefetched();
        let mut runs = false;
        for (tag, context) in table.running() {
            if context.is_blocking() {
                runs = true;
            } else if let Some(outcome) = self
                .blocked_outcome(&context, rng)
                .filter(|_| gauge.is_accused(&context))
            {
                // It cost a thread: were it not counted, it would cost the next one as well, for ever.
                self.take_counted(table, tag, &context, outcome);
            } else {
                self.take_counted(table, tag, &context, Outcome::release());
            }
        }
        runs
    }

    /// Settles what is owed: what is only given back in as few calls as it takes, the rest one by one.
    pub(super) async fn pay(&self, table: &AttemptTable) -> Result<(), BrokerError> {
        let broker = &self.setup.link.broker;
        let (released, ended): (Vec<_>, Vec<_>) = table
            .owed()
            .into_iter()
            .partition(|(_, outcome)| *outcome == Outcome::release());
        let released: Vec<u64> = released.into_iter().map(|(tag, _)| tag).collect();
        for tags in released.chunks(MAX_BATCH as usize) {
            let releasing = broker.release(&table.queue, table.incarnation, tags);
            self.in_time(releasing).await?;
            table.paid(tags);
        }
        for (tag, outcome) in ended {
            let place = table.place(tag);
            match self.in_time(broker.take(&place, outcome)).await {
                Ok(taken) => {
                    debug!(self.log, "settled for a consumer"; "queue" => %table.queue, "tag" => tag, "taken" => taken);
                }
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => {
                    // Repeating it is no use: the delivery is given back with the incarnation.
                    error!(self.log, "cannot settle for a consumer"; "queue" => %table.queue, "tag" => tag, "error" => %error);
                }
            }
            table.paid(&[tag]);
        }
        Ok(())
    }

    pub(super) async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let late = |_| BrokerError::Unavailable("no answer in time".to_owned());
        timeout(self.setup.lease / 4, call).await.map_err(late)?
    }
}
