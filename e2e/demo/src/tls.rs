//! The application's own TLS: a certificate made at start, and a proof that nobody between ends it.
//!
//! The server names its certificate's fingerprint in a header of every answer; a client compares it with the
//! certificate that it saw in the handshake. This file must not know what is served.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, Response};
use rcgen::generate_simple_self_signed;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::serve;

/// The header that carries the SHA-256 fingerprint of the server's certificate, in hexadecimal.
pub(crate) const FINGERPRINT: &str = "x-certificate-sha256";

/// A certificate for `conduit-demo`, signed by itself.
pub(crate) struct SelfSigned {
    config: Arc<ServerConfig>,
    fingerprint: HeaderValue,
}

impl SelfSigned {
    /// # Errors
    /// The key cannot be made.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let made = generate_simple_self_signed(["conduit-demo".to_owned()])?;
        let certificate = made.cert.der().clone();
        let fingerprint = HeaderValue::try_from(fingerprint(&certificate))?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), fingerprint })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.clone())
    }

    /// Adds [`FINGERPRINT`] to an answer.
    pub(crate) fn stamp<B>(&self) -> impl Fn(Response<B>) -> std::future::Ready<Response<B>> + Clone + use<B> {
        let fingerprint = self.fingerprint.clone();
        move |mut response| {
            response.headers_mut().insert(HeaderName::from_static(FINGERPRINT), fingerprint.clone());
            std::future::ready(response)
        }
    }
}

/// The SHA-256 digest of a certificate, in hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Serves HTTP behind TLS until `stop`, then finishes what was accepted.
pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: axum::Router, stop: CancellationToken) {
    let draining = stop.clone();
    serve::connections(listener, stop, move |stream, peer| {
        let (acceptor, router, draining) = (acceptor.clone(), router.clone(), draining.clone());
        async move {
            match acceptor.accept(stream).await {
                Ok(stream) => serve::http_connection(stream, peer, router, draining).await,
                Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            }
        }
    })
    .await;
}

/// A client that takes any certificate: the caller compares the one that it saw with [`FINGERPRINT`].
///
/// # Errors
/// Never with this provider; the library's signature allows for others.
pub(crate) fn client() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::checked_by(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any certificate whose key the peer proves to have.
#[derive(Debug)]
pub(crate) struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    pub(crate) fn checked_by(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A client may show none at all.
impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
