//! The mesh's certificate authority: what is kept of it, when a part of it rotates, and what it signs.
//!
//! A *root* signs an *issuer*, which signs the certificates of workloads and the operator's own on its discovery and
//! identity ports; `docs/decisions/0005-identity.md` says why. [`Stored`] is what is kept, [`settle`] makes what is due,
//! and an [`Issuer`] is the immutable snapshot that signs. What it signs for a workload comes from a checked credential:
//! a [`SigningRequest`] gives its public key and nothing else.
//!
//! Must not know Kubernetes, read a clock or do I/O: what is kept is a map of PEM entries, time is an argument.

mod bundle;
mod lifetimes;
mod own;
mod pod;
mod request;
mod rotation;
mod signer;
mod stored;

pub use bundle::TrustBundle;
pub use conduit_webhook_certs::{Decision, Read, Settled};
pub use lifetimes::{LifetimeError, Lifetimes, Periods};
pub use pod::{PodBinding, PodBindingError};
pub use request::{MAX_REQUEST_BYTES, RequestError, SigningRequest};
pub use rotation::{Rotate, Step, decide, settle};
pub use signer::{Certified, CertifyError, Issuer, Validity};
pub use stored::{Stored, read};

#[cfg(test)]
mod tests;
