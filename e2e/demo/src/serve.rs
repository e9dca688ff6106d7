//! Accepting connections and ending well: every server here stops as a well-behaved application does.
//!
//! When told to stop it takes what the kernel had already accepted, closes the listener, closes idle keep-alive
//! connections a little later, finishes the active ones, and returns when the last is done. It must not know what is served.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A listening socket waits this long for one more connection of its backlog before it closes.
const BACKLOG_PATIENCE: Duration = Duration::from_millis(10);

/// An idle keep-alive connection is closed this long after the stop: a request that came just before it would be lost with
/// a connection that is closed at once, and nobody could say whether it was served. Who sends requests has heard by then.
const KEEP_ALIVE_PATIENCE: Duration = Duration::from_millis(500);

/// The pause after an accept that failed: out of file descriptors is the usual reason, and spinning would not help.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Listens on every address of the machine, IPv6 and IPv4; on IPv4 alone where there is no IPv6.
///
/// # Errors
/// The port is taken or may not be used.
pub(crate) async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("cannot listen on port {port}")),
    }
}

/// Hands each connection to `handle` until `stop`, then waits for all of them to end.
pub(crate) async fn connections<H, F>(listener: TcpListener, stop: CancellationToken, handle: H)
where
    H: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let active = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                active.spawn(handle(stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(BACKLOG_PATIENCE, listener.accept()).await {
        active.spawn(handle(stream, peer));
    }
    drop(listener);
    active.close();
    active.wait().await;
}

/// Serves HTTP/1.1 (with upgrades) and HTTP/2 without TLS on one port, by what the client speaks.
pub(crate) async fn http(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let draining = stop.clone();
    connections(listener, stop, move |stream, peer| {
        let (router, draining) = (router.clone(), draining.clone());
        async move { http_connection(stream, peer, router, draining).await }
    })
    .await;
}

/// Serves one connection of any kind; at `stop` it finishes what is under way and closes.
pub(crate) async fn http_connection<I>(io: I, peer: SocketAddr, router: axum::Router, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(router);
    let drain = async {
        stop.cancelled().await;
        tokio::time::sleep(KEEP_ALIVE_PATIENCE).await;
    };
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error, "connection ended");
    }
}

/// The answer of every readiness endpoint: a process that accepts is ready.
pub(crate) async fn ready() -> Result<&'static str, Infallible> {
    Ok("ready\n")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn slow() -> &'static str {
        tokio::time::sleep(Duration::from_millis(200)).await;
        "done"
    }

    async fn serving() -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = axum::Router::new().route("/slow", axum::routing::get(slow)).route("/", axum::routing::get(ready));
        (address, stop.clone(), tokio::spawn(http(listener, router, stop)))
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_after_the_stop() {
        let (address, stop, server) = serving().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_idle_keep_alive_connection_is_closed_at_the_stop() {
        let (address, stop, server) = serving().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = [0; 512];
        assert!(client.read(&mut buffer).await.unwrap() > 0);
        stop.cancel();
        assert_eq!(client.read(&mut buffer).await.unwrap(), 0);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_of_the_backlog_is_served_after_the_stop() {
        let (address, stop, server) = serving().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        stop.cancel();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        server.await.unwrap();
    }
}
