//! The server behind everything: a fixed answer over HTTP/1.1 and HTTP/2, which it tells apart by the preface, one over
//! gRPC, and a plain TCP port that echoes, takes or gives. As little work as that takes.

use super::{bulk, wire};
use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::net::{IpAddr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Length of every answer.
const BODY: usize = 1024;
const DATE: &str = "Sun, 22 Nov 2026 00:00:00 GMT";
const PREFACE: &[u8; 4] = b"PRI ";
const BUFFER: usize = 256 << 10;

/// Serve what the loads ask for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Origin {
    /// The address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) ip: IpAddr,
    /// Ports of HTTP/1.1 and HTTP/2, gRPC included.
    #[arg(long, value_delimiter = ',', default_values_t = [8080, 8081])]
    pub(crate) http: Vec<u16>,
    /// Port of plain TCP.
    #[arg(long, default_value_t = 9090)]
    pub(crate) tcp: u16,
}

/// Serves until it is killed.
///
/// # Errors
///
/// A port is taken.
pub(crate) async fn serve(origin: &Origin) -> Result<()> {
    let bind = async |port: u16| {
        let address = SocketAddr::from((origin.ip, port));
        TcpListener::bind(address).await.with_context(|| format!("cannot listen at {address}"))
    };
    let body = Bytes::from(vec![b'x'; BODY]);
    for port in &origin.http {
        let (listener, body) = (bind(*port).await?, body.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(http(stream, body.clone()));
            }
        });
    }
    let listener = bind(origin.tcp).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(plain(stream));
    }
}

async fn http(stream: TcpStream, body: Bytes) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    loop {
        match stream.peek(&mut first).await? {
            0 => return Ok(()),
            length if length < PREFACE.len() && first[0] == PREFACE[0] => tokio::task::yield_now().await,
            _ => break,
        }
    }
    if &first == PREFACE { http2(stream, body).await } else { http1(stream, &body).await }
}

async fn http1(mut stream: TcpStream, body: &[u8]) -> Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ndate: {DATE}\r\ncontent-length: {length}\r\n\r\n");
    let answer = [head.as_bytes(), body].concat();
    let mut buffer = BytesMut::with_capacity(4096);
    while let Some(end) = wire::read_head(&mut stream, &mut buffer).await? {
        let length = wire::content_length(&buffer[..end]).unwrap_or(0);
        while buffer.len() < end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let _ = buffer.split_to(end + length);
        stream.write_all(&answer).await?;
    }
    Ok(())
}

async fn http2(stream: TcpStream, body: Bytes) -> Result<()> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .max_concurrent_streams(10_000)
        .handshake::<_, Bytes>(stream)
        .await?;
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32((BODY - 5) as u32);
    message.put_slice(&body[5..]);
    let message = message.freeze();
    while let Some(request) = connection.accept().await {
        let (request, mut answer) = request?;
        if request.body().is_end_stream() {
            let head = head("text/plain").header("content-length", body.len()).body(())?;
            answer.send_response(head, false)?.send_data(body.clone(), true)?;
            continue;
        }
        tokio::spawn(grpc(request, answer, message.clone()));
    }
    Ok(())
}

async fn grpc(request: Request<RecvStream>, mut answer: SendResponse<Bytes>, message: Bytes) -> Result<()> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let mut body = answer.send_response(head("application/grpc").body(())?, false)?;
    body.send_data(message, false)?;
    let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    Ok(body.send_trailers(HeaderMap::from_iter([status]))?)
}

fn head(content_type: &'static str) -> http::response::Builder {
    Response::builder().header("content-type", content_type).header("date", DATE)
}

async fn plain(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        wire::ECHO => {
            let mut buffer = vec![0; BUFFER];
            loop {
                let length = stream.read(&mut buffer).await?;
                if length == 0 {
                    return Ok(());
                }
                stream.write_all(&buffer[..length]).await?;
            }
        }
        wire::SINK => {
            let checksum = stream.read_u8().await? == 1;
            let (arrived, sum) = bulk::take(&mut stream, checksum).await?;
            stream.write_u64(arrived).await?;
            stream.write_all(&sum).await?;
        }
        wire::SOURCE => {
            let mut left = stream.read_u64().await?;
            let mut pattern = bulk::Pattern::new();
            while left > 0 {
                let chunk = pattern.next(left);
                stream.write_all(chunk).await?;
                left -= chunk.len() as u64;
            }
        }
        _ => {}
    }
    Ok(stream.shutdown().await?)
}
