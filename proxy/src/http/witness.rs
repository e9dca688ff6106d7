//! What a connection can testify about a request that got no answer: whether any byte of it arrived.
//!
//! A server may close a connection that it kept for the next request at the moment at which that request is sent. No
//! application has seen it then, and it can be sent again whatever its method; but all that HTTP shows is a connection
//! that closed, which is also how a server looks that read the request and died.
//!
//! TCP shows more. A server's FIN carries an acknowledgement of everything that its host had received by then. So if the
//! connection *ended* (not: was reset, which can happen with bytes read) and the peer has acknowledged nothing of the
//! request, then the server had said that it would send no more before the first byte of the request arrived.

use crate::listen::tcp_info::bytes_acknowledged;
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::net::TcpStream;

/// Not a number of bytes: the connection has not ended, or its end proves nothing.
const UNPROVEN: u64 = u64::MAX;

/// Follows one connection. Written by the task that drives it, read by who sends requests on it, on the same thread.
#[derive(Debug)]
pub(crate) struct Witness {
    written: AtomicU64,
    acknowledged_at_end: AtomicU64,
}

impl Default for Witness {
    fn default() -> Self {
        Self { written: AtomicU64::new(0), acknowledged_at_end: AtomicU64::new(UNPROVEN) }
    }
}

impl Witness {
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.store(self.written() + bytes as u64, Ordering::Relaxed);
    }

    /// The peer has ended the connection.
    pub(super) fn ended(&self, stream: &TcpStream) {
        if let Some(acknowledged) = bytes_acknowledged(stream) {
            self.acknowledged_at_end.store(acknowledged, Ordering::Relaxed);
        }
    }

    /// A read or write failed. Only a broken pipe tells: it is what a reset is called once the peer's end has come.
    pub(super) fn broke(&self, stream: &TcpStream, error: &io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            self.ended(stream);
        }
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
    use crate::{
        http::io::Counted,
        record::{
            Metrics,
            labels::{Direction, Labels, Peer},
            tcp::TcpSeries,
        },
    };
    use std::sync::Arc;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A connection that carried one request, its witness, and the server's side of it.
    async fn used() -> (Counted, Arc<Witness>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let series = TcpSeries::new(&Metrics::new(), Peer::Destination, &Labels::direction(Direction::Inbound));
        let (mut client, witness) = Counted::new(stream, series.open()).witnessed();
        client.write_all(b"first").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(witness.written(), 5);
        (client, witness, server)
    }

    #[tokio::test]
    async fn a_request_that_met_the_end_of_its_connection_did_not_arrive() {
        let (mut client, witness, server) = used().await;
        drop(server);
        client.write_all(b"second").await.unwrap();
        // The answer to bytes after the end is a reset, and the second write a broken pipe.
        let _ = client.write_all(b"more").await;
        let _ = client.read_u8().await;
        assert!(witness.nothing_arrived_since(5));
    }

    #[tokio::test]
    async fn a_request_that_was_read_before_the_end_arrived() {
        let (mut client, witness, mut server) = used().await;
        client.write_all(b"second").await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
        drop(server);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(!witness.nothing_arrived_since(5));
    }

    #[tokio::test]
    async fn a_reset_proves_nothing() {
        let (mut client, witness, server) = used().await;
        client.write_all(b"second").await.unwrap();
        server.readable().await.unwrap();
        drop(server);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(!witness.nothing_arrived_since(5));
    }

    #[tokio::test]
    async fn a_connection_that_is_open_proves_nothing() {
        let (_client, witness, _server) = used().await;
        assert!(!witness.nothing_arrived_since(5));
    }
}
