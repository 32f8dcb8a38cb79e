//! What Redis says, as what a caller can do next.

use celeriac_actors::ports::BrokerError;
use redis::{ErrorKind, RedisError};

/// Returns the error as the port has it.
pub(super) fn broker_error(error: &RedisError) -> BrokerError {
    let text = error.to_string();
    match error.code() {
        Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS") => BrokerError::Refused(text),
        Some("GONE") => BrokerError::Gone,
        Some("ASTRAY" | "TOOMANY") => BrokerError::Invalid(text),
        _ => BrokerError::Unavailable(text),
    }
}

/// Returns whether the connection is of no more use after this.
pub(super) fn breaks(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io || error.is_timeout() || error.is_connection_dropped()
}
