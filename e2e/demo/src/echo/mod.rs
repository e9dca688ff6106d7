//! `echo-server`: every protocol that the mesh carries, answered so that the caller can verify what arrived.
//!
//! One process listens on as many ports as it is told. It must not know of a mesh: what it sees is what it reports.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod tcp;
mod websocket;

use clap::Args;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::serve;
use crate::tls;

/// The messages and the service of `proto/echo.proto`.
pub(crate) mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("conduit.demo.echo.v1");
}

/// What `echo-server` listens on. Each option may be repeated; every port of `--http` speaks HTTP/1.1, WebSocket,
/// HTTP/2 without TLS and gRPC, so that one port can be named differently in different Services.
#[derive(Args)]
pub(crate) struct Settings {
    /// HTTP/1.1, WebSocket, HTTP/2 without TLS, and gRPC with its health service.
    #[arg(long, value_name = "PORT")]
    http: Vec<u16>,
    /// The same behind the application's own TLS, with a certificate made at start.
    #[arg(long, value_name = "PORT")]
    https: Vec<u16>,
    /// Echoes bytes as they come; after the client's half-close says how many there were.
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,
    /// The server speaks first: a banner, then an echo.
    #[arg(long, value_name = "PORT")]
    banner: Vec<u16>,
}

/// Serves until `stop`, then finishes what was accepted.
///
/// # Errors
/// No port was given, or one cannot be listened on.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let router = http::router().merge(websocket::router()).merge(grpc::router().await);
    let mut servers = JoinSet::new();
    for port in settings.http {
        servers.spawn(serve::http(serve::listen(port).await?, router.clone(), stop.clone()));
    }
    if !settings.https.is_empty() {
        let identity = tls::SelfSigned::generate()?;
        let router = router.clone().layer(axum::middleware::map_response(identity.stamp()));
        for port in settings.https {
            servers.spawn(tls::serve(serve::listen(port).await?, identity.acceptor(), router.clone(), stop.clone()));
        }
    }
    for port in settings.tcp {
        let listener = serve::listen(port).await?;
        servers.spawn(serve::connections(listener, stop.clone(), tcp::echo));
    }
    for port in settings.banner {
        let listener = serve::listen(port).await?;
        servers.spawn(serve::connections(listener, stop.clone(), tcp::banner));
    }
    anyhow::ensure!(!servers.is_empty(), "expected at least one of --http, --https, --tcp and --banner");
    while let Some(ended) = servers.join_next().await {
        ended?;
    }
    Ok(())
}
