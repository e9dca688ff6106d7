//! Every way in which the proxy itself ends a request, as one error with the side at fault, and one table that turns it
//! into an HTTP status, a gRPC code, a `conduit-error` code and a log level.
//!
//! Nothing here knows which request failed or does anything about it but log it.

mod failure;
mod report;

pub use failure::{FAILURES, Failure, Row, Side};
pub(crate) use report::{Reports, Seldom};
