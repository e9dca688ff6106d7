//! HTTP as the proxy carries it: its connections to clients, the bodies that pass, the headers that must not, and the
//! answers that the proxy gives itself.
//!
//! This room does not know where a request goes.

pub(crate) mod body;
pub(crate) mod headers;
pub mod http1;
pub(crate) mod http2;
pub(crate) mod incoming;
pub(crate) mod limits;
pub(crate) mod outgoing;
pub(crate) mod respond;
pub(crate) mod tunnel;
