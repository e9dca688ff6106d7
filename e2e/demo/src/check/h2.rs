//! HTTP/2 without TLS, by prior knowledge: many streams at once on one connection.

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use http::{Request, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use super::{authority, body_of, connect, same_bytes};
use crate::echo::http::Inspected;

const STREAMS: usize = 50;

/// Larger than any window that is granted at once, so that flow control must work in both directions.
const LARGE: usize = 4 * 1024 * 1024;

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let stream = connect(target).await?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let base = format!("http://{}", authority(target)?);

    let inspected: Inspected = serde_json::from_slice(&get(&sender, &format!("{base}/inspect?n=1")).await?)?;
    ensure!(inspected.version == "HTTP/2.0", "the server saw {}", inspected.version);
    ensure!(inspected.authority == authority(target)?, "the authority was {:?}", inspected.authority);
    let echo = format!("{base}/echo");
    try_join_all((1..=STREAMS).map(|size| echoed(&sender, &echo, size * 100)))
        .await
        .with_context(|| format!("{STREAMS} streams at once are echoed"))?;
    echoed(&sender, &echo, LARGE).await.context("a body larger than the windows is echoed")?;
    trailers(&sender, &format!("{base}/bytes?size=10&trailer=x-sum:42")).await.context("trailers come back")?;
    Ok(json!({"requests": STREAMS + 3, "connections": 1, "served_by": inspected.served_by}))
}

async fn get(sender: &SendRequest<Full<Bytes>>, uri: &str) -> anyhow::Result<Bytes> {
    let request = Request::get(uri).version(Version::HTTP_2).body(Full::default())?;
    let response = sender.clone().send_request(request).await?;
    ensure!(response.status().is_success(), "{}", response.status());
    Ok(response.into_body().collect().await?.to_bytes())
}

async fn echoed(sender: &SendRequest<Full<Bytes>>, uri: &str, size: usize) -> anyhow::Result<()> {
    let body = body_of(size);
    let request = Request::post(uri).version(Version::HTTP_2).body(Full::new(body.clone()))?;
    let response = sender.clone().send_request(request).await?;
    ensure!(response.status().is_success(), "{}", response.status());
    same_bytes(&response.into_body().collect().await?.to_bytes(), &body)
}

async fn trailers(sender: &SendRequest<Full<Bytes>>, uri: &str) -> anyhow::Result<()> {
    let request = Request::get(uri).version(Version::HTTP_2).body(Full::default())?;
    let collected = sender.clone().send_request(request).await?.into_body().collect().await?;
    let sum = collected.trailers().and_then(|trailers| trailers.get("x-sum"));
    ensure!(sum.is_some_and(|sum| sum == "42"), "x-sum came back as {sum:?}");
    Ok(())
}
