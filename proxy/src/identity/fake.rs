//! A mesh's authority for tests: it makes the credentials of any workload, and those that should be refused. The cases in
//! `tests/` use this file too, so that it knows nothing but what is public.

// What one user of this file does not need, another does.
#![allow(dead_code)]

use super::{Clock, Credentials, Identity, TrustBundle};
use conduit_model::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// A clock that stands still until it is set forward; it begins with the time of now.
#[derive(Debug)]
pub(crate) struct FakeClock(AtomicU64);

/// A root with an issuer below it, as the operator's are.
pub(crate) struct Authority {
    pub(crate) domain: TrustDomain,
    pub(crate) clock: Arc<FakeClock>,
    root: CertifiedIssuer<'static, KeyPair>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a certificate says; changed by what a case is about.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) uris: Vec<String>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) extensions: Vec<CustomExtension>,
}

impl FakeClock {
    pub(crate) fn new() -> Arc<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Arc::new(Self(AtomicU64::new(now.as_secs())))
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for FakeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

impl Authority {
    /// An authority of the trust domain `cluster.local`.
    pub(crate) fn new() -> Self {
        Self::of("cluster.local", FakeClock::new())
    }

    pub(crate) fn of(domain: &str, clock: Arc<FakeClock>) -> Self {
        let authority = |name: &str, below: u8| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let key = || KeyPair::generate().unwrap();
        let root = CertifiedIssuer::self_signed(authority("root", 1), key()).unwrap();
        let issuer = CertifiedIssuer::signed_by(authority("issuer", 0), key(), &root).unwrap();
        Self { domain: domain.parse().unwrap(), clock, root, issuer }
    }

    /// Another authority of the same trust domain and time.
    pub(crate) fn successor(&self) -> Self {
        Self::of(self.domain.as_str(), self.clock.clone())
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    pub(crate) fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// Its root alone.
    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        bundle(&[self])
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// A certificate for a service account of the namespace `shop`, for a day.
    pub(crate) fn request(&self, service_account: &str) -> Request {
        self.request_of(&self.domain.identity("shop", service_account))
    }

    pub(crate) fn request_of(&self, id: &SpiffeId) -> Request {
        Request {
            uris: vec![id.to_string()],
            not_before: self.clock.now() - Duration::from_secs(60),
            not_after: self.clock.now() + Duration::from_secs(24 * 3600),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            extensions: Vec::new(),
        }
    }

    /// The certificate of `key`, and the issuer's.
    pub(crate) fn sign(&self, request: Request, key: &impl rcgen::PublicKeyData) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = |uri: String| SanType::URI(Ia5String::try_from(uri).unwrap());
        params.subject_alt_names = request.uris.into_iter().map(uri).collect();
        params.not_before = request.not_before.into();
        params.not_after = request.not_after.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = request.usages;
        params.custom_extensions = request.extensions;
        vec![params.signed_by(key, &self.issuer).unwrap().der().clone(), self.issuer.der().clone()]
    }

    /// A certificate with a name for the operator.
    pub(crate) fn serving(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate, self.issuer.der().clone()], private(&key))
    }

    /// The credentials of a service account of the namespace `shop`, which trust this authority.
    pub(crate) fn credentials(&self, service_account: &str) -> Arc<Credentials> {
        Arc::new(self.make(self.request(service_account), self.bundle()))
    }

    /// Credentials with such a certificate, which trust `bundle`.
    pub(crate) fn make(&self, request: Request, bundle: Arc<TrustBundle>) -> Credentials {
        self.make_by(request, bundle, self.clock())
    }

    /// The same, by another clock.
    pub(crate) fn make_by(&self, request: Request, bundle: Arc<TrustBundle>, clock: Clock) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let chain = self.sign(request, &key);
        Credentials::new(self.domain.clone(), chain, private(&key), bundle, clock).unwrap()
    }

    /// The identity of a service account of the namespace `shop`, certified.
    pub(crate) fn identity(&self, service_account: &str) -> Arc<Identity> {
        let identity = Identity::with_clock(self.domain.clone(), self.clock());
        identity.set(self.make(self.request(service_account), self.bundle())).unwrap();
        identity
    }
}

/// The roots of several authorities, the first of which signs now.
pub(crate) fn bundle(authorities: &[&Authority]) -> Arc<TrustBundle> {
    Arc::new(TrustBundle::from_der(authorities.iter().map(|authority| authority.root())).unwrap())
}

/// The key as rustls takes it.
pub(crate) fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// Who speaks TLS 1.3 and checks nothing, with whatever certificate.
pub(crate) struct Impostor {
    certified: CertifiedKey,
    anonymous: bool,
    protocols: Vec<Vec<u8>>,
}

impl Impostor {
    /// With the certificate that `authority` makes of `request`, offering HTTP/2 of the mesh.
    pub(crate) fn new(authority: &Authority, request: Request) -> Self {
        let key = KeyPair::generate().unwrap();
        let signer = aws_lc_rs::sign::any_supported_type(&private(&key)).unwrap();
        let certified = CertifiedKey::new(authority.sign(request, &key), signer);
        Self { certified, anonymous: false, protocols: vec![b"conduit/h2".to_vec()] }
    }

    pub(crate) fn without_issuer(mut self) -> Self {
        self.certified.cert.truncate(1);
        self
    }

    pub(crate) fn without_certificate(self) -> Self {
        Self { anonymous: true, ..self }
    }

    pub(crate) fn offering(self, protocols: &[&str]) -> Self {
        Self { protocols: protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(), ..self }
    }

    fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(self.certified.clone().into())
    }

    /// Opens a connection to a proxy; whether the proxy seemed to take it.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<client::TlsStream<S>> {
        let builder = ClientConfig::builder_with_provider(cryptography())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let mut config = match self.anonymous {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(self.resolver()),
        };
        config.alpn_protocols = self.protocols.clone();
        let name = ServerName::try_from("proxy").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Takes the connection of a proxy; whether the proxy seemed to go on.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<server::TlsStream<S>> {
        let mut config = ServerConfig::builder_with_provider(cryptography())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(self.resolver());
        config.alpn_protocols = self.protocols.clone();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    }
}

/// What a proxy prefers, and nothing else.
fn cryptography() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

/// Believes every server.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
