//! Gives proxies the certificates by which the mesh knows their workloads: the server of the identity service, and what
//! this process itself serves with and trusts.
//!
//! Whom a certificate is for comes from the token that the API server issued to the pod; the request proves only that the
//! proxy holds the key. This room must not know how a certificate is made or where the issuer is kept.

mod following;
mod metrics;
mod refusal;
mod server;

#[cfg(test)]
mod tests;

pub use following::Following;
pub use metrics::Metrics;
pub use server::{Identity, Parts, Settings};
