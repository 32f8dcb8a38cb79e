//! Who keeps the results of tasks, and whose fault it is that one cannot be read. A broker on Redis may leave them to
//! another server, which may be away while tasks come and go.

use celeriac_actors::ports::{Broker, BrokerError};

use super::fault::Fault;
use crate::config::{BrokerTarget, Config, SecretUrl};

/// Who keeps the results: the broker, or a server of their own.
#[derive(Clone, Debug)]
pub(crate) struct Keeper(Option<SecretUrl>);

impl Keeper {
    /// Returns who keeps them by the configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let url = match &config.results.target {
            Some(target @ BrokerTarget::Redis { url }) if *target != config.broker => Some(url),
            _ => None,
        };
        Self(url.cloned())
    }

    /// Returns the server of their own, if they have one.
    pub(crate) const fn server(&self) -> Option<&SecretUrl> {
        self.0.as_ref()
    }

    /// Returns why results cannot be read, in terms of whom an operator has to look after: when the broker itself
    /// answers, it is the other server.
    pub(crate) async fn blame(&self, broker: &dyn Broker, error: BrokerError) -> Fault {
        match self.server() {
            Some(server) if error.is_outage() && broker.queues().await.is_ok() => {
                Fault::Away(format!(
                    "{server}, which keeps the results (`results.url`), cannot be read: {}; tasks run all the same, and \
                     their results wait at the broker until it is back",
                    reason(&error)
                ))
            }
            _ => error.into(),
        }
    }
}

/// Returns what an outage said, without naming the broker.
fn reason(error: &BrokerError) -> String {
    match error {
        BrokerError::Unavailable(text) | BrokerError::Away(text) | BrokerError::Refused(text) => {
            text.clone()
        }
        other => other.to_string(),
    }
}
