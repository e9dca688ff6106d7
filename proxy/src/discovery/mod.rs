//! The client of the operator's discovery stream: it subscribes to what the pod calls, and writes what the operator says
//! into the directory and the proxy's own configuration. Runs on the control thread; carries no traffic of the pod.

mod backoff;
mod client;
#[cfg(test)]
mod client_tests;
mod connect;
#[cfg(test)]
pub(crate) mod fake;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod metrics;

pub use client::{Client, Config, Inquiry, Snapshot, Versions};
pub use metrics::Metrics;
