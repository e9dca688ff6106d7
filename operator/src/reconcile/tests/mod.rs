//! Reconcilers before an API server that keeps objects in memory: what is there in the end, however it came about.

mod api_server;
mod certificate;
mod identity;
mod trust_bundle;
mod webhook;

use std::time::Duration;

/// Waits until `met`, for as long as nothing that works takes. The clock is paused: waiting costs no time, and whatever is
/// due meanwhile happens.
async fn eventually(what: &str, mut met: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to pass that {what}");
}
