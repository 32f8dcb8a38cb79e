//! The broker on Redis, as the configuration names it.

use std::sync::Arc;
use std::time::Duration;

use celeriac_actors::ids::WorkerId;
use celeriac_actors::ports::Broker;
use celeriac_actors::time::Clock as _;

use super::super::exit::{Exit, Failure};
use super::Session;
use crate::clock::SystemClock;
use crate::config::{BrokerTarget, SecretUrl};
use crate::redis::{OpenError, RedisBroker, RedisOptions};

impl Session {
    /// Returns what the broker on Redis is opened with.
    pub(crate) fn redis_options(
        &self,
        url: &SecretUrl,
        worker: Option<&WorkerId>,
    ) -> Result<RedisOptions, Failure> {
        let mut options = RedisOptions::new(url.expose()).map_err(failure)?;
        options.worker = worker.cloned();
        if let Some(BrokerTarget::Redis { url: results }) = &self.config.results.target
            && results != url
        {
            options = options.results(
                results
                    .expose()
                    .parse()
                    .map_err(OpenError::from)
                    .map_err(failure)?,
            );
        }
        options.allow_volatile = self.config.redis.allow_volatile;
        options.allow_eviction = self.config.redis.allow_eviction;
        options.max_frame = self.config.max_frame;
        options.log = self.log.clone();
        Ok(options)
    }

    /// Opens the broker; a client tries again for a while when it is away, a worker's daemon does so itself.
    pub(super) fn open_redis(
        &self,
        url: &SecretUrl,
        worker: Option<&WorkerId>,
        patience: Duration,
    ) -> Result<Arc<dyn Broker>, Failure> {
        let options = self.redis_options(url, worker)?;
        let deadline = SystemClock.since_boot() + patience;
        loop {
            match RedisBroker::open(options.clone()) {
                Err(error)
                    if error.is_outage()
                        && options.worker.is_none()
                        && SystemClock.since_boot() < deadline =>
                {
                    // Opening blocks whoever calls, also inside a runtime, which a timer could not be made in.
                    std::thread::park_timeout(Duration::from_millis(200));
                }
                outcome => {
                    let broker = outcome.map_err(failure)?;
                    self.complain(broker.warnings());
                    return Ok(Arc::new(broker));
                }
            }
        }
    }
}

/// Returns how a broker that cannot be opened ends a command.
fn failure(error: OpenError) -> Failure {
    let exit = match error.is_outage() {
        true => Exit::Unavailable,
        false => Exit::Usage,
    };
    Failure::new(exit, error)
}
