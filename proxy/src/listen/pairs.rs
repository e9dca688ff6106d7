//! Connections for tests: both ends of one, plain or with TLS between them.

use super::io::{Counted, Io};
use crate::{
    record::{
        Metrics,
        labels::{Direction, Labels, Peer},
        tcp::TcpSeries,
    },
    tls::{fake, handshake},
};
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};

/// What is above TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
}

/// Each kind.
pub(crate) const KINDS: [Kind; 2] = [Kind::Plain, Kind::Tls];

/// The two ends of a connection.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The peer's.
    pub(crate) far: Io,
    /// The proxy's.
    pub(crate) near: Io,
}

impl Pair {
    /// One that the peer opened to the proxy.
    pub(crate) async fn accepted(kind: Kind) -> Self {
        let (client, server) = connected().await;
        let (far, near) = handshaken(kind, client, server).await;
        Self { far, near }
    }

    /// One that the proxy opened to the peer.
    pub(crate) async fn opened(kind: Kind) -> Self {
        let (client, server) = connected().await;
        let (near, far) = handshaken(kind, client, server).await;
        Self { far, near }
    }
}

/// A connection as it is counted.
pub(crate) fn counted(stream: TcpStream) -> Counted {
    let series = TcpSeries::new(&Metrics::new(), Peer::Destination, &Labels::direction(Direction::Outbound));
    Counted::new(stream, series.open())
}

/// The client's and the server's end of a TCP connection.
pub(crate) async fn connected() -> (Counted, Counted) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (counted(client), counted(listener.accept().await.unwrap().0))
}

/// The client's and the server's end with what is above TCP.
pub(crate) async fn handshaken(kind: Kind, client: Counted, server: Counted) -> (Io, Io) {
    if kind == Kind::Plain {
        return (client.into(), server.into());
    }
    let (at_client, at_server) = fake::configs();
    let name = ServerName::try_from("peer").unwrap();
    let (client, server) =
        tokio::join!(handshake::connect(client, at_client, name, Vec::new()), handshake::accept(server, at_server));
    (client.unwrap().into_stream().unwrap().into(), server.unwrap().into_stream().unwrap().into())
}
