//! Where connections go: what discovery told of destinations, the choice among endpoints, and the connections to them.
//!
//! This room does not know who asks (outbound or inbound), and reads no request.

pub mod directory;
pub mod own;
