//! Connections as they come in: listening sockets, where a redirected connection was going, what its first bytes say,
//! and the relay of bytes that are not to be read.
//!
//! This room does not know why a connection is served, nor what is told about its destination.

pub mod accept;
pub mod detect;
pub mod drain;
pub mod original;
pub mod relay;
pub mod socket;
pub mod speaker;
