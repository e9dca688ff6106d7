//! HTTP/1.1 on one connection, step by step; each must leave the connection open for the next.

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{authority, body_of, connect, same_bytes};
use crate::echo::http::Inspected;

type Body = BoxBody<Bytes, std::convert::Infallible>;

const CHUNKS: usize = 64;
const CHUNK: usize = 4096;

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let mut connection = Connection::over(connect(target).await?, authority(target)?).await?;
    let inspected = connection.inspects().await.context("a request arrives as it was sent")?;
    connection.echoes_with_a_length().await.context("a POST with a length is echoed")?;
    connection.echoes_chunks().await.context("a chunked upload is echoed")?;
    connection.downloads_chunks().await.context("a chunked download is whole")?;
    connection.answers_head().await.context("HEAD has no body")?;
    connection.carries_trailers().await.context("trailers come back")?;
    connection.passes_a_failure().await.context("the server's failure is its own")?;
    Ok(json!({"requests": connection.requests, "connections": 1, "served_by": inspected.served_by}))
}

/// One connection that is never replaced.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    authority: String,
    pub(super) requests: u32,
}

impl Connection {
    pub(super) async fn over<I>(io: I, authority: &str) -> anyhow::Result<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, authority: authority.to_owned(), requests: 0 })
    }

    async fn send(&mut self, mut request: Request<Body>) -> anyhow::Result<Response<hyper::body::Incoming>> {
        self.sender.ready().await.with_context(|| format!("the connection closed after {} requests", self.requests))?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&self.authority)?);
        self.requests += 1;
        Ok(self.sender.send_request(request).await?)
    }

    async fn whole(&mut self, request: Request<Body>, status: StatusCode) -> anyhow::Result<Response<Bytes>> {
        let (head, body) = self.send(request).await?.into_parts();
        let body = body.collect().await.context("the body ended early")?.to_bytes();
        ensure!(head.status == status, "{} instead of {status}: {}", head.status, String::from_utf8_lossy(&body));
        Ok(Response::from_parts(head, body))
    }

    pub(super) async fn inspects(&mut self) -> anyhow::Result<Inspected> {
        let request = Request::put("/inspect?colour=blue").header("x-check", "Mixed Case").body(full("as sent"))?;
        let response = self.whole(request, StatusCode::OK).await?;
        let inspected: Inspected = serde_json::from_slice(response.body())?;
        ensure!(inspected.method == "PUT", "the method was {}", inspected.method);
        ensure!(inspected.path == "/inspect" && inspected.query == "colour=blue", "the path was {}", inspected.path);
        ensure!(inspected.body == "as sent", "the body was {:?}", inspected.body);
        ensure!(inspected.authority == self.authority, "the host was {:?}", inspected.authority);
        let wanted = ("x-check".to_owned(), "Mixed Case".to_owned());
        ensure!(inspected.headers.contains(&wanted), "the header x-check was lost");
        Ok(inspected)
    }

    async fn echoes_with_a_length(&mut self) -> anyhow::Result<()> {
        let body = body_of(10_000);
        let response = self.whole(Request::post("/echo").body(full(body.clone()))?, StatusCode::OK).await?;
        same_bytes(response.body(), &body)
    }

    async fn echoes_chunks(&mut self) -> anyhow::Result<()> {
        let body = body_of(CHUNKS * CHUNK);
        let response = self.whole(Request::post("/echo").body(chunked(&body, None))?, StatusCode::OK).await?;
        same_bytes(response.body(), &body)
    }

    async fn downloads_chunks(&mut self) -> anyhow::Result<()> {
        let request = Request::get("/bytes?size=1000000&chunks=100").body(full(""))?;
        let response = self.whole(request, StatusCode::OK).await?;
        ensure!(response.headers().contains_key(header::TRANSFER_ENCODING), "the answer was not chunked");
        same_bytes(response.body(), &body_of(1_000_000))
    }

    async fn answers_head(&mut self) -> anyhow::Result<()> {
        let request = Request::builder().method(Method::HEAD).uri("/bytes?size=5000").body(full(""))?;
        let response = self.whole(request, StatusCode::OK).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).context("content-length was lost")?;
        ensure!(length == "5000" && response.body().is_empty(), "content-length {length:?}");
        Ok(())
    }

    async fn carries_trailers(&mut self) -> anyhow::Result<()> {
        let body = body_of(CHUNK);
        let request = Request::post("/echo")
            .header(header::TE, "trailers")
            .header(header::TRAILER, "x-sum")
            .body(chunked(&body, Some(HeaderMap::from_iter([("x-sum".parse()?, HeaderValue::from(42))]))))?;
        let collected = self.send(request).await?.into_body().collect().await?;
        let sum = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        ensure!(sum.as_ref().is_some_and(|sum| sum == "42"), "x-sum came back as {sum:?}");
        same_bytes(&collected.to_bytes(), &body)
    }

    async fn passes_a_failure(&mut self) -> anyhow::Result<()> {
        let request = Request::get("/inspect?status=503").body(full(""))?;
        let response = self.whole(request, StatusCode::SERVICE_UNAVAILABLE).await?;
        serde_json::from_slice::<Inspected>(response.body()).context("the body was not the server's")?;
        Ok(())
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed()
}

/// `body` with no length known before, and trailers after it.
fn chunked(body: &Bytes, trailers: Option<HeaderMap>) -> Body {
    let chunks: Vec<_> =
        (0..body.len()).step_by(CHUNK).map(|start| body.slice(start..body.len().min(start + CHUNK))).collect();
    let frames = chunks.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers)).map(Ok);
    BodyExt::boxed(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
}
