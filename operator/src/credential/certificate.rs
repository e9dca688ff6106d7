//! Certificates of the mesh, by which proxies prove their workload in the handshake of a connection. Must not know who
//! issued them, nor what the connection is for.
//!
//! TLS 1.3 alone, and no resumption: a session that goes on with a ticket shows no certificate, and a proxy has one
//! connection for an hour. The roots are swapped whole; a connection is judged by those of its beginning.

use super::ProvenWorkload;
use crate::issuer::PodBinding;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use conduit_model::{SpiffeId, TrustDomain};
use conduit_webhook_certs::ServingCertificate;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, kx_group},
    },
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use std::{io, sync::Arc};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Takes connections of clients that hold a certificate of the mesh, and refuses all others.
#[derive(Debug)]
pub struct MeshClients {
    trust_domain: TrustDomain,
    serving: Arc<ServingCertificate>,
    alpn: Vec<u8>,
    tls: ArcSwapOption<ServerConfig>,
}

/// Who is at the other end of a connection, as its handshake has proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    workload: ProvenWorkload,
    not_after: OffsetDateTime,
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeRefusal {
    /// Nobody can be verified yet.
    #[error("there are no roots of the mesh yet")]
    NoRoots,
    /// The client has shown none.
    #[error("the client came without a certificate")]
    NoCertificate,
    /// It has ended, or not yet begun.
    #[error("the client's certificate is not valid now: {0}")]
    NotValidNow(rustls::CertificateError),
    /// It leads to no root of the mesh, or is not for clients.
    #[error("the client's certificate is not of this mesh: {0}")]
    Untrusted(rustls::CertificateError),
    /// It is of the mesh, but of no workload.
    #[error("the client's certificate {0}")]
    NoWorkload(String),
    /// The handshake failed before there was a certificate, or the connection did.
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    /// The client was too slow.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// Its address has too many connections of clients that have not proven who they are.
    #[error("this address has too many connections that have proven nothing")]
    TooMany,
}

/// Roots that nobody can be verified with.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// One of them is none.
    #[error("cannot be trusted as a root: {0}")]
    Root(#[from] rustls::Error),
    /// There is none.
    #[error("cannot verify clients: {0}")]
    Verifier(#[from] VerifierBuilderError),
}

impl MeshClients {
    /// Takes nobody before [`Self::trust`]. Clients see `serving`; the connection speaks `alpn`.
    pub fn new(trust_domain: TrustDomain, serving: Arc<ServingCertificate>, alpn: &[u8]) -> Self {
        Self { trust_domain, serving, alpn: alpn.to_vec(), tls: ArcSwapOption::empty() }
    }

    /// From now on, clients are those whose certificate leads to one of these roots, X.509 in DER.
    ///
    /// # Errors
    ///
    /// A root is none, or there is none; those of before are trusted still.
    pub fn trust(&self, roots: &[Bytes]) -> Result<(), RootsError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(CertificateDer::from(root.as_ref()))?;
        }
        let provider = Arc::new(provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            // A proxy has one certificate, and needs no hint which.
            .clear_root_hint_subjects()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.serving) as Arc<_>);
        config.alpn_protocols = vec![self.alpn.clone()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        self.tls.store(Some(Arc::new(config)));
        Ok(())
    }

    /// Shakes hands with a client, and says who it is.
    ///
    /// # Errors
    ///
    /// See [`HandshakeRefusal`]. The client was told by an alert, or by the end of the connection.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Authenticated), HandshakeRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.tls.load_full().ok_or(HandshakeRefusal::NoRoots)?;
        let tls = TlsAcceptor::from(config).accept(stream).await.map_err(refusal)?;
        let (_, connection) = tls.get_ref();
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.ok_or(HandshakeRefusal::NoCertificate)?;
        let client = read(certificate, &self.trust_domain).map_err(HandshakeRefusal::NoWorkload)?;
        Ok((tls, client))
    }
}

impl Authenticated {
    /// The pod.
    pub fn workload(&self) -> &ProvenWorkload {
        &self.workload
    }

    /// When its certificate ends, and with it what it proves.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// What a handshake would have proven, for tests that make no connection.
    #[cfg(test)]
    pub(crate) fn assumed(workload: ProvenWorkload, not_after: OffsetDateTime) -> Self {
        Self { workload, not_after }
    }
}

fn provider() -> CryptoProvider {
    let kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() }
}

/// What the library's error says of the client.
fn refusal(error: io::Error) -> HandshakeRefusal {
    use rustls::{CertificateError as Fault, Error};
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::NoCertificatesPresented) => HandshakeRefusal::NoCertificate,
        Some(Error::InvalidCertificate(fault)) => match fault {
            Fault::Expired | Fault::ExpiredContext { .. } | Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
                HandshakeRefusal::NotValidNow(fault.clone())
            }
            _ => HandshakeRefusal::Untrusted(fault.clone()),
        },
        _ => HandshakeRefusal::Handshake(error),
    }
}

/// The workload of a certificate whose chain was verified; an error says what the certificate should have.
fn read(certificate: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<Authenticated, String> {
    let Ok(([], certificate)) = X509Certificate::from_der(certificate) else {
        return Err("must be X.509 and nothing after it".to_owned());
    };
    let id = identity(&certificate)?;
    if id.trust_domain() != trust_domain.as_str() {
        return Err(format!("must be of the trust domain {}, names {id}", trust_domain.as_str()));
    }
    let pod = PodBinding::from_certificate(&certificate).map_err(|error| format!("of {id} cannot be used: {error}"))?;
    let workload = ProvenWorkload {
        namespace: id.namespace().to_owned(),
        service_account: id.service_account().to_owned(),
        pod: pod.pod,
        pod_uid: pod.uid,
    };
    Ok(Authenticated { workload, not_after: certificate.validity().not_after.to_datetime() })
}

/// The one URI (X.509-SVID, section 2).
fn identity(certificate: &X509Certificate<'_>) -> Result<SpiffeId, String> {
    let names = certificate.subject_alternative_name().map_err(|error| format!("has unreadable names: {error}"))?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|error| format!("names no workload: its URI {error}")),
        (None, _) => Err("names no workload: it has no URI".to_owned()),
        (Some(_), Some(_)) => Err("names no workload: it has more than one URI".to_owned()),
    }
}
