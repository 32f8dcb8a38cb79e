//! Who keeps the results of tasks, and whose fault it is that one cannot be read. A broker on Redis may leave them to
//! another server, which may be away while tasks come and go.

use celeriac_actors::ports::{Broker, BrokerError};

use super::fault::Fault;
use crate::config::{BrokerTarget, Config, SecretUrl};
use crate::look::hunt::results_away;

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
        if let Some(server) = self.server()
            && let Some(why) = results_away(server, broker, &error).await
        {
            return Fault::Away(why);
        }
        error.into()
    }
}
