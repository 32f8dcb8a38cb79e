//! The Redis broker.

mod acl;
mod boot;
mod dial;
mod fault;
mod gate;
mod generation;
mod link;
mod node;
mod options;
mod pool;
#[cfg(test)]
mod tests;
mod tls;
mod topology;
mod url;

use std::io;

pub use acl::acl_rules;
pub use boot::{Exam, ServerExam, examine};
pub use options::{OpenError, RedisOptions};
pub use url::{RedisUrl, UrlError};

/// Runs a future to its end on a thread and a runtime of its own, whatever runs here.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> io::Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(runtime.block_on(future))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("redis-open".into())
            .spawn_scoped(scope, run)?;
        let ended = thread.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
