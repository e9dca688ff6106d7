//! How a handshake between proxies fails: in words that say what was expected, and by a finite reason for metrics.

use super::{
    certificate::CertificateFault,
    verify::{Expected, PeerFault, carried},
};
use conduit_model::SpiffeId;
use rustls::AlertDescription;
use std::io;

/// Why there is no TLS connection with a peer.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// This proxy's own certificate is over: it neither opens nor takes connections of the mesh.
    #[error("this proxy's own certificate has expired")]
    OwnCertificateExpired,
    /// The peer proves to be somebody else.
    #[error("expected {expected}, found {found}")]
    WrongPeer {
        /// Who was expected.
        expected: Expected,
        /// Who it is.
        found: SpiffeId,
    },
    /// The peer's certificate proves nothing.
    #[error("the peer's certificate: {0}")]
    PeerCertificate(CertificateFault),
    /// The peer speaks TLS, but not as a proxy of the mesh.
    #[error(
        "expected one of conduit/h2, conduit/http1 and conduit/tcp by ALPN (RFC 7301), and the peer agreed to none"
    )]
    NoMeshAlpn,
    /// The handshake ended otherwise; the peer's alert says so where it was the peer's doing.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The peer did not finish the handshake.
    #[error("the TLS handshake was not over in time")]
    Timeout,
}

impl TlsError {
    /// The error as a label of metrics: one of six.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OwnCertificateExpired => "own_certificate_expired",
            Self::WrongPeer { .. } => "wrong_peer",
            Self::PeerCertificate(_) => "peer_certificate",
            Self::NoMeshAlpn => "no_mesh_alpn",
            Self::Handshake(_) => "handshake",
            Self::Timeout => "timeout",
        }
    }

    /// What the peer is told of it (RFC 8446 section 6.2), where the handshake itself was over.
    pub(super) fn alert(&self) -> AlertDescription {
        match self {
            Self::PeerCertificate(CertificateFault::Validity(_)) => AlertDescription::CertificateExpired,
            Self::PeerCertificate(_) | Self::WrongPeer { .. } => AlertDescription::CertificateUnknown,
            Self::NoMeshAlpn => AlertDescription::NoApplicationProtocol,
            Self::OwnCertificateExpired | Self::Handshake(_) | Self::Timeout => AlertDescription::InternalError,
        }
    }

    /// A handshake that could not begin.
    pub(super) fn tls(error: rustls::Error) -> Self {
        Self::Handshake(io::Error::other(error))
    }

    /// Reads what rustls says of a handshake.
    pub(super) fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) if let Some(fault) = carried(tls) => fault.clone().into(),
            Some(rustls::Error::InvalidCertificate(fault)) => {
                Self::PeerCertificate(CertificateFault::Unreadable(format!("{fault:?}")))
            }
            Some(rustls::Error::NoCertificatesPresented) => Self::PeerCertificate(CertificateFault::Missing),
            Some(
                rustls::Error::NoApplicationProtocol
                | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol),
            ) => Self::NoMeshAlpn,
            Some(_) | None => Self::Handshake(error),
        }
    }
}

/// The alert by which a peer refuses a handshake that this side took for over: of those that only a handshake is ended by
/// (RFC 8446 section 6.2). Under TLS 1.3 a client has sent its last word, and may have sent more, before it hears that its
/// certificate is refused.
pub(crate) fn refusal(error: &io::Error) -> Option<AlertDescription> {
    use AlertDescription as Alert;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(
            alert @ (Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            // Of a signature, or of a certificate below a root of the same name.
            | Alert::DecryptError
            | Alert::HandshakeFailure
            | Alert::NoApplicationProtocol
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate),
        )) => Some(*alert),
        Some(_) | None => None,
    }
}

impl From<PeerFault> for TlsError {
    fn from(fault: PeerFault) -> Self {
        match fault {
            PeerFault::Certificate(fault) => Self::PeerCertificate(fault),
            PeerFault::Wrong { expected, found } => Self::WrongPeer { expected, found },
        }
    }
}
