//! What a connection can testify about a request that got no answer: whether any byte of it arrived.
//!
//! A server may close a connection that it kept for the next request at the moment at which that request is sent. No
//! application has seen it then, and it can be sent again whatever its method; but all that HTTP shows is a connection
//! that closed, which is also how a server looks that read the request and died.
//!
//! TCP shows more. A server's FIN carries an acknowledgement of everything that its host had received by then. So if the
//! connection *ended* (not: was reset, which can happen with bytes read) and the peer has acknowledged nothing of the
//! request, then the server had said that it would send no more before the first byte of the request arrived.
//!
//! Under TLS the end that counts is the one that the peer itself sends (`close_notify`), which carries an acknowledgement as
//! well. A bare FIN could come from anybody on the way, who could have withheld the acknowledgement too: for a connection
//! that is to withstand him, to send the request again would be to let him repeat it.

use super::tcp_info::bytes_acknowledged;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::net::TcpStream;

/// Not a number of bytes: the connection has not ended, or its end proves nothing.
const UNPROVEN: u64 = u64::MAX;

/// Follows one connection. Written by the task that drives it, read by who sends requests on it, on the same thread.
#[derive(Debug)]
pub(crate) struct Witness {
    written: AtomicU64,
    acknowledged_at_end: AtomicU64,
    refused: AtomicBool,
}

impl Witness {
    /// Of a connection on which so many bytes have been written.
    pub(super) fn after(written: u64) -> Self {
        Self {
            written: AtomicU64::new(written),
            acknowledged_at_end: AtomicU64::new(UNPROVEN),
            refused: AtomicBool::new(false),
        }
    }

    /// So many bytes have been written since the connection was opened.
    pub(super) fn wrote(&self, written: u64) {
        self.written.store(written, Ordering::Relaxed);
    }

    /// The peer has ended the connection.
    pub(super) fn ended(&self, stream: &TcpStream) {
        if let Some(acknowledged) = bytes_acknowledged(stream) {
            self.acknowledged_at_end.store(acknowledged, Ordering::Relaxed);
        }
    }

    /// The peer has refused the handshake.
    pub(super) fn refused(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the peer has refused the handshake, so that it has read nothing that was written after.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the server ended the connection before anything arrived that was written after the first `before` bytes.
    pub(crate) fn nothing_arrived_since(&self, before: u64) -> bool {
        self.acknowledged_at_end.load(Ordering::Relaxed) <= before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{
        io::Io,
        pairs::{KINDS, Kind, connected, handshaken},
    };
    use std::{io, sync::Arc};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A connection that carried one request, its witness, and the server's side of it.
    async fn used(kind: Kind) -> (Io, Arc<Witness>, Io) {
        let (client, server) = connected().await;
        let (mut client, mut server) = handshaken(kind, client, server).await;
        let witness = client.witnessed();
        client.write_all(b"first").await.unwrap();
        client.flush().await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        client.read_u8().await.unwrap();
        (client, witness, server)
    }

    #[tokio::test]
    async fn a_request_that_met_the_end_of_its_connection_did_not_arrive() {
        for kind in KINDS {
            let (mut client, witness, mut server) = used(kind).await;
            let before = witness.written();
            assert!(before >= 5);
            server.shutdown().await.unwrap();
            drop(server);
            client.write_all(b"second").await.unwrap();
            let _ = client.flush().await;
            // The answer to bytes after the end is a reset, and the second write a broken pipe.
            let _ = client.write_all(b"more").await;
            let _ = client.flush().await;
            let _ = client.read_u8().await;
            assert!(witness.nothing_arrived_since(before), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_request_that_was_read_before_the_end_arrived() {
        for kind in KINDS {
            let (mut client, witness, mut server) = used(kind).await;
            let before = witness.written();
            client.write_all(b"second").await.unwrap();
            client.flush().await.unwrap();
            server.read_exact(&mut [0; 6]).await.unwrap();
            server.shutdown().await.unwrap();
            drop(server);
            assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert!(!witness.nothing_arrived_since(before), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn a_reset_proves_nothing() {
        for kind in KINDS {
            let (mut client, witness, server) = used(kind).await;
            let before = witness.written();
            client.write_all(b"second").await.unwrap();
            client.flush().await.unwrap();
            server.counted().stream.readable().await.unwrap();
            drop(server);
            assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert!(!witness.nothing_arrived_since(before), "{kind:?}");
        }
    }

    #[tokio::test]
    async fn under_tls_an_end_that_the_peer_did_not_sign_proves_nothing() {
        let (mut client, witness, server) = used(Kind::Tls).await;
        let before = witness.written();
        // A FIN alone, as anybody on the way can send.
        drop(server);
        client.write_all(b"second").await.unwrap();
        let _ = client.flush().await;
        let _ = client.write_all(b"more").await;
        let _ = client.flush().await;
        let _ = client.read_u8().await;
        assert!(!witness.nothing_arrived_since(before));
    }

    #[tokio::test]
    async fn a_connection_that_is_open_proves_nothing() {
        let (_client, witness, _server) = used(Kind::Plain).await;
        assert!(!witness.nothing_arrived_since(5));
    }
}
