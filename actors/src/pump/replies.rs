//! What a pump makes of the broker's answers.

use std::sync::Arc;

use slog::info;

use super::leaving::Over;
use super::{Pump, Ready};
use crate::consumer::Mode;
use crate::context::Abort;
use crate::envelope::Envelope;
use crate::execution::{Admission, Admitted, Refused, admit};
use crate::lease::Exchanged;
use crate::line::Answer;
use crate::ports::BrokerError;
use crate::retries::too_late;
use crate::time::Timestamp;

impl Pump {
    pub(super) fn answered(&mut self, answer: Answer) -> Result<(), BrokerError> {
        match answer {
            Answer::Opened(Ok(())) => {
                self.open = true;
                self.line.table.set_opened();
            }
            Answer::Exchanged(Ok(reply)) => {
                self.line.table.set_outstanding(None);
                self.line
                    .table
                    .add(reply.deliveries.iter().map(|delivery| delivery.tag));
                if reply.revocations == self.revocations {
                    self.receive(reply);
                } else {
                    self.pending = Some(self.line.revocations(&self.setup.link, Some(reply)));
                }
            }
            Answer::Revocations(reply, Ok((version, revoked))) => {
                self.revocations = version;
                self.revoked = revoked.into_iter().collect();
                self.cancel_revoked();
                if let Some(reply) = reply {
                    self.receive(reply);
                }
            }
            Answer::Opened(Err(BrokerError::Gone))
            | Answer::Exchanged(Err(BrokerError::Gone))
            | Answer::Revocations(_, Err(BrokerError::Gone)) => self.reopen(),
            Answer::Opened(Err(error))
            | Answer::Exchanged(Err(error))
            | Answer::Revocations(_, Err(error)) => return Err(error),
            Answer::Closed => self.over = Some(Over::Closed),
        }
        Ok(())
    }

    /// Takes in a reply: notes what was stale, and admits or settles each delivery.
    fn receive(&mut self, reply: Exchanged) {
        if !reply.stale.is_empty() {
            self.setup.stale(reply.stale.len());
        }
        let here = self.setup.worker.clock.now();
        self.broker_clock.set(reply.now, here);
        self.hungry = reply.more || std::mem::take(&mut self.look_again);
        for delivery in reply.deliveries {
            self.admit(delivery.tag, delivery.frame, reply.now);
        }
    }

    fn admit(&mut self, tag: u64, frame: Vec<u8>, now: Timestamp) {
        let setup = Arc::clone(&self.setup);
        let admission = Admission {
            now,
            revoked: &self.revoked,
            limits: &setup.worker.limits,
            unknown_grace: setup.unknown_grace,
        };
        let kind_of = |envelope: &Envelope| setup.kinds.get(&envelope.task).cloned();
        match admit(frame, &admission, kind_of) {
            Admitted::Job(mut job, kind) => {
                if let Some(refused) = too_late(&job, &kind.policy, now) {
                    return self.refuse(tag, refused);
                }
                if job.envelope.sensitive.is_empty() && !kind.sensitive.is_empty() {
                    // Its enqueuer did not know; from here on it is known wherever the task goes.
                    let paths = kind.sensitive.iter();
                    job.envelope.sensitive = paths.map(|path| (*path).to_owned()).collect();
                }
                setup.received(&job);
                let line = if job.header.is_suspect() {
                    &mut self.suspects
                } else {
                    &mut self.waiting
                };
                line.push_back(Ready { tag, job, kind });
            }
            Admitted::Settle(refused) => self.refuse(tag, *refused),
        }
    }

    /// Settles a delivery that does not start.
    fn refuse(&mut self, tag: u64, refused: Refused) {
        if self.line.table.finish(tag) {
            self.setup.settled_unstarted(&refused);
            self.line.table.settle(tag, refused.outcome);
        }
    }

    fn cancel_revoked(&mut self) {
        let own = self.line.table.running().into_iter();
        let own = own.map(|(_, context)| context);
        for context in own.chain(self.setup.board.running_blocked(&self.setup.queue)) {
            let job = context.job();
            if let Some(revoked) = self.revoked.of(&job.header, &job.envelope) {
                context.revoke(revoked);
            }
        }
        // It takes those that were ended on a blocked thread.
        self.setup.watch.notify_one();
        let standby = &mut self.standby.line;
        for line in [&mut self.waiting, &mut self.suspects, standby] {
            for ready in std::mem::take(line) {
                let (tag, header) = (ready.tag, ready.job.header);
                let task = ready.job.envelope.task.clone();
                if self.revoked.of(&header, &ready.job.envelope).is_none() {
                    line.push_back(ready);
                } else if self.line.table.finish(tag) {
                    let outcome = crate::execution::cancelled(&header);
                    let attempt = header.attempts.saturating_add(1);
                    self.setup.refused(header.id, Some(task), attempt, &outcome);
                    self.line.table.settle(tag, outcome);
                }
            }
        }
        self.seat.stand_down(self.standby.line.len());
    }

    /// The broker closed the incarnation: what was held is somebody else's now. Starts over with a new one.
    fn reopen(&mut self) {
        if self.line.table.set_gone() {
            info!(self.setup.log, "incarnation was closed by the broker; opening a new one";
                "incarnation" => %self.line.incarnation.id);
        }
        for (_, context) in self.line.table.running() {
            context.abort(Abort::Released);
        }
        self.setup.gauge.remove_table(&self.line.table);
        self.waiting.clear();
        self.suspects.clear();
        self.standby.line.clear();
        self.seat.stand_down(0);
        self.lingering.clear();
        self.seat.unreserve(self.seat.reserved());
        self.line = self.setup.new_line();
        self.setup.gauge.add_table(Arc::clone(&self.line.table));
        self.open = false;
        self.hungry = true;
        if self.control.mode() == Mode::Running {
            self.pending = Some(self.line.open(&self.setup.link));
        }
    }
}
