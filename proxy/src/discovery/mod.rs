//! The client of the operator's discovery stream: it subscribes to what the pod calls, and writes what the operator says
//! into the directory and the proxy's own configuration. Runs on the control thread; carries no traffic of the pod.

mod address;
mod backoff;
mod ledger;
#[cfg(test)]
mod ledger_tests;

pub use address::HostPort;
