//! Opaque TCP: an echo that goes on after the client's half-close, and a server that speaks first.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server-first connection begins with.
pub(crate) const BANNER: &str = "220 conduit-demo ready\r\n";

/// The last line of an echo, sent only after the client's half-close has arrived.
pub(crate) fn farewell(received: u64) -> String {
    format!("\nreceived {received} bytes\n")
}

/// Echoes until the client half-closes, then says how much there was and closes.
pub(super) async fn echo(mut stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = try_echo(&mut stream).await {
        tracing::debug!(%peer, %error, "connection broke");
    }
}

/// Speaks first, then echoes.
pub(super) async fn banner(mut stream: TcpStream, peer: SocketAddr) {
    let spoken = stream.write_all(BANNER.as_bytes()).await;
    if let Err(error) = spoken {
        tracing::debug!(%peer, %error, "connection broke");
        return;
    }
    echo(stream, peer).await;
}

async fn try_echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut received = 0;
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        received += read as u64;
        stream.write_all(&buffer[..read]).await?;
    }
    stream.write_all(farewell(received).as_bytes()).await?;
    stream.shutdown().await
}
