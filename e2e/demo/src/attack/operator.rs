//! A connection to one of the operator's ports: TLS 1.3 to a server that the mesh's roots vouch for, then HTTP/2. Knows
//! nothing of what is called.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use anyhow::Context;
use clap::Args;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::{BoxFuture, Service};

use super::papers::{Papers, certificates};

/// Where the operator is, and by what it is known.
#[derive(Args)]
pub(super) struct Trust {
    /// The roots of the mesh, in PEM.
    #[arg(long, default_value = "/var/run/conduit/ca.crt", value_name = "FILE")]
    pub(super) trust: PathBuf,
}

/// One HTTP/2 connection, as what tonic's clients call.
pub(super) struct Connection(SendRequest<tonic::body::Body>);

/// Connects to `to`, such as `conduit-operator.conduit.svc:8080`, and gives the origin of its calls too.
///
/// # Errors
/// No connection, an operator that is not trusted, or one that refuses what it is shown.
pub(super) async fn connect(to: &str, trust: &Trust, papers: &Papers) -> anyhow::Result<(Connection, http::Uri)> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&trust.trust)? {
        roots.add(root)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match papers.credentials()? {
        Some(shown) => builder.with_client_auth_cert(shown.chain, shown.key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];

    let (host, _) = to.rsplit_once(':').context("expected host:port")?;
    let name = ServerName::try_from(host.to_owned())?;
    let tcp = TcpStream::connect(to).await.context("no connection")?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.context("no handshake")?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.context("no HTTP/2")?;
    tokio::spawn(connection);
    Ok((Connection(sender), format!("https://{to}").parse()?))
}

impl Service<http::Request<tonic::body::Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
