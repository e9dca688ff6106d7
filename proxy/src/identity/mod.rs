//! Who this proxy is: its certificate and key, whom it trusts, the handshakes with peers, and how it gets all of that from
//! the operator. Knows TLS and what the operator's identity service says, and nothing of what connections carry.

mod bundle;
mod certificate;
mod certify;
mod credentials;
mod error;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod fake_operator;
mod files;
#[cfg(test)]
mod handshake_tests;
mod holder;
pub mod metrics;
mod operator;
mod renew;
mod schedule;
mod sessions;
mod tls;
mod verify;

pub use bundle::{BundleError, Root, TrustBundle};
pub use certificate::{CertificateFault, Validity, rfc3339};
pub use certify::IdentityService;
pub use credentials::{Alpn, Credentials, CredentialsError, HANDSHAKE_TIMEOUT, VerifiedPeer};
pub use error::TlsError;
pub(crate) use error::refusal;
pub use files::FileError;
pub use holder::{Identity, Progress};
pub use operator::{ConnectError, HostPort, Operator};
pub use renew::run;
pub use tls::Clock;
pub use verify::Expected;
