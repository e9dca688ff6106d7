//! The call for a certificate: the operator's identity service, over a connection of its own, with the token of the pod.

use super::{
    bundle::TrustBundle,
    files::{self, FileError},
    operator::{ConnectError, HostPort, Operator},
    tls::Clock,
};
use conduit_model::wire::identity::{CertifyRequest, CertifyResponse, identity_client::IdentityClient};
use std::{path::PathBuf, time::Duration};
use tokio::time::timeout;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
};

/// How long a certificate may take, from the look-up of the operator's name to its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a chain, and a bundle of at most 64 roots.
const MESSAGE_LIMIT: usize = 1024 * 1024;

/// Whom to ask, and what proves the workload.
#[derive(Clone, Debug)]
pub struct IdentityService {
    /// Where the operator serves identity.
    pub operator: Operator,
    /// File with a service-account token of the audience [`conduit_model::settings::TOKEN_AUDIENCE`], read again for
    /// each certificate.
    pub token_file: PathBuf,
}

/// Why the operator gave no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertifyError {
    /// There is no token.
    #[error("{0}")]
    Token(#[from] FileError),
    /// There is no connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The operator refuses.
    #[error("{0} refuses a certificate: {code:?}: {message}", code = .1.code(), message = .1.message())]
    Refused(HostPort, Box<Status>),
    /// Nothing failed, and nothing happened.
    #[error("{0} has not answered in {limit} s", limit = TIMEOUT.as_secs())]
    Timeout(HostPort),
}

impl IdentityService {
    /// Asks for a certificate with the request in DER. The operator's own must lead to a root of the trust file or of
    /// `bundle`.
    pub(super) async fn certify(
        &self,
        signing_request: Vec<u8>,
        bundle: Option<&TrustBundle>,
        clock: &Clock,
    ) -> Result<CertifyResponse, CertifyError> {
        let call = Box::pin(self.certify_without_limit(signing_request, bundle, clock));
        timeout(TIMEOUT, call).await.unwrap_or_else(|_| Err(CertifyError::Timeout(self.operator.address.clone())))
    }

    async fn certify_without_limit(
        &self,
        signing_request: Vec<u8>,
        bundle: Option<&TrustBundle>,
        clock: &Clock,
    ) -> Result<CertifyResponse, CertifyError> {
        let token = bearer(&files::token(&self.token_file)?);
        let connection = self.operator.connect(bundle, clock).await?;
        let mut call = Request::new(CertifyRequest { signing_request });
        call.metadata_mut().insert("authorization", token);
        let mut client =
            IdentityClient::with_origin(connection.calls, connection.origin).max_decoding_message_size(MESSAGE_LIMIT);
        let refused = |status| CertifyError::Refused(self.operator.address.clone(), Box::new(status));
        let response = client.certify(call).await.map_err(refused)?.into_inner();
        drop(connection.task);
        Ok(response)
    }
}

fn bearer(token: &str) -> MetadataValue<Ascii> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().expect("a token is read as visible ASCII characters");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
#[path = "certify_tests.rs"]
mod tests;
