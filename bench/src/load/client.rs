//! One connection of a load, or one stream's share of it, and one exchange on it: whole, checked, and no more work than
//! that takes. Must not know when exchanges are made.

use super::{Protocol, wire};
use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Request, Uri};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATH: &str = "/api/v1/items?id=42";
const METHOD: &str = "/bench.Echo/Unary";
const AGENT: &str = "conduit-bench/1";
const REQUEST_ID: &str = "7c9d1f3a-0000-4000-8000-000000000000";
/// Length of a gRPC request's message.
const MESSAGE: u32 = 128;
/// Streams and connections of HTTP/2 have room for this many bytes, so that no window is waited for.
const WINDOW: (u32, u32) = (1 << 20, 1 << 24);

/// Where a load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// Where.
    pub(crate) address: SocketAddr,
    /// The name that requests ask for.
    pub(crate) authority: String,
    /// Length of an echoed message over TCP, in bytes.
    pub(crate) size: usize,
}

/// A connection, or one of several users of it.
#[derive(Debug)]
pub(crate) enum Client {
    Http1 { stream: TcpStream, request: Bytes, buffer: BytesMut },
    Http2 { streams: SendRequest<Bytes>, uri: Uri, message: Option<Bytes> },
    Tcp { stream: TcpStream, message: Vec<u8>, buffer: Vec<u8> },
}

impl Client {
    /// Connects, and does what its protocol does first.
    pub(crate) async fn connect(target: &Target) -> Result<Self> {
        let mut stream = TcpStream::connect(target.address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let Target { protocol, authority, .. } = target;
        Ok(match protocol {
            Protocol::Http1 => {
                let head = format!(
                    "GET {PATH} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {AGENT}\r\naccept: */*\r\n\
                     x-request-id: {REQUEST_ID}\r\n\r\n"
                );
                Self::Http1 { stream, request: head.into(), buffer: BytesMut::with_capacity(8192) }
            }
            Protocol::Http2 | Protocol::Grpc => {
                let handshake = h2::client::Builder::new()
                    .initial_window_size(WINDOW.0)
                    .initial_connection_window_size(WINDOW.1)
                    .handshake::<_, Bytes>(stream);
                let (streams, connection) = handshake.await.context("no HTTP/2 connection")?;
                // It ends with the connection; what went wrong is told to those who wait for an answer.
                tokio::task::spawn_local(async move { drop(connection.await) });
                let message = (*protocol == Protocol::Grpc).then(message);
                let path = if message.is_some() { METHOD } else { PATH };
                Self::Http2 { streams, uri: format!("http://{authority}{path}").parse()?, message }
            }
            Protocol::Tcp => {
                stream.write_all(&[wire::ECHO]).await?;
                Self::Tcp { stream, message: vec![b'm'; target.size], buffer: vec![0; target.size] }
            }
        })
    }

    /// Another user of the same connection, where its protocol has streams.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::Http2 { streams, uri, message } => {
                Some(Self::Http2 { streams: streams.clone(), uri: uri.clone(), message: message.clone() })
            }
            Self::Http1 { .. } | Self::Tcp { .. } => None,
        }
    }

    /// One exchange, to the end of the answer.
    pub(crate) async fn exchange(&mut self) -> Result<()> {
        match self {
            Self::Http1 { stream, request, buffer } => {
                stream.write_all(request).await?;
                http1_answer(stream, buffer).await
            }
            Self::Http2 { streams, uri, message } => http2_exchange(streams, uri, message.as_ref()).await,
            Self::Tcp { stream, message, buffer } => {
                stream.write_all(message).await?;
                stream.read_exact(buffer).await?;
                ensure!(buffer == message, "what came back is not what was sent");
                Ok(())
            }
        }
    }
}

fn message() -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(MESSAGE);
    message.put_bytes(b'q', MESSAGE as usize);
    message.freeze()
}

async fn http1_answer(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<()> {
    let end = wire::read_head(stream, buffer).await?.context("closed before the answer")?;
    let head = &buffer[..end];
    ensure!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(head));
    let length = wire::content_length(head).context("no content-length")?;
    while buffer.len() < end + length {
        ensure!(stream.read_buf(buffer).await? > 0, "closed within the answer");
    }
    let _ = buffer.split_to(end + length);
    Ok(())
}

async fn http2_exchange(streams: &SendRequest<Bytes>, uri: &Uri, message: Option<&Bytes>) -> Result<()> {
    let mut ready = streams.clone().ready().await?;
    let mut request =
        Request::builder().uri(uri.clone()).header("user-agent", AGENT).header("x-request-id", REQUEST_ID);
    if message.is_some() {
        request = request.method("POST").header("content-type", "application/grpc").header("te", "trailers");
    }
    let (answer, mut body) = ready.send_request(request.body(())?, message.is_none())?;
    if let Some(message) = message {
        body.send_data(message.clone(), true)?;
    }
    let answer = answer.await?;
    ensure!(answer.status() == 200, "status {} {:?}", answer.status(), answer.headers());
    let early_status = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    if message.is_some() {
        let trailers = body.trailers().await?;
        let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned()).or(early_status);
        if status.as_ref().is_none_or(|status| status != "0") {
            bail!("grpc-status {status:?}");
        }
    }
    ensure!(length > 0, "an answer without body");
    Ok(())
}
