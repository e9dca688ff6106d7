//! Who is at the other end: turns a bearer token, or the certificate of a handshake, into a proven workload.
//!
//! A [`ProvenWorkload`] can be made in this room only, so whoever holds one has checked a credential. This room must not
//! know what a workload is told.

mod certificate;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
mod token_review;
mod tokens_file;

pub use certificate::{Authenticated, HandshakeRefusal, MeshClients, RootsError};
pub use token_review::TokenReviews;
pub use tokens_file::TokensFile;

use futures::future::BoxFuture;

/// The pod whose credential was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProvenWorkload {
    namespace: String,
    service_account: String,
    pod: String,
    pod_uid: Option<String>,
}

impl ProvenWorkload {
    /// Namespace of the pod and of its service account.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the service account that the pod runs as.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// Name of the pod.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Uid of the pod, by which it differs from another of the same name (a StatefulSet's). None where tokens come from a
    /// file.
    pub fn pod_uid(&self) -> Option<&str> {
        self.pod_uid.as_deref()
    }
}

/// Why a token proved nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The token was checked and is not good: the peer has to come with another.
    #[error("the token was refused: {0}")]
    Refused(String),
    /// The token could not be checked: the peer may come again with the same.
    #[error("the token could not be checked: {0}")]
    Unavailable(String),
}

/// Checks bearer tokens.
pub trait CheckToken: Send + Sync {
    /// The workload that `token` proves.
    ///
    /// # Errors
    ///
    /// See [`CredentialError`].
    fn check<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ProvenWorkload, CredentialError>>;
}
