//! Tells proxies what their traffic should do: the server of the discovery stream.
//!
//! What is told is compiled once per topic and shared by all who subscribe to it; a stream keeps no copy, only which
//! version it sent last. A topic is compiled again when a fact that it depends on changes, and sent only if it says
//! something else then. Whose stream it is comes from its credential alone. This room must not know what makes a
//! configuration, nor where objects come from.

mod mailbox;
mod metrics;
mod server;
mod session;
mod snapshot;
mod stream;
mod topics;

#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use server::{Discovery, Settings};
