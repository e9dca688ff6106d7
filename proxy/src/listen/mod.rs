//! Connections as they come in: listening sockets, where a redirected connection was going, what its first bytes say,
//! and the relay of bytes that are not to be read.
//!
//! This room does not know why a connection is served, nor what is told about its destination.

pub mod accept;
pub mod client_hello;
pub(crate) mod detect;
pub mod drain;
pub mod gateway;
pub mod original;
pub(crate) mod relay;
pub(crate) mod service;
pub mod socket;
pub(crate) mod speaker;
pub(crate) mod tcp_info;
