//! Whom the proxy takes for a peer: the one rule for both sides of a connection, and its two forms for rustls.
//!
//! A peer's chain must lead to a root of the bundle, its certificate must be for the side that it takes, and its identity
//! must be the expected one: the endpoint's own where the proxy is the client, any of the trust domain where it is the
//! server. A resumed session (RFC 8446 section 2.2) presents no chain, so that identity and validity are looked at once
//! more after every handshake.

use super::{
    bundle::TrustBundle,
    certificate::{CertificateFault, Leaf},
    tls,
};
use conduit_model::{SpiffeId, TrustDomain};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{fmt, sync::Arc, time::SystemTime};
use webpki::KeyUsage;

/// Who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This workload alone.
    Workload(SpiffeId),
    /// Any workload of the trust domain.
    AnyOf(TrustDomain),
}

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PeerFault {
    /// Its certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// It proves to be somebody else.
    #[error("expected {expected}, found {found}")]
    Wrong { expected: Expected, found: SpiffeId },
}

/// Which side a certificate is used on.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Client,
    Server,
}

/// Verifies peers by a bundle.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) bundle: Arc<TrustBundle>,
    pub(super) expected: Expected,
}

impl Side {
    /// What a certificate must be for, where it says what it is for (RFC 5280 section 4.2.1.12).
    pub(super) fn usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

impl Expected {
    /// Whether the holder of `leaf` is this one, and its certificate valid at `now`.
    pub(super) fn check(&self, leaf: &Leaf, now: SystemTime) -> Result<(), PeerFault> {
        let right = match self {
            Self::Workload(id) => *id == leaf.id,
            Self::AnyOf(domain) => leaf.id.trust_domain() == domain.as_str(),
        };
        if !right {
            return Err(PeerFault::Wrong { expected: self.clone(), found: leaf.id.clone() });
        }
        Ok(leaf.validity.check(now)?)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => id.fmt(f),
            Self::AnyOf(domain) => write!(f, "a workload of the trust domain {domain}"),
        }
    }
}

impl PeerVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), PeerFault> {
        self.bundle.verify(leaf, intermediates, side.usage(), now)?;
        self.expected.check(&Leaf::read(leaf)?, system_time(now))
    }
}

/// The fault as rustls carries it, so that it can be found again in the handshake's error.
fn carry(fault: PeerFault) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
}

/// The fault that [`carry`] put into a handshake's error.
pub(super) fn carried(error: &rustls::Error) -> Option<&PeerFault> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(fault))) => fault.downcast_ref(),
        _ => None,
    }
}

/// The same moment for the standard library.
pub(super) fn system_time(time: UnixTime) -> SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_secs(time.as_secs())
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(leaf, intermediates, Side::Server, now).map_err(carry)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &tls::provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &tls::provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Client authentication is mandatory, which is the default of the trait.
impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A proxy has one certificate and needs no hint which.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(leaf, intermediates, Side::Client, now).map_err(carry)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
