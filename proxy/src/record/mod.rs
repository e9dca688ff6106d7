//! What is counted of connections and requests: one record for each, made at its start and closed exactly once.
//!
//! Names and labels are Linkerd's, so that boards and tools work unchanged; what Linkerd has no name for is `conduit_*`.
//! Label values come from objects that exist, never from traffic, and the number of series has a bound.
//!
//! Speed: a series is found by its labels once, when a configuration or an endpoint becomes known, and held by pointer
//! from then on; counting a request is a few uncontended atomic additions.

pub mod access;
mod collect;
pub(crate) mod detection;
pub mod labels;
pub mod metrics;
pub mod request;
pub mod series;
pub mod tcp;

pub use metrics::Metrics;
