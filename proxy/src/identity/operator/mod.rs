//! Connections to the operator: TCP, TLS 1.3 and HTTP/2, each step with its own error. What is called over them is not
//! known here.

mod address;
mod alert;

pub use address::HostPort;

use super::{
    bundle::TrustBundle,
    credentials::Credentials,
    files::{self, FileError},
    tls::{self, Clock},
};
use address::dial;
use alert::{Alerted, Heard};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::ServerName;
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use tonic::codegen::{BoxFuture, Service};

/// How often a silent operator is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// One port of the operator, and by what it is trusted.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Where it serves; the host must be a name on its certificate.
    pub address: HostPort,
    /// File with the roots of the mesh in PEM, read again for each connection.
    pub trust_file: PathBuf,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The roots cannot be read.
    #[error("{0}")]
    Trust(#[from] FileError),
    /// The host is neither a DNS name nor an address.
    #[error("{0}: no certificate can bear this name")]
    Name(HostPort),
    /// No address of the operator takes connections.
    #[error("cannot connect to {0}: {1}")]
    Connect(HostPort, io::Error),
    /// The operator's certificate is not trusted, or it does not speak TLS 1.3.
    #[error("no TLS with {0}: {1}")]
    Tls(HostPort, io::Error),
    /// The operator does not speak HTTP/2.
    #[error("no HTTP/2 with {0}: {1}")]
    Http(HostPort, hyper::Error),
}

/// An open connection, on which tonic's clients call.
pub(crate) struct Connection {
    /// The connection's own part of every address.
    pub(crate) origin: http::Uri,
    /// Takes calls.
    pub(crate) calls: Calls,
    /// Carries the bytes while the connection is held.
    pub(crate) task: AbortOnDropHandle<()>,
    /// By which alert the operator refused the proxy's certificate, if it did. TLS 1.3 lets a client think that the
    /// handshake is over before the server has looked at its certificate, so that this is known once a call has failed.
    pub(crate) heard: Heard,
}

/// One HTTP/2 connection as what tonic's clients call.
pub(crate) struct Calls(SendRequest<tonic::body::Body>);

impl Operator {
    /// Connects without saying who the proxy is. The roots of the file are trusted, and those of `bundle`, which may be
    /// newer: the file takes the kubelet a minute.
    ///
    /// # Errors
    /// Whatever is in the way, of these steps the first.
    pub(crate) async fn connect(
        &self,
        bundle: Option<&TrustBundle>,
        clock: &Clock,
    ) -> Result<Connection, ConnectError> {
        let roots = self.roots(bundle)?;
        let tls = tls::client(clock).map_err(|e| self.no_tls(e))?.with_root_certificates(roots).with_no_client_auth();
        self.open(tls).await
    }

    /// Connects as the workload that `credentials` are of.
    ///
    /// # Errors
    /// As [`Operator::connect`].
    pub(crate) async fn connect_as(&self, credentials: &Credentials) -> Result<Connection, ConnectError> {
        let roots = self.roots(Some(credentials.bundle()))?;
        let tls = tls::client(credentials.clock()).map_err(|e| self.no_tls(e))?.with_root_certificates(roots);
        self.open(tls.with_client_cert_resolver(credentials.resolver())).await
    }

    fn roots(&self, bundle: Option<&TrustBundle>) -> Result<RootCertStore, FileError> {
        let anchors = bundle.map(TrustBundle::anchors).unwrap_or_default().to_vec();
        match (files::roots(&self.trust_file), anchors.is_empty()) {
            (Ok(file), _) => Ok(RootCertStore { roots: [anchors, file.anchors().to_vec()].concat() }),
            (Err(e), true) => Err(e),
            (Err(e), false) => {
                tracing::warn!("the operator is trusted by what it streamed alone: {e}");
                Ok(RootCertStore { roots: anchors })
            }
        }
    }

    async fn open(&self, mut tls: ClientConfig) -> Result<Connection, ConnectError> {
        let address = || self.address.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        tls.resumption = Resumption::disabled();
        let name = ServerName::try_from(self.address.host.clone()).map_err(|_| ConnectError::Name(address()))?;
        let origin =
            http::Uri::builder().scheme("https").authority(self.address.to_string()).path_and_query("/").build();
        let origin = origin.map_err(|_| ConnectError::Name(address()))?;

        let tcp = dial(&self.address).await.map_err(|e| ConnectError::Connect(address(), e))?;
        let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp);
        let tls = tls.await.map_err(|e| ConnectError::Tls(address(), e))?;
        let (tls, heard) = Alerted::new(tls);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|e| ConnectError::Http(address(), e))?;
        // How the connection ends is seen by its calls.
        let task = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        Ok(Connection { origin, calls: Calls(sender), task, heard })
    }

    fn no_tls(&self, error: rustls::Error) -> ConnectError {
        ConnectError::Tls(self.address.clone(), io::Error::other(error))
    }
}

impl Service<http::Request<tonic::body::Body>> for Calls {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
