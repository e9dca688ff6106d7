//! Opaque TCP: half-close, and servers that speak first.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{body_of, dial, milliseconds, same_bytes};
use crate::echo::tcp::{BANNER, farewell};

const SIZE: usize = 1_000_000;

pub(super) async fn half_close(target: &str) -> anyhow::Result<Value> {
    let stream = connect(target).await?;
    let (mut reader, mut writer) = stream.into_split();
    let sent = body_of(SIZE);
    let upload = {
        let sent = sent.clone();
        async move {
            writer.write_all(&sent).await?;
            writer.shutdown().await?;
            // Kept: dropping the half would be a second shutdown, which is harmless, but the proof is the first.
            anyhow::Ok(writer)
        }
    };
    let download = async {
        let mut received = Vec::with_capacity(SIZE);
        reader.read_to_end(&mut received).await?;
        anyhow::Ok(received)
    };
    let (_writer, received) = tokio::try_join!(upload, download)?;
    ensure!(received.len() >= SIZE, "{} bytes came back, not {SIZE}", received.len());
    let (echoed, last) = received.split_at(SIZE);
    same_bytes(echoed, &sent)?;
    let last = String::from_utf8_lossy(last);
    ensure!(last == farewell(SIZE as u64), "after the half-close came {last:?}");
    Ok(json!({"bytes": SIZE}))
}

pub(super) async fn server_first(target: &str, within: Duration) -> anyhow::Result<Value> {
    let started = Instant::now();
    let mut stream = connect(target).await?;
    let connected = milliseconds(started);
    let mut banner = vec![0; BANNER.len()];
    tokio::time::timeout(within, stream.read_exact(&mut banner))
        .await
        .with_context(|| format!("the server was not heard within {within:?}"))?
        .context("the connection ended before the banner")?;
    let heard = milliseconds(started);
    same_bytes(&banner, BANNER.as_bytes())?;
    stream.write_all(b"hello\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    same_bytes(&answer, b"hello\r\n")?;
    Ok(json!({"connected_ms": connected, "first_byte_ms": heard}))
}

async fn connect(target: &str) -> anyhow::Result<TcpStream> {
    let (host, port) = target.rsplit_once(':').context("expected a target of the form host:port")?;
    let port = port.parse().with_context(|| format!("expected a port, not {port:?}"))?;
    dial(host.trim_matches(['[', ']']), port).await
}
