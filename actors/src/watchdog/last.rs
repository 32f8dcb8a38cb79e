//! The last step of a process: all that it still holds is given back, whatever runs.
//!
//! By then nobody is left who could do so: the consumers on blocked threads cannot, and the watchdog itself has ended. Each
//! incarnation is closed, which gives back what it holds, and fences off what a thread says that unblocks after all.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::rngs::StdRng;
use slog::info;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::{Duty, WatchdogSetup};
use crate::lane::LaneGauge;
use crate::outage::Access;
use crate::ports::BrokerError;
use crate::table::AttemptTable;

impl Duty {
    /// Gives back all that is held, for at most `limit`: every incarnation at once, so that one answer that is late costs no
    /// other its own.
    pub(crate) async fn let_go(setup: &WatchdogSetup, limit: Duration) {
        let duty = Self {
            log: setup.worker.log.clone(),
            setup: Rc::new(setup.clone()),
            debts: Rc::new(Notify::new()),
        };
        let mut rng = StdRng::from_rng(&mut rand::rng());
        let replaced = *setup.recycle.borrow();
        let mut left = Vec::new();
        for gauge in setup.board.gauges() {
            for table in gauge.tables() {
                duty.take_all(&gauge, &table, replaced.then_some(&mut rng));
                left.push((Arc::clone(&gauge), table));
            }
        }
        let told = left.iter().map(|(gauge, table)| async {
            let began = Instant::now();
            if let Err(error) = duty.tell_the_last(gauge, table).await {
                let outage = &duty.setup.link.outage;
                outage.failed(began, Access::Write, &error);
            }
        });
        // What was not told is left to the lease.
        let _in_time = timeout(limit, join_all(told)).await;
    }

    /// Takes what one incarnation holds. In a process that is replaced because of its threads, what has cost one is charged
    /// for it: else it would cost the next process its threads as well, for ever.
    fn take_all(&self, gauge: &LaneGauge, table: &AttemptTable, charge: Option<&mut StdRng>) {
        table.confiscate();
        table.take_prefetched();
        if let Some(rng) = charge
            && gauge.is_blocked()
        {
            gauge.accuse();
            let running = table.running().into_iter();
            for (tag, context) in running.filter(|(_, context)| gauge.is_accused(context)) {
                if let Some(outcome) = self.blocked_outcome(&context, rng) {
                    self.take_counted(table, tag, &context, outcome);
                }
            }
        }
        table.take_running();
    }

    async fn tell_the_last(
        &self,
        gauge: &LaneGauge,
        table: &Arc<AttemptTable>,
    ) -> Result<(), BrokerError> {
        if !table.is_gone() {
            self.pay(table).await?;
            let broker = &self.setup.link.broker;
            let closing = broker.close(&table.queue, table.incarnation);
            let released = self.in_time(closing).await?;
            info!(self.log, "closed what was left at the end"; "queue" => %table.queue,
                "incarnation" => %table.incarnation, "released" => released);
        }
        gauge.remove_table(table);
        Ok(())
    }
}
