//! The whole tree on the broker in memory. Each test says what it wants to see and how it provokes it.

use std::future::Future;
use std::time::Duration;

mod hello;

/// Runs `test` in an actix system, for at most a minute.
fn run<F: Future>(test: F) -> F::Output {
    actix_rt::System::new().block_on(async {
        let in_time = tokio::time::timeout(Duration::from_secs(60), test).await;
        in_time.expect("the test hangs")
    })
}
