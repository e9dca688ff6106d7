//! One certificate with one trust bundle, and the handshakes with peers under them.
//!
//! Immutable and swapped whole: a new certificate or bundle makes new credentials, with a new key for the tickets that the
//! server gives and no ticket of a client. So a session ends, for new connections, with what it was opened under.
//!
//! Credentials take about 4 KB, the configuration for one expected identity less than 1 KB, and each ticket about 2 KB;
//! `sessions` bounds how many there are, about half a megabyte together. Peers that present and give what is as long as may
//! be kept make each ticket four times as large.

use super::{
    bundle::TrustBundle,
    certificate::{CertificateFault, Leaf},
    error::TlsError,
    sessions::{Configs, Tickets},
    tls::{self, Clock},
    verify::{Expected, PeerFault, PeerVerifier, Side, system_time},
};
use crate::tls::{
    TlsStream,
    handshake::{self, Handshaken},
};
use conduit_model::{
    SpiffeId, TrustDomain,
    mtls::{ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP},
};
use rustls::{
    ClientConfig, CommonState, ServerConfig, client::Resumption, crypto::aws_lc_rs::Ticketer,
    server::NoServerSessionStorage, sign::CertifiedKey, sign::SingleCertAndKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// How long a client's handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take for its part. It has taken the connection, so it is near; one that is frozen must not keep a
/// request from another that is not.
const SERVER_TIMEOUT: Duration = Duration::from_secs(3);
/// Tickets that a server gives a connection (RFC 8446 section 4.6.1): each connection spends one.
const TICKETS: usize = 1;

/// What a connection between proxies carries, agreed by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/2.
    Http2,
    /// HTTP/1.
    Http1,
    /// Bytes that are not read.
    Tcp,
}

/// A peer that has proved its identity in a handshake. Nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VerifiedPeer(SpiffeId);

/// One certificate with one trust bundle.
pub struct Credentials {
    leaf: Leaf,
    domain: TrustDomain,
    certified: Arc<CertifiedKey>,
    resolver: Arc<SingleCertAndKey>,
    bundle: Arc<TrustBundle>,
    clock: Clock,
    server: Arc<ServerConfig>,
    clients: Configs,
}

/// What cannot be credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The certificate does not say who holds it.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// The certificate is for somebody of another trust domain.
    #[error("expected an identity of the trust domain {expected}, found {found}")]
    TrustDomain {
        /// The proxy's own.
        expected: TrustDomain,
        /// Whom the certificate names.
        found: SpiffeId,
    },
    /// The key is not the certificate's, or the cryptographic library fails.
    #[error("certificate and key: {0}")]
    Tls(#[from] rustls::Error),
}

impl Alpn {
    /// As it stands in the handshake.
    pub fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http2 => ALPN_HTTP2,
            Self::Http1 => ALPN_HTTP1,
            Self::Tcp => ALPN_TCP,
        }
    }

    fn of(connection: &CommonState) -> Result<Self, TlsError> {
        let agreed = connection.alpn_protocol();
        let known = [Self::Http2, Self::Http1, Self::Tcp].into_iter().find(|alpn| agreed == Some(alpn.protocol()));
        known.ok_or(TlsError::NoMeshAlpn)
    }
}

impl VerifiedPeer {
    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.0
    }
}

impl Credentials {
    /// Credentials of a workload of `domain`: its certificate and what leads to a root, the key, and whom to trust.
    /// Whether the chain leads to that bundle is for others to decide ([`Credentials::verify_own`]).
    ///
    /// # Errors
    /// The certificate is of no workload of `domain`, or the key is not its.
    pub fn new(
        domain: TrustDomain,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        bundle: Arc<TrustBundle>,
        clock: Clock,
    ) -> Result<Self, CredentialsError> {
        let leaf = Leaf::read(chain.first().ok_or(CertificateFault::Missing)?)?;
        if leaf.id.trust_domain() != domain.as_str() {
            return Err(CredentialsError::TrustDomain { expected: domain, found: leaf.id });
        }
        let certified = Arc::new(CertifiedKey::from_der(chain, key, tls::provider())?);
        Ok(Self::assemble(leaf, domain, certified, bundle, clock)?)
    }

    /// The same certificate with another bundle.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn with_bundle(&self, bundle: Arc<TrustBundle>) -> Result<Self, CredentialsError> {
        let Self { leaf, domain, certified, clock, .. } = self;
        Ok(Self::assemble(leaf.clone(), domain.clone(), certified.clone(), bundle, clock.clone())?)
    }

    fn assemble(
        leaf: Leaf,
        domain: TrustDomain,
        certified: Arc<CertifiedKey>,
        bundle: Arc<TrustBundle>,
        clock: Clock,
    ) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(SingleCertAndKey::from(certified.clone()));
        let verifier = PeerVerifier { bundle: bundle.clone(), expected: Expected::AnyOf(domain.clone()) };
        let mut server =
            tls::server(&clock)?.with_client_cert_verifier(Arc::new(verifier)).with_cert_resolver(resolver.clone());
        server.alpn_protocols = [Alpn::Http2, Alpn::Http1, Alpn::Tcp].map(|alpn| alpn.protocol().to_vec()).into();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = Ticketer::new()?;
        server.send_tls13_tickets = TICKETS;
        server.enable_secret_extraction = true;
        let (server, clients) = (Arc::new(server), Configs::default());
        Ok(Self { leaf, domain, certified, resolver, bundle, clock, server, clients })
    }

    /// Who this proxy is.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// From when the certificate is valid.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.validity.not_before
    }

    /// Until when the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.validity.not_after
    }

    /// Whether the certificate is over.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.leaf.validity.is_over(now)
    }

    /// The certificate, then those that lead to a root, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The same in PEM (RFC 7468).
    pub fn chain_pem(&self) -> String {
        let pem = |certificate: &CertificateDer<'_>| pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()));
        self.chain().iter().map(pem).collect()
    }

    /// Whom peers are verified with.
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// Builds the path from the own certificate to a root of the bundle, for both sides of a connection; the root's
    /// place, where 0 is the one that signs now.
    ///
    /// # Errors
    /// There is no such path now.
    pub fn verify_own(&self) -> Result<usize, CertificateFault> {
        let (leaf, intermediates) = self.chain().split_first().ok_or(CertificateFault::Missing)?;
        let now = self.now().map_err(|e| CertificateFault::Chain(e.to_string()))?;
        self.bundle.verify(leaf, intermediates, Side::Client.usage(), now)?;
        self.bundle.verify(leaf, intermediates, Side::Server.usage(), now)
    }

    /// The certificate with its key, as a client presents it.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        self.resolver.clone()
    }

    /// By what clock certificates are valid.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens TLS on `stream`, a connection to `address`, with nobody but `expected`.
    ///
    /// # Errors
    /// Whatever keeps either side from proving itself, and a peer that does not agree to `alpn`.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        address: IpAddr,
        expected: &SpiffeId,
        alpn: Alpn,
    ) -> Result<TlsStream<S>, TlsError> {
        self.check_own()?;
        let config = self.clients.of(expected, || self.client(expected)).map_err(TlsError::tls)?;
        let name = ServerName::IpAddress(address.into());
        let handshake = Box::pin(handshake::connect(stream, config, name, vec![alpn.protocol().to_vec()]));
        let handshaken = timeout(SERVER_TIMEOUT, handshake).await.map_err(|_| TlsError::Timeout)?;
        let handshaken = handshaken.map_err(TlsError::of)?;
        let state = handshaken.state();
        let examined = self.examine(state, &Expected::Workload(expected.clone()));
        let agreed = examined.and_then(|_| if Alpn::of(state)? == alpn { Ok(()) } else { Err(TlsError::NoMeshAlpn) });
        Ok(settle(handshaken, agreed)?.0)
    }

    /// Takes a connection of a peer: the stream, what it carries, and who the peer is.
    ///
    /// # Errors
    /// Whatever keeps either side from proving itself, and a client that offers no protocol of the mesh.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<(TlsStream<S>, Alpn, VerifiedPeer), TlsError> {
        self.check_own()?;
        let handshake = Box::pin(handshake::accept(stream, self.server.clone()));
        let handshaken = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| TlsError::Timeout)?;
        let handshaken = handshaken.map_err(TlsError::of)?;
        let state = handshaken.state();
        let examined = self.examine(state, &Expected::AnyOf(self.domain.clone()));
        let agreed = examined.and_then(|peer| Ok((Alpn::of(state)?, peer)));
        let (stream, (alpn, peer)) = settle(handshaken, agreed)?;
        Ok((stream, alpn, peer))
    }

    fn client(&self, expected: &SpiffeId) -> Result<ClientConfig, rustls::Error> {
        let verifier = PeerVerifier { bundle: self.bundle.clone(), expected: Expected::Workload(expected.clone()) };
        let mut client = tls::client(&self.clock)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.resolver.clone());
        client.enable_sni = false;
        client.enable_secret_extraction = true;
        client.resumption = Resumption::store(Arc::new(Tickets::default()));
        Ok(client)
    }

    /// Looks whether the certificate is over.
    ///
    /// # Errors
    /// It is, or the time cannot be told.
    pub fn check_own(&self) -> Result<(), TlsError> {
        let now = self.now().map_err(TlsError::tls)?;
        if self.is_expired(system_time(now)) { Err(TlsError::OwnCertificateExpired) } else { Ok(()) }
    }

    /// Looks at the peer of a handshake that has succeeded: its certificate comes from the first one where the session
    /// was resumed, and may have expired since.
    fn examine(&self, connection: &CommonState, expected: &Expected) -> Result<VerifiedPeer, TlsError> {
        let certificate = connection.peer_certificates().and_then(<[_]>::first).ok_or(CertificateFault::Missing);
        let leaf = certificate.and_then(Leaf::read).map_err(PeerFault::Certificate)?;
        let now = self.now().map_err(TlsError::tls)?;
        expected.check(&leaf, system_time(now))?;
        Ok(VerifiedPeer(leaf.id))
    }

    fn now(&self) -> Result<UnixTime, rustls::Error> {
        self.clock.current_time().ok_or(rustls::Error::FailedToGetCurrentTime)
    }
}

/// The stream of a handshake with what was found of its peer; one that is none to speak with is told so.
fn settle<S: AsyncRead + AsyncWrite + Unpin, C: handshake::Connection, T>(
    handshaken: Handshaken<S, C>,
    found: Result<T, TlsError>,
) -> Result<(TlsStream<S>, T), TlsError> {
    let stream = handshaken.into_stream().map_err(TlsError::tls)?;
    match found {
        Ok(found) => Ok((stream, found)),
        Err(error) => {
            stream.refuse(error.alert());
            Err(error)
        }
    }
}

/// Whose they are and until when. The key is not shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("leaf", &self.leaf).finish_non_exhaustive()
    }
}
