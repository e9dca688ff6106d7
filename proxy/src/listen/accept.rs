//! The accept loop: which connections are served, and what becomes of those that are not, before anything is made for
//! them.

use super::{
    drain::{Drain, OpenConnection, OpenConnections},
    original::OriginalDestination,
    room::Room,
    socket,
};
use crate::outcome::Seldom;
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

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
    /// As many are open as the listener has room for.
    TooMany,
    /// As many are open from its address as one address may take.
    TooManyOfAddress,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 5] =
        [Self::Loop, Self::NotRedirected, Self::NotThisPod, Self::TooMany, Self::TooManyOfAddress];

    /// Value of the metric label `reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::NotRedirected => "not_redirected",
            Self::NotThisPod => "not_this_pod",
            Self::TooMany => "too_many",
            Self::TooManyOfAddress => "too_many_of_address",
        }
    }
}

/// What connections come in by.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listeners: Vec<std::net::TcpListener>,
    /// How it is found where they were going.
    pub(crate) original: OriginalDestination,
    /// How many are served at once.
    pub(crate) room: Arc<Room>,
    /// Ends the service.
    pub(crate) drain: Drain,
}

/// Accepts until the drain is told and nothing is open any more. `is_probe` says whether what comes from an address may be
/// a probe of the kubelet, for which there is always room; it is asked only where there is none. `admit` decides on a
/// connection from its destination, `serve` starts to serve it and returns at once.
///
/// # Errors
/// Only where a listener cannot be used at all.
pub(crate) async fn accept(
    door: Door,
    is_probe: impl Fn(IpAddr) -> bool,
    mut admit: impl FnMut(SocketAddr) -> Result<(), Refusal>,
    mut refused: impl FnMut(Refusal),
    mut serve: impl FnMut(Accepted),
) -> io::Result<()> {
    let Door { listeners, original, room, mut drain } = door;
    let listeners = listeners.into_iter().map(socket::listener).collect::<io::Result<Vec<_>>>()?;
    let own_ports = listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<io::Result<Vec<_>>>()?;
    let connections = OpenConnections::within(room);
    let (crowded, failing) = (Seldom::default(), Seldom::default());
    let mut accepts: FuturesUnordered<_> = listeners.iter().map(|listener| next(listener, &failing)).collect();
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
        accepts.push(next(listener, &failing));
        // First of all whether there is room, for where there is none each step counts.
        let open = connections.open(peer.ip(), || is_probe(peer.ip()));
        let known = open.and_then(|open| {
            let destination = destination(&stream, original, &own_ports)?;
            admit(destination).map(|()| (destination, open))
        });
        match known {
            Ok((destination, open)) => serve(Accepted { stream, peer, destination, open }),
            Err(refusal) => {
                turn_away(stream, peer, refusal, &crowded);
                refused(refusal);
            }
        }
    }
}

/// Closes a connection that is not served. Where there is no room it is reset, so that nothing of it is left in the kernel
/// either, and its client learns at once that nobody will answer.
fn turn_away(stream: TcpStream, peer: SocketAddr, refusal: Refusal, crowded: &Seldom) {
    let reason = refusal.reason();
    tracing::debug!(%peer, reason, "connection refused");
    if matches!(refusal, Refusal::TooMany | Refusal::TooManyOfAddress) {
        // One that is broken already needs no reset.
        let _ = socket::reset_on_close(&stream);
        if let Some(left_out) = crowded.due(Instant::now()) {
            tracing::warn!(%peer, reason, left_out, "connection refused: there is no room for more");
        }
    }
}

/// The next connection on `listener`.
async fn next<'l>(listener: &'l TcpListener, failing: &Seldom) -> (&'l TcpListener, TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (listener, stream, canonical(peer)),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if let Some(left_out) = failing.due(Instant::now()) {
                    tracing::warn!(%error, left_out, "cannot accept connections, trying again");
                }
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
