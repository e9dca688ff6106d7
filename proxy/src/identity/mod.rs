//! Who this proxy is: its certificate and key, whom it trusts, the handshakes with peers, and how it gets all of that from
//! the operator. Knows TLS and what the operator's identity service says, and nothing of what connections carry.

mod bundle;
mod certificate;
mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod handshake_tests;
mod holder;
mod operator;
mod sessions;
mod tls;
mod verify;

pub use bundle::{BundleError, TrustBundle};
pub use certificate::{CertificateFault, Validity};
pub use credentials::{Alpn, Credentials, CredentialsError, HANDSHAKE_TIMEOUT, VerifiedPeer};
pub use error::TlsError;
pub use holder::{Identity, Progress};
pub use operator::{CredentialError, OperatorCredentials};
pub use tls::Clock;
pub use verify::Expected;
