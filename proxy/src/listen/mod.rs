//! Connections below HTTP: listening sockets, where a redirected connection was going, what its first bytes say, what the
//! proxy holds of one, and the relay of bytes that are not to be read.
//!
//! This room does not know why a connection is served, nor what is told about its destination.

pub mod accept;
pub mod client_hello;
pub(crate) mod detect;
pub mod drain;
pub mod gateway;
pub(crate) mod io;
pub mod original;
#[cfg(test)]
pub(crate) mod pairs;
pub(crate) mod relay;
pub mod room;
pub(crate) mod service;
pub mod socket;
pub(crate) mod speaker;
pub(crate) mod tcp_info;
pub mod vanished;
pub(crate) mod witness;
