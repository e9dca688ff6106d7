//! A connection that is kept until the other side ends it: a message every so often, each of which must come back.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt};
use http::Uri;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::{authority, body_of, connect, same_bytes};

const PERIOD: Duration = Duration::from_millis(100);
const SIZE: usize = 1000;

/// Bytes, or a WebSocket, by the scheme of `target`.
pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let mut exchanges = 0;
    let end = match target.scheme_str() {
        Some("tcp") => bytes(target, &mut exchanges).await?,
        Some("ws") => websocket(target, &mut exchanges).await?,
        _ => anyhow::bail!("expected a target of the form tcp://host:port or ws://host"),
    };
    ensure!(exchanges > 0, "it ended before a message had come back: {end}");
    Ok(json!({"exchanges": exchanges, "end": end}))
}

/// Gives how it ended; what comes back changed is an error.
async fn bytes(target: &Uri, exchanges: &mut u64) -> anyhow::Result<String> {
    let mut stream = connect(target).await?;
    let sent = body_of(SIZE);
    let mut received = vec![0; SIZE];
    loop {
        let exchange = async {
            stream.write_all(&sent).await?;
            stream.read_exact(&mut received).await
        };
        if let Err(end) = exchange.await {
            return Ok(end.to_string());
        }
        same_bytes(&received, &sent)?;
        *exchanges += 1;
        tokio::time::sleep(PERIOD).await;
    }
}

/// The same.
async fn websocket(target: &Uri, exchanges: &mut u64) -> anyhow::Result<String> {
    let url = format!("ws://{}/ws", authority(target)?);
    let (mut socket, _) = client_async(url, connect(target).await?).await.context("the handshake failed")?;
    let sent = Message::binary(body_of(SIZE));
    loop {
        if let Err(end) = socket.send(sent.clone()).await {
            return Ok(end.to_string());
        }
        match socket.next().await {
            Some(Ok(answer)) if answer == sent => *exchanges += 1,
            Some(Ok(answer)) => {
                ensure!(answer.is_close(), "a message of {} bytes came back, not {SIZE}", answer.len());
                return Ok("closed".into());
            }
            Some(Err(end)) => return Ok(end.to_string()),
            None => return Ok("closed".into()),
        }
        tokio::time::sleep(PERIOD).await;
    }
}
