//! A stream to the operator: the connection that proves who the proxy is, and the call. Knows nothing of what is said on
//! the stream.

use crate::identity::{ConnectError, Credentials, HostPort, Operator};
use conduit_model::wire::{WatchRequest, WatchResponse, discovery_client::DiscoveryClient};
use rustls::AlertDescription;
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status, Streaming};

/// How long a stream may take to open, from the look-up of the operator's name to its answer.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// There is no connection.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The operator refuses the proxy's certificate.
    #[error("{0} refuses this proxy's certificate: {1:?}")]
    Certificate(HostPort, AlertDescription),
    /// The operator refuses the call.
    #[error("{0} refuses the stream: {code:?}: {message}", code = .1.code(), message = .1.message())]
    Refused(HostPort, Box<Status>),
    /// Nothing failed, and nothing happened.
    #[error("{0} has not answered in {limit} s", limit = OPEN_TIMEOUT.as_secs())]
    Timeout(HostPort),
}

/// Opens a stream to `operator` as the workload that `credentials` are of.
pub(super) async fn open(operator: &Operator, credentials: &Credentials) -> Result<Stream, OpenError> {
    let stream = open_without_limit(operator, credentials);
    timeout(OPEN_TIMEOUT, Box::pin(stream)).await.unwrap_or_else(|_| Err(OpenError::Timeout(operator.address.clone())))
}

async fn open_without_limit(operator: &Operator, credentials: &Credentials) -> Result<Stream, OpenError> {
    let connection = operator.connect_as(credentials).await?;
    let (requests, queue) = mpsc::channel(REQUESTS);
    let mut client =
        DiscoveryClient::with_origin(connection.calls, connection.origin).max_decoding_message_size(MESSAGE_LIMIT);
    let refused = |status| match connection.heard.refusal() {
        Some(alert) => OpenError::Certificate(operator.address.clone(), alert),
        None => OpenError::Refused(operator.address.clone(), Box::new(status)),
    };
    let responses = client.watch(Request::new(ReceiverStream::new(queue))).await.map_err(refused)?.into_inner();
    Ok(Stream { requests, responses, _connection: connection.task })
}
