//! A server that is not what it is taken for: one that shows a certificate of its own choice, or one that is called meshed
//! and is not, and notes what it is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::Args;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::papers::{Papers, described};
use crate::{serve, tls::AnyCertificate};

/// The answer to whoever is taken in.
const CATCH: &str = "thank you\n";
/// How long the first bytes of a connection are waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first byte of a TLS handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

#[derive(Args)]
pub(super) struct Settings {
    /// Where to listen; may be repeated.
    #[arg(long, required = true)]
    port: Vec<u16>,
    /// What is taken of a client's offer, the first that fits.
    #[arg(long, default_values = ["conduit/http1", "conduit/h2", "conduit/tcp"])]
    alpn: Vec<String>,
    #[command(flatten)]
    papers: Papers,
}

pub(super) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let acceptor = config(&settings.papers, &settings.alpn)?.map(|config| TlsAcceptor::from(Arc::new(config)));
    let mut servers = JoinSet::new();
    for port in settings.port {
        let listener = serve::listen(port).await?;
        servers.spawn(answer(listener, acceptor.clone(), stop.clone(), |line| println!("{line}")));
    }
    while let Some(ended) = servers.join_next().await {
        ended?;
    }
    Ok(())
}

/// How TLS is spoken, where there is a certificate to show.
pub(super) fn config(papers: &Papers, alpn: &[String]) -> anyhow::Result<Option<ServerConfig>> {
    let Some(shown) = papers.credentials()? else { return Ok(None) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(AnyCertificate::checked_by(provider)))
        .with_single_cert(shown.chain, shown.key)?;
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.clone().into_bytes()).collect();
    Ok(Some(config))
}

/// Serves until `stop`; what is seen of each connection goes to `note`.
pub(super) async fn answer(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
    note: impl Fn(Value) + Clone + Send + Sync + 'static,
) {
    let draining = stop.clone();
    serve::connections(listener, stop, move |stream, peer| {
        let (acceptor, draining, note) = (acceptor.clone(), draining.clone(), note.clone());
        async move {
            match acceptor {
                Some(acceptor) => impersonate(stream, peer, acceptor, draining, note).await,
                None => note(listen(stream).await),
            }
        }
    })
    .await;
}

/// Takes a client in, if it lets itself be.
async fn impersonate(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
    note: impl Fn(Value) + Send + Sync,
) {
    match acceptor.accept(stream).await {
        Ok(tls) => {
            let connection = tls.get_ref().1;
            let client = connection.peer_certificates().and_then(|chain| described(chain.first()?).ok());
            note(
                json!({"tls": true, "alpn": connection.alpn_protocol().map(String::from_utf8_lossy), "client": client}),
            );
            let router = Router::new().fallback(|| async { CATCH });
            serve::http_connection(tls, peer, router, stop).await;
        }
        Err(error) => note(json!({"tls": false, "error": error.to_string()})),
    }
}

/// Notes what a client sends to a server that it takes for a proxy; one that sends HTTP is answered, as an application
/// would.
async fn listen(mut stream: TcpStream) -> Value {
    let mut first = vec![0; 16 * 1024];
    let read = match tokio::time::timeout(PATIENCE, stream.read(&mut first)).await {
        Ok(Ok(read)) => read,
        Ok(Err(_)) | Err(_) => 0,
    };
    let first = &first[..read];
    let hello = first.first() == Some(&HANDSHAKE);
    if !hello && !first.is_empty() {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{CATCH}", CATCH.len());
        // The client may be gone; what it sent is what counts.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
    let plaintext = if hello { String::new() } else { String::from_utf8_lossy(first).into_owned() };
    json!({"bytes": first.len(), "hello": hello, "plaintext": plaintext})
}
