//! Where the server listens: the address that was asked for, or one that is free where nobody asked.

use std::io;
use std::net::{SocketAddr, TcpListener};

use slog::{Logger, warn};

use crate::config::HttpConfig;

/// Binds the configured address. `None` when nobody asked for one and this machine gives none at all.
///
/// # Errors
/// What the system said of an address that was asked for, for people.
pub(super) fn bind(config: &HttpConfig, log: &Logger) -> Result<Option<TcpListener>, String> {
    let wanted = config.address;
    let refused = match TcpListener::bind(wanted) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    if config.is_asked_for {
        let advice = match refused.kind() {
            io::ErrorKind::AddrInUse => {
                "; another process serves there: choose another port, or 0 for a free one"
            }
            _ => "",
        };
        return Err(format!(
            "the HTTP API cannot be served at {wanted}: {refused}{advice}"
        ));
    }
    match TcpListener::bind(SocketAddr::new(wanted.ip(), 0)) {
        Ok(listener) => {
            warn!(log, "the default address of the HTTP API cannot be used; a free port is taken";
                "default" => %wanted, "error" => %refused);
            Ok(Some(listener))
        }
        Err(error) => {
            warn!(log, "the HTTP API is not served"; "error" => %error);
            Ok(None)
        }
    }
}
