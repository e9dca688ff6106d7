//! Serves the webhooks on connections that somebody else accepted. Must not know TLS or sockets.

use axum::Router;
use futures::{Stream, StreamExt};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use std::{io, pin::pin, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a client may take to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests at once on one connection; the API server keeps few connections and sends all it has on them.
const STREAMS: u32 = 250;

/// Serves `router` on each connection of `incoming`, over HTTP/1.1 or HTTP/2, until `shutdown`; then finishes the
/// requests that have begun.
pub async fn serve<C>(incoming: impl Stream<Item = io::Result<C>>, router: Router, shutdown: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connections = TaskTracker::new();
    let mut incoming = pin!(incoming.take_until(shutdown.cancelled()));
    while let Some(accepted) = incoming.next().await {
        match accepted {
            Ok(connection) => {
                connections.spawn(serve_connection(connection, router.clone(), shutdown.clone()));
            }
            Err(error) => tracing::debug!(%error, "a connection to the webhooks was not made"),
        }
    }
    connections.close();
    connections.wait().await;
}

async fn serve_connection<C>(connection: C, router: Router, shutdown: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS);
    let service = TowerToHyperService::new(router);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "a connection to the webhooks ended with an error");
    }
}
