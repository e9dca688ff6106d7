//! The accept loop.

use super::{
    drain::{Drain, OpenConnection, OpenConnections},
    original::OriginalDestination,
    socket,
};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// How long the loop waits after an error that another try at once would meet again, such as no free descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    /// Where it came from.
    pub(crate) peer: SocketAddr,
    /// Where it was going.
    pub(crate) destination: SocketAddr,
    /// Held until it is closed.
    pub(crate) open: OpenConnection,
}

/// Why a connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Its destination was the proxy itself: serving it would never end.
    Loop,
    /// It was not redirected, so nobody knows where it was going.
    NotRedirected,
    /// Its destination is not an address of this pod.
    NotThisPod,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 3] = [Self::Loop, Self::NotRedirected, Self::NotThisPod];

    /// Value of the metric label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::NotRedirected => "not_redirected",
            Self::NotThisPod => "not_this_pod",
        }
    }
}

/// Accepts on all of `listeners` until the drain is told and nothing is open any more. `admit` decides on a
/// connection from its destination, `serve` starts to serve it and returns at once.
///
/// # Errors
/// Only where a listener cannot be used at all.
pub(crate) async fn accept(
    listeners: Vec<std::net::TcpListener>,
    original: OriginalDestination,
    mut drain: Drain,
    mut admit: impl FnMut(SocketAddr) -> Result<(), Refusal>,
    mut refused: impl FnMut(Refusal),
    mut serve: impl FnMut(Accepted),
) -> io::Result<()> {
    let listeners = listeners.into_iter().map(socket::listener).collect::<io::Result<Vec<_>>>()?;
    let own_ports = listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
    let connections = OpenConnections::default();
    let mut accepts: FuturesUnordered<_> = listeners.iter().map(next).collect();
    let drained = async {
        drain.draining().await;
        connections.none().await;
    };
    tokio::pin!(drained);
    loop {
        let (listener, stream, peer) = tokio::select! {
            biased;
            Some(accepted) = accepts.next() => accepted,
            () = &mut drained => return Ok(()),
        };
        accepts.push(next(listener));
        match destination(&stream, original, &own_ports).and_then(|to| admit(to).map(|()| to)) {
            Ok(destination) => serve(Accepted { stream, peer, destination, open: connections.open() }),
            Err(refusal) => {
                tracing::debug!(%peer, reason = refusal.reason(), "connection refused");
                refused(refusal);
            }
        }
    }
}

/// The next connection on `listener`, with its options set.
async fn next(listener: &TcpListener) -> (&TcpListener, TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match socket::tune(&stream) {
                Ok(()) => return (listener, stream, canonical(peer)),
                // The peer has gone already.
                Err(error) => tracing::debug!(%peer, %error, "connection lost before it was served"),
            },
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections, trying again");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

/// Whether an error of `accept` says that one connection broke before it was accepted; the next can be well.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Where `stream` was going, if that is somewhere else than here.
fn destination(stream: &TcpStream, original: OriginalDestination, own_ports: &[u16]) -> Result<SocketAddr, Refusal> {
    let destination = original.of(stream).map(canonical).map_err(|_| Refusal::NotRedirected)?;
    let here = stream.local_addr().map(canonical).map_err(|_| Refusal::NotRedirected)?;
    // Connection tracking gives a connection that was not redirected its own address.
    match destination == here || (destination.ip() == here.ip() && own_ports.contains(&destination.port())) {
        true => Err(Refusal::Loop),
        false => Ok(destination),
    }
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
