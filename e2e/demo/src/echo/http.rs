//! HTTP answers: what arrived, what was sent back, and bodies of the wished size, pace and status.
//!
//! - `/inspect` reads the whole request and describes it as JSON.
//! - `/echo` streams the body back as it comes, with its trailers.
//! - `/bytes?size=N` answers with N bytes of [`pattern`]; with `chunks=M`, chunked, `pause_ms` between them.
//! - `/ready` answers 200.
//!
//! Every path but `/ready` heeds `status=`, `delay_ms=` and `trailer=name:value`. This file must not know of upgrades or gRPC.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::{Deserialize, Serialize};

use crate::serve;

/// The largest body that `/bytes` makes.
const MAX_SIZE: usize = 256 * 1024 * 1024;

/// The header that names the pod that answered, so that a client can see how requests are spread.
pub(crate) const SERVED_BY: &str = "x-served-by";

/// What the query wishes of the answer.
#[derive(Clone, Debug, Default, Deserialize)]
struct Wishes {
    status: Option<u16>,
    delay_ms: Option<u64>,
    size: Option<usize>,
    chunks: Option<usize>,
    pause_ms: Option<u64>,
    trailer: Option<String>,
}

/// A request as it arrived, as `/inspect` reports it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Inspected {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// As in `HTTP/1.1` and `HTTP/2.0`.
    pub(crate) version: String,
    /// The request's authority: of the target in HTTP/2, else of the `host` header.
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) body_bytes: usize,
    /// The body as text; bytes that are not UTF-8 are replaced.
    pub(crate) body: String,
    pub(crate) served_by: String,
}

/// The byte at `index` of every generated body.
pub(crate) fn pattern(index: usize) -> u8 {
    // A prime period, so that a block that was lost or doubled shows.
    (index % 251) as u8
}

pub(super) fn router() -> Router {
    Router::new()
        .route("/inspect", any(inspect))
        .route("/echo", any(echo))
        .route("/bytes", get(generated))
        .route("/ready", get(serve::ready))
}

async fn inspect(Query(wishes): Query<Wishes>, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let collected = body.collect().await.map_err(|error| Refusal(format!("the body ended early: {error}")))?;
    let trailers = collected.trailers().map(listed).unwrap_or_default();
    let body = collected.to_bytes();
    let host = head.headers.get(header::HOST).map(text).unwrap_or_default();
    let inspected = Inspected {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        version: format!("{:?}", head.version),
        authority: head.uri.authority().map_or(host, ToString::to_string),
        headers: listed(&head.headers),
        trailers,
        body_bytes: body.len(),
        body: String::from_utf8_lossy(&body).into_owned(),
        served_by: hostname(),
    };
    wishes.answer(Body::from(serde_json::to_vec(&inspected).map_err(|error| Refusal(error.to_string()))?)).await
}

async fn echo(Query(wishes): Query<Wishes>, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let mut response = wishes.answer(body).await?;
    // HTTP/1.1 sends trailers only where they were announced.
    for name in [header::TRAILER, header::CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

async fn generated(Query(wishes): Query<Wishes>) -> Result<Response, Refusal> {
    let size = wishes.size.unwrap_or(0);
    if size > MAX_SIZE {
        return Err(Refusal(format!("size: expected at most {MAX_SIZE}, not {size}")));
    }
    let Some(chunks) = wishes.chunks.filter(|chunks| *chunks > 0) else {
        return wishes.answer(Body::from((0..size).map(pattern).collect::<Vec<_>>())).await;
    };
    let pause = Duration::from_millis(wishes.pause_ms.unwrap_or(0));
    let chunk = size.div_ceil(chunks).max(1);
    let bodies = stream::iter((0..size).step_by(chunk)).then(move |start| async move {
        if start > 0 && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok::<_, std::convert::Infallible>(Bytes::from_iter((start..size.min(start + chunk)).map(pattern)))
    });
    wishes.answer(Body::from_stream(bodies)).await
}

impl Wishes {
    async fn answer(&self, body: Body) -> Result<Response, Refusal> {
        tokio::time::sleep(Duration::from_millis(self.delay_ms.unwrap_or(0))).await;
        let status = match self.status {
            Some(code) => StatusCode::from_u16(code)
                .map_err(|_| Refusal(format!("status: expected a number from 100 to 999, not {code}")))?,
            None => StatusCode::OK,
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        if let Ok(pod) = HeaderValue::try_from(hostname()) {
            response.headers_mut().insert(HeaderName::from_static(SERVED_BY), pod);
        }
        if let Some(trailer) = &self.trailer {
            let (name, value) = parse_trailer(trailer)?;
            response.headers_mut().insert(header::TRAILER, HeaderValue::from(name.clone()));
            let trailers = HeaderMap::from_iter([(name, value)]);
            let last = stream::once(async move { Ok::<_, axum::Error>(Frame::trailers(trailers)) });
            let body = std::mem::take(response.body_mut()).into_data_stream().map(|data| data.map(Frame::data));
            *response.body_mut() = Body::new(StreamBody::new(body.chain(last)));
        }
        Ok(response)
    }
}

fn parse_trailer(trailer: &str) -> Result<(HeaderName, HeaderValue), Refusal> {
    let refusal = || Refusal(format!("trailer: expected name:value, not {trailer:?}"));
    let (name, value) = trailer.split_once(':').ok_or_else(refusal)?;
    Ok((name.parse().map_err(|_| refusal())?, value.parse().map_err(|_| refusal())?))
}

/// A wish that cannot be granted: 400, with what was expected.
struct Refusal(String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0 + "\n").into_response()
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The pod's name: Kubernetes makes it the host's.
pub(crate) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}
