//! Where a redirected connection was going.

use socket2::SockRef;
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

/// How the original destination of an accepted connection is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalDestination {
    /// The kernel's connection tracking knows it: the connection was redirected by the rules of `conduit-init`.
    Redirected,
    /// Every connection goes to this address: a proxy in front of one destination, without redirection.
    Fixed(SocketAddr),
}

impl OriginalDestination {
    /// Where `stream` was going.
    ///
    /// # Errors
    /// The kernel's, which is `ENOENT` for a connection that was not redirected.
    pub fn of(self, stream: &TcpStream) -> io::Result<SocketAddr> {
        match self {
            Self::Fixed(address) => Ok(address),
            Self::Redirected => {
                let socket = SockRef::from(stream);
                // A dual-stack listener accepts IPv4 connections with mapped addresses; what tracks them is IPv4's.
                let original = match stream.local_addr()?.ip().to_canonical().is_ipv4() {
                    true => socket.original_dst_v4(),
                    false => socket.original_dst_v6(),
                }?;
                original.as_socket().ok_or_else(|| io::Error::other("the original destination is not an IP address"))
            }
        }
    }
}
