//! The embedded broker passes the suite that every broker passes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use celeriac_actors::ids::{QueueName, TaskId, WorkerId};
use celeriac_actors::ports::Broker;
use celeriac_actors::testkit::conformance::{ClockStep, Harness};

use crate::sqlite_support::{Bench, corrupt};

#[async_trait]
impl Harness for Bench {
    async fn fresh() -> Self {
        Self::new()
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker)
    }

    async fn another(&self) -> Arc<dyn Broker> {
        Self::another(self)
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(12)
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn time_is_free(&self) -> bool {
        true
    }

    /// Fewer than time would allow: each step waits for the disk.
    fn histories(&self) -> u32 {
        60
    }

    async fn step_clock(&self, step: ClockStep) -> bool {
        match step {
            ClockStep::WallForward(by) => self.clock.step_wall_forward(by),
            ClockStep::WallBack(by) => self.clock.step_wall_back(by),
            ClockStep::Reboot => self.clock.reboot(Duration::from_secs(30)),
        }
        true
    }

    async fn declare_dead(&self, worker: &WorkerId) -> bool {
        self.kill(worker)
    }

    async fn corrupt(&self, _: &QueueName, task: TaskId, bytes: &[u8]) -> bool {
        corrupt(self.directory.path(), task, bytes)
    }
}

celeriac_actors::conformance_tests!(Bench);
