//! What the kernel knows of a TCP connection: the one system call here that no crate wraps.
#![allow(unsafe_code)]

use std::{
    mem::{MaybeUninit, offset_of, size_of},
    os::fd::AsRawFd,
};
use tokio::net::TcpStream;

/// How many bytes the peer's kernel has acknowledged since the connection was opened by this side, if this kernel says.
pub(crate) fn bytes_acknowledged(stream: &TcpStream) -> Option<u64> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed; `info` has room for `length` bytes, and the
    // kernel writes at most so many.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let needed = offset_of!(libc::tcp_info, tcpi_bytes_acked) + size_of::<u64>();
    if failed != 0 || (length as usize) < needed {
        return None;
    }
    // SAFETY: the structure is of integers only, for which every pattern of bits is a value, and all of it was zeroed
    // before the kernel wrote to it.
    let info = unsafe { info.assume_init() };
    // Opening the connection took one sequence number, which the kernel counts as a byte.
    info.tcpi_bytes_acked.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[tokio::test]
    async fn the_kernel_counts_what_the_peer_has_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(bytes_acknowledged(&client), Some(0));
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        server.write_all(b"x").await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(bytes_acknowledged(&client), Some(5));
    }
}
