//! A stream to the operator: TCP, TLS 1.3, HTTP/2 and the call, each step with its own error. Knows nothing of what is
//! said on the stream.

use super::address::{HostPort, dial};
use crate::identity::{CredentialError, OperatorCredentials};
use conduit_model::wire::{WatchRequest, WatchResponse, discovery_client::DiscoveryClient};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Request, Status, Streaming,
    codegen::{BoxFuture, Service},
    metadata::{Ascii, MetadataValue},
};

/// How long a stream may take to open, from the look-up of the operator's name to its answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent operator is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Requests that wait for the connection to take them; more wait with their sender.
const REQUESTS: usize = 16;
/// The largest message that is read. A thousand endpoints are about 200 KiB.
const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;

/// An open stream.
pub(super) struct Stream {
    /// Takes requests; bounded.
    pub(super) requests: mpsc::Sender<WatchRequest>,
    /// What the operator says.
    pub(super) responses: Streaming<WatchResponse>,
    /// Carries the bytes while the stream is held.
    _connection: AbortOnDropHandle<()>,
}

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The trust bundle or the token cannot be read.
    #[error("{0}")]
    Credentials(#[from] CredentialError),
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
    /// The operator refuses the call.
    #[error("{0} refuses the stream: {code:?}: {message}", code = .1.code(), message = .1.message())]
    Refused(HostPort, Box<Status>),
    /// Nothing failed, and nothing happened.
    #[error("{0} has not answered in {limit} s", limit = OPEN_TIMEOUT.as_secs())]
    Timeout(HostPort),
}

/// Opens a stream to `operator`, with credentials read anew.
pub(super) async fn open(operator: &HostPort, credentials: &OperatorCredentials) -> Result<Stream, OpenError> {
    let stream = open_without_limit(operator, credentials);
    timeout(OPEN_TIMEOUT, Box::pin(stream)).await.unwrap_or_else(|_| Err(OpenError::Timeout(operator.clone())))
}

async fn open_without_limit(operator: &HostPort, credentials: &OperatorCredentials) -> Result<Stream, OpenError> {
    let name = ServerName::try_from(operator.host.clone()).map_err(|_| OpenError::Name(operator.clone()))?;
    let token = bearer(&credentials.token()?);
    let tls = TlsConnector::from(Arc::new(credentials.tls()?));

    let tcp = dial(operator).await.map_err(|e| OpenError::Connect(operator.clone(), e))?;
    let tls = tls.connect(name, tcp).await.map_err(|e| OpenError::Tls(operator.clone(), e))?;
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|e| OpenError::Http(operator.clone(), e))?;
    // How the connection ends is seen on the stream.
    let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));

    let (requests, queue) = mpsc::channel(REQUESTS);
    let mut call = Request::new(ReceiverStream::new(queue));
    call.metadata_mut().insert("authorization", token);
    let origin = http::Uri::builder().scheme("https").authority(operator.to_string()).path_and_query("/").build();
    let origin = origin.map_err(|_| OpenError::Name(operator.clone()))?;
    let mut client = DiscoveryClient::with_origin(Connection(sender), origin).max_decoding_message_size(MESSAGE_LIMIT);
    let refused = |status| OpenError::Refused(operator.clone(), Box::new(status));
    let responses = client.watch(call).await.map_err(refused)?.into_inner();
    Ok(Stream { requests, responses, _connection: connection })
}

fn bearer(token: &str) -> MetadataValue<Ascii> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().expect("a token is read as visible ASCII characters");
    value.set_sensitive(true);
    value
}

/// One HTTP/2 connection as what tonic's client calls.
struct Connection(SendRequest<tonic::body::Body>);

impl Service<http::Request<tonic::body::Body>> for Connection {
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
