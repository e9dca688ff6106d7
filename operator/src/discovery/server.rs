//! The gRPC service: who may open a stream, and how many and how long.
//!
//! A connection comes here with the workload that its handshake has proven, and each of its streams is that workload's, for
//! as long as the certificate is valid: a stream ends with it, and a connection whose certificate has ended opens none.

use super::{
    metrics::{Metrics, RequestRefusal},
    session::{RequestError, Session},
    stream::{Watch, jittered},
    topics::Topics,
};
use crate::{
    compile::{Programmed, Source},
    credential::Authenticated,
    index::Index,
};
use conduit_model::wire::{
    self,
    discovery_server::{Discovery as Service, DiscoveryServer},
};
use futures::stream::{BoxStream, Stream, StreamExt};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

/// Longest message of a proxy, in bytes: the longest reason of a refused update.
const MAX_REQUEST: usize = 64 * 1024;
/// Longest headers of a call, in bytes.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that a connection may have: its own, and the next one while that ends.
const STREAMS_PER_CONNECTION: u32 = 4;

/// How the server treats its streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Most targets that one stream may subscribe to.
    pub targets_max: usize,
    /// How long a stream lives, on average; it differs by a tenth either way.
    pub lifetime: Duration,
    /// How often a connection without traffic is asked whether its proxy is still there.
    pub keepalive_interval: Duration,
    /// How long the answer may take.
    pub keepalive_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            targets_max: 10_000,
            lifetime: Duration::from_secs(3600),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// The discovery server of a process. Clones are handles of the same.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    topics: Arc<Topics>,
    settings: Settings,
    metrics: Metrics,
    now: fn() -> OffsetDateTime,
    streams: AtomicU64,
    closing: CancellationToken,
    random: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Discovery {
    /// A server of what `index` holds. `closing` ends every stream, without an error. `now` is the wall clock, by which
    /// certificates end; `random` gives numbers from 0 to 1, for jitter.
    pub fn new(
        index: Index,
        settings: Settings,
        metrics: Metrics,
        closing: CancellationToken,
        now: fn() -> OffsetDateTime,
        random: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        let topics = Arc::new(Topics::new(index, metrics.clone()));
        let (streams, random) = (AtomicU64::new(0), Box::new(random));
        Self(Arc::new(Inner { topics, settings, metrics, now, streams, closing, random }))
    }

    /// Compiles again what changes concern. To be run once, beside the server; ends when the server closes.
    pub async fn run(&self) {
        self.0.closing.run_until_cancelled(self.0.topics.run()).await;
    }

    /// Serves connections that were accepted, and whose clients were authenticated, elsewhere. Ends when the server closes
    /// and every stream has ended.
    ///
    /// # Errors
    ///
    /// The transport's, where it cannot serve at all.
    pub async fn serve<C>(&self, incoming: impl Stream<Item = io::Result<C>>) -> Result<(), tonic::transport::Error>
    where
        C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Authenticated> + Unpin + Send + 'static,
    {
        // A handshake is judged by the roots of its time. Whoever opens stream after stream on one connection is not to be
        // believed for ever because of a root that was dropped since. No stream lives as long as this.
        let connection_age = self.0.settings.lifetime * 5 / 4;
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(self.0.settings.keepalive_interval))
            .http2_keepalive_timeout(Some(self.0.settings.keepalive_timeout))
            .http2_max_header_list_size(MAX_HEADERS)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .max_connection_age(connection_age)
            .max_connection_age_grace(connection_age)
            .add_service(DiscoveryServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST))
            .serve_with_incoming_shutdown(incoming, self.0.closing.cancelled())
            .await
    }

    /// For every ServiceProfile and TrafficPolicy as this replica knows it now: how many of its proxies are told
    /// something that was made from it, and how many of those hold it.
    pub async fn programmed(&self) -> BTreeMap<Source, Programmed> {
        self.0.topics.programmed().await
    }
}

#[tonic::async_trait]
impl Service for Discovery {
    type WatchStream = BoxStream<'static, Result<wire::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let inner = &self.0;
        if !inner.topics.ready() {
            return Err(Status::unavailable("this replica has not yet read all that the cluster holds"));
        }
        let client = request.extensions().get::<Authenticated>();
        let client = client.ok_or_else(|| Status::unauthenticated("the connection has no certificate of the mesh"))?;
        let valid = Duration::try_from(client.not_after() - (inner.now)()).unwrap_or_default();
        if valid.is_zero() {
            inner.metrics.refused(RequestRefusal::expired);
            return Err(Status::unauthenticated("the connection's certificate has ended; come with a new one"));
        }
        let workload = client.workload().clone();
        let id = inner.streams.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(stream = id, namespace = workload.namespace(), pod = workload.pod(), "a proxy connected");
        let lifetime = jittered(inner.settings.lifetime, (inner.random)()).min(valid);
        let watch = Watch {
            session: Session::new(
                id,
                Arc::clone(&inner.topics),
                inner.metrics.clone(),
                workload,
                inner.settings.targets_max,
            ),
            requests: request.into_inner(),
            lifetime: Box::pin(tokio::time::sleep(lifetime)),
            closing: inner.closing.clone(),
        };
        Ok(Response::new(watch.updates().boxed()))
    }
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::TooMany(_) => Self::resource_exhausted(error.to_string()),
            RequestError::NoRequest(_) | RequestError::Unreadable(_) | RequestError::Missing(_) => {
                Self::invalid_argument(error.to_string())
            }
        }
    }
}
