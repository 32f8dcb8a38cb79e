//! The Redis broker.

mod dial;
mod fault;
mod gate;
mod link;
mod node;
mod options;
mod pool;
#[cfg(test)]
mod tests;
mod tls;
mod topology;
mod url;

pub use options::{OpenError, RedisOptions};
pub use url::{RedisUrl, UrlError};
