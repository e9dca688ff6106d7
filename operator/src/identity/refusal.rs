//! Why a proxy got no certificate, and what it is told of that. One table: gRPC status, metric and log are read from it.
//! Never holds a token.

use super::metrics::Reason;
use crate::{
    credential::CredentialError,
    issuer::{CertifyError, RequestError},
};
use conduit_model::SpiffeId;
use tonic::{Code, Status};

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("authorization: must be given, as `Bearer` and the pod's service-account token")]
    NoToken,
    #[error(transparent)]
    Token(#[from] CredentialError),
    #[error("the pod does not run as the service account of {0}")]
    OtherServiceAccount(SpiffeId),
    #[error("signing_request: {0}")]
    Request(#[from] RequestError),
    #[error("this replica has no issuer yet")]
    NoIssuer,
    #[error(transparent)]
    Certify(#[from] CertifyError),
    #[error("too many proxies ask at the same time; come again in a moment")]
    TooManyCalls,
}

impl Refusal {
    /// The code by which the proxy knows whether to come with something else, or again with the same.
    pub(super) fn code(&self) -> Code {
        match self.reason() {
            Reason::no_token | Reason::token_refused | Reason::other_service_account => Code::Unauthenticated,
            Reason::request => Code::InvalidArgument,
            Reason::token_unchecked | Reason::no_issuer | Reason::issuer_expired => Code::Unavailable,
            Reason::too_many_calls => Code::ResourceExhausted,
            Reason::failed => Code::Internal,
        }
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::NoToken => Reason::no_token,
            Self::Token(CredentialError::Refused(_)) => Reason::token_refused,
            Self::Token(CredentialError::Unavailable(_)) => Reason::token_unchecked,
            Self::OtherServiceAccount(_) => Reason::other_service_account,
            Self::Request(_) => Reason::request,
            Self::NoIssuer => Reason::no_issuer,
            Self::Certify(error) => reason_of(error),
            Self::TooManyCalls => Reason::too_many_calls,
        }
    }
}

fn reason_of(error: &CertifyError) -> Reason {
    match error {
        CertifyError::OtherIdentity { .. } => Reason::request,
        CertifyError::IssuerNotValid(_) => Reason::issuer_expired,
        CertifyError::Sign(_) | CertifyError::Randomness => Reason::failed,
    }
}

impl From<&Refusal> for Status {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.code(), refusal.to_string())
    }
}
