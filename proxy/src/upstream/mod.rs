//! Where connections go: what discovery told of destinations, the choice among endpoints, and the connections to them.
//!
//! This room does not know who asks (outbound or inbound), and decides nothing from what a request says.

mod balance;
mod candidate;
mod connect;
mod connections;
pub mod directory;
mod ewma;
mod http1;
mod http2;
pub mod own;
mod secure;

pub(crate) use balance::Balancer;
pub(crate) use candidate::{Candidate, Pending};
pub(crate) use connect::{Connector, connect};
pub(crate) use connections::{Connections, Lease};
pub(crate) use ewma::Ewma;
pub(crate) use secure::{Handshakes, Security};
