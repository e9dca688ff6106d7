//! The options of sockets: what a proxy sets on those that it opens and accepts.

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{io, net::SocketAddr, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Length of the queue of connections that the kernel has accepted and the proxy has not.
const BACKLOG: i32 = 4096;

/// When a silent connection is probed, and how often: a peer that vanished is noticed within two minutes. One that vanishes
/// while bytes are on their way to it is [`super::vanished`]'s to find, because keepalive waits for silence.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10)).with_retries(6);

/// Whether other sockets may listen at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This one alone.
    Alone,
    /// One socket per worker, among which the kernel spreads connections (`SO_REUSEPORT`).
    AmongWorkers,
}

/// Listens at `address`. At an IPv6 wildcard address IPv4 connections are accepted too. Needs no runtime yet; the
/// worker that accepts makes it a tokio listener. What it accepts is [tuned](tune) already: on Linux a connection has the
/// options of the socket that accepted it, which saves five system calls a connection.
///
/// # Errors
/// The kernel's, where the address cannot be bound.
pub fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::AmongWorkers)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The tokio listener of a bound socket. Must be called on the worker's runtime.
pub(crate) fn listener(bound: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(bound)
}

/// Sets what every connection gets that the proxy opens: small writes go out at once, and a vanished peer is noticed.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

/// Closes with a reset instead of an orderly end when the stream is dropped.
pub(crate) fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_and_what_is_opened_has_the_same_options() {
        let listener = listener(bind("127.0.0.1:0".parse().unwrap(), Sharing::Alone).unwrap()).unwrap();
        let opened = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&opened).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for stream in [opened, accepted] {
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            let seconds = |time: io::Result<Duration>| time.unwrap().as_secs();
            let times = (seconds(socket.tcp_keepalive_time()), seconds(socket.tcp_keepalive_interval()));
            assert_eq!((times, socket.tcp_keepalive_retries().unwrap()), ((60, 10), 6));
        }
    }
}
