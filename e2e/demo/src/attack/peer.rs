//! A connection to a pod as one proxy opens it to another, and one exchange on it. Any server is taken: what it shows is
//! reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::papers::{Papers, described};
use super::{hello12, report};
use crate::tls::AnyCertificate;

/// What is sent where bytes are echoed.
const WORDS: &[u8] = b"attack at dawn";

#[derive(Args)]
pub(super) struct Settings {
    /// The pod, `address:port`.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    /// What is offered; may be repeated. The one that the server takes says what is spoken: HTTP/2 where it ends in h2,
    /// bytes where it ends in tcp, otherwise HTTP/1.1.
    #[arg(long, default_value = "conduit/http1")]
    alpn: Vec<String>,
    #[command(flatten)]
    papers: Papers,
    /// What is asked for by GET.
    #[arg(long, default_value = "/inspect")]
    path: String,
    /// Offers TLS 1.2, by hand, and reports the first word of the answer.
    #[arg(long)]
    tls12: bool,
    /// Waits for a line on standard input, then connects once more, with the session of the first connection.
    #[arg(long)]
    again: bool,
}

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    if settings.tls12 {
        report(hello12::attempt(&settings.to, &settings.alpn).await);
        return Ok(());
    }
    let config = Arc::new(config(&settings)?);
    report(attempt(&settings, config.clone()).await);
    if settings.again {
        tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
        report(attempt(&settings, config).await);
    }
    Ok(())
}

/// What is offered and shown.
pub(super) fn config(settings: &Settings) -> anyhow::Result<ClientConfig> {
    // In the order in which proxies prefer them: the first is offered with a share, and taken by whoever knows it.
    let groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(CryptoProvider { kx_groups: groups, ..aws_lc_rs::default_provider() });
    let any = AnyCertificate::checked_by(provider.clone());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(any));
    let mut config = match settings.papers.credentials()? {
        Some(shown) => builder.with_client_auth_cert(shown.chain, shown.key)?,
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = false;
    config.alpn_protocols = settings.alpn.iter().map(|alpn| alpn.clone().into_bytes()).collect();
    Ok(config)
}

/// One connection and one exchange. A server refuses a client's certificate after its own part of the handshake is done
/// (RFC 8446, section 2): what failed then shows in the exchange.
pub(super) async fn attempt(settings: &Settings, config: Arc<ClientConfig>) -> anyhow::Result<Value> {
    let tcp = TcpStream::connect(&settings.to).await.context("no connection")?;
    let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
    let tls = TlsConnector::from(config).connect(name, tcp).await.context("no handshake")?;
    let mut seen = handshake(&tls)?;
    let alpn = seen["alpn"].as_str().unwrap_or_default().to_owned();
    let exchanged = match alpn {
        alpn if alpn.ends_with("h2") => http2(tls, settings).await,
        alpn if alpn.ends_with("tcp") => bytes(tls).await,
        _ => http1(tls, settings).await,
    };
    match exchanged {
        Ok(answer) => seen["answer"] = answer,
        // What the handshake showed stays in the line: how far the peer got is the point.
        Err(error) => {
            seen["ok"] = false.into();
            seen["error"] = format!("no answer: {error:#}").into();
        }
    }
    Ok(seen)
}

fn handshake(tls: &TlsStream<TcpStream>) -> anyhow::Result<Value> {
    let connection = tls.get_ref().1;
    let chain = connection.peer_certificates().unwrap_or_default();
    Ok(json!({
        "alpn": connection.alpn_protocol().map(String::from_utf8_lossy),
        "group": connection.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
        "protocol": connection.protocol_version().map(|version| format!("{version:?}")),
        "resumed": connection.handshake_kind() == Some(HandshakeKind::Resumed),
        "chain": chain.iter().map(described).collect::<Result<Vec<_>, _>>()?,
    }))
}

async fn http1(tls: TlsStream<TcpStream>, settings: &Settings) -> anyhow::Result<Value> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let request = Request::get(&settings.path).header(header::HOST, &settings.to).body(Empty::<Bytes>::new())?;
    told(sender.send_request(request).await?).await
}

async fn http2(tls: TlsStream<TcpStream>, settings: &Settings) -> anyhow::Result<Value> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
    tokio::spawn(connection);
    let uri = format!("http://{}{}", settings.to, settings.path);
    told(sender.send_request(Request::get(uri).body(Empty::<Bytes>::new())?).await?).await
}

async fn told(response: Response<Incoming>) -> anyhow::Result<Value> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<_, _> = head.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    Ok(json!({"status": head.status.as_u16(), "headers": headers, "body": String::from_utf8_lossy(&body)}))
}

async fn bytes(mut tls: TlsStream<TcpStream>) -> anyhow::Result<Value> {
    tls.write_all(WORDS).await?;
    tls.shutdown().await?;
    let mut back = Vec::new();
    tls.read_to_end(&mut back).await?;
    anyhow::ensure!(!back.is_empty(), "the connection closed without a byte");
    Ok(json!({"bytes": String::from_utf8_lossy(&back)}))
}
