//! A WebSocket through the handshake, messages, a ping and the closing handshake.

use anyhow::{Context, bail, ensure};
use futures::{SinkExt, StreamExt};
use http::Uri;
use serde_json::{Value, json};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::{authority, body_of, connect};

/// Sizes on each side of the three length encodings of a frame.
const SIZES: [usize; 6] = [0, 1, 125, 126, 65_535, 65_536];

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let stream = connect(target).await?;
    let (mut socket, response) =
        client_async(format!("ws://{}/ws", authority(target)?), stream).await.context("the handshake failed")?;

    for size in SIZES {
        let message = Message::binary(body_of(size));
        socket.send(message.clone()).await?;
        let answer = socket.next().await.context("the connection closed")??;
        ensure!(answer == message, "a message of {size} bytes came back changed");
    }
    let text = Message::text("héllo");
    socket.send(text.clone()).await?;
    ensure!(socket.next().await.context("the connection closed")?? == text, "a text message came back changed");

    socket.send(Message::Ping(body_of(4))).await?;
    match socket.next().await.context("the connection closed")?? {
        Message::Pong(body) if body == body_of(4) => {}
        other => bail!("the ping was answered by {other:?}"),
    }
    socket.close(None).await?;
    while let Some(message) = socket.next().await {
        ensure!(message?.is_close(), "a message after the close");
    }
    Ok(json!({"messages": SIZES.len() + 1, "status": response.status().as_u16()}))
}
