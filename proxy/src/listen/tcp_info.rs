//! What the kernel knows of a TCP connection, and its end at once: the system calls here that no crate wraps.
//!
//! Connections are given by number, for whoever looks after all of a worker's does not own them. A number that is not that
//! of a TCP connection is answered as an error.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, offset_of, size_of},
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};
use tokio::net::TcpStream;

/// How what was sent on a connection fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Segments on their way, sent and not acknowledged.
    pub(super) unacknowledged: u32,
    /// Bytes that the peer would take.
    pub(super) window: u32,
    /// How often in a row the kernel has waited in vain for an acknowledgement.
    pub(super) timeouts: u8,
    /// How long it waits now, twice as long each time.
    pub(super) timeout: Duration,
    /// Since it last sent something.
    pub(super) sent: Duration,
    /// Since it last had an acknowledgement, of whatever.
    pub(super) heard: Duration,
    /// Probes of a closed window that are not answered.
    pub(super) probes: u8,
}

/// How what was sent on the connection `fd` fares, if it is one and this kernel says.
pub(super) fn delivery(fd: RawFd) -> Option<Delivery> {
    let info = read(fd, offset_of!(libc::tcp_info, tcpi_snd_wnd) + size_of::<u32>())?;
    Some(Delivery {
        unacknowledged: info.tcpi_unacked,
        window: info.tcpi_snd_wnd,
        timeouts: info.tcpi_backoff,
        timeout: Duration::from_micros(info.tcpi_rto.into()),
        sent: Duration::from_millis(info.tcpi_last_data_sent.into()),
        heard: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        probes: info.tcpi_probes,
    })
}

/// How many bytes the peer's kernel has acknowledged since the connection was opened by this side, if this kernel says.
pub(super) fn bytes_acknowledged(stream: &TcpStream) -> Option<u64> {
    let info = read(stream.as_raw_fd(), offset_of!(libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>())?;
    // Opening the connection took one sequence number, which the kernel counts as a byte.
    info.tcpi_bytes_acked.checked_sub(1)
}

/// What the kernel says, if that is at least its first `needed` bytes.
fn read(fd: RawFd, needed: usize) -> Option<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: `info` has room for `length` bytes, and the kernel writes at most so many, if `fd` is a connection at all.
    let failed =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length) };
    if failed != 0 || (length as usize) < needed {
        return None;
    }
    // SAFETY: the structure is of integers only, for which every pattern of bits is a value, and all of it was zeroed
    // before the kernel wrote to it.
    Some(unsafe { info.assume_init() })
}

/// Ends the connection `fd` here and now: a reset is sent, what was not delivered is gone, and whoever waits for it finds it
/// broken (connect(2): an address of no family dissolves a connection).
///
/// # Errors
/// The kernel's.
pub(super) fn abort(fd: RawFd) -> io::Result<()> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    // SAFETY: `nowhere` is an address of the length that is said.
    let failed = unsafe { libc::connect(fd, &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_kernel_counts_what_the_peer_has_taken() {
        let (mut client, mut server) = connected().await;
        assert_eq!(bytes_acknowledged(&client), Some(0));
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(bytes_acknowledged(&client), Some(5));
    }

    #[tokio::test]
    async fn what_was_delivered_is_not_waited_for() {
        let (mut client, mut server) = connected().await;
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        let delivery = delivery(client.as_raw_fd()).unwrap();
        assert_eq!((delivery.unacknowledged, delivery.timeouts, delivery.probes), (0, 0, 0));
        assert!(delivery.timeout > Duration::ZERO && delivery.timeout < Duration::from_secs(10), "{delivery:?}");
    }

    #[tokio::test]
    async fn an_aborted_connection_is_broken_at_once_at_both_its_ends() {
        let (mut client, mut server) = connected().await;
        let waits = async { client.read_u8().await.unwrap_err().kind() };
        let (here, ()) = tokio::join!(waits, async { abort(server.as_raw_fd()).unwrap() });
        assert_eq!(here, io::ErrorKind::ConnectionReset);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_no_connection_is_not_taken_for_one() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(delivery(file.as_raw_fd()), None);
        assert!(abort(file.as_raw_fd()).is_err());
    }
}
