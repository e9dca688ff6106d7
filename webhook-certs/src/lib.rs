//! Serving certificates that issue, rotate and reload themselves.
//!
//! An operator that serves TLS to the API server and to proxies needs an authority that they trust and a certificate
//! that it signed. This crate makes both ([`Stored`]), says when a part of them has to be made anew ([`decide`]), and
//! hands the newest certificate to rustls without a restart ([`ServingCertificate`]).
//!
//! It must not know Kubernetes, read a clock or do I/O: what is kept is a map of PEM entries, time is an argument.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod authority;
mod entries;
mod leaf;
mod own;
mod resolver;
mod rotation;
mod settle;
mod stored;

pub use authority::{Authority, AuthorityProfile, BACKDATING};
pub use entries::{Entries, EntryError, Pair, Parts, Read, TrustedAuthority, certificates, to_pem};
pub use leaf::Leaf;
pub use own::OwnCertificate;
pub use resolver::{ServingCertificate, server_config};
pub use rotation::{
    AUTHORITY_LIFETIME, AUTHORITY_RENEWAL, LEAF_LIFETIME, LEAF_RENEWAL, OVERLAP, Step, apply, decide, settle,
};
pub use settle::{Decision, Settled, settle_by};
pub use stored::{Stored, read};

/// Why something could not be issued or served.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A name that a certificate should be valid for is none.
    #[error("{name:?} cannot stand on a certificate: expected a DNS name in ASCII")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// The cryptographic library refused; names what was being made.
    #[error("cannot issue {what}: {source}")]
    Issue {
        /// What was being made.
        what: &'static str,
        /// The library's answer.
        source: rcgen::Error,
    },
    /// TLS refused the certificate or its key.
    #[error("cannot serve with the certificate: {0}")]
    Serve(#[from] rustls::Error),
}
