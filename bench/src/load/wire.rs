//! What clients and the origin agree on: commands of the plain TCP port, and as much of HTTP/1.1 as both need.

use anyhow::Result;
use bytes::BytesMut;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// First byte of a TCP connection on which everything comes back.
pub(crate) const ECHO: u8 = b'E';
/// First byte of one on which everything is taken, and then counted: eight bytes come back, and the checksum.
pub(crate) const SINK: u8 = b'S';
/// First byte of one on which as much comes as the next eight bytes say.
pub(crate) const SOURCE: u8 = b'G';

/// Reads until a head is in the buffer, and gives where it ends; none where the connection ends before.
pub(crate) async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Option<usize>> {
    loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of the body that a head declares.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_body_is_found_whatever_the_case_of_its_name() {
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Some(12));
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\ncontent-length:7\r\n\r\n"), Some(7));
        assert_eq!(content_length(b"HTTP/1.1 200 OK\r\nx-content-length: 7\r\n\r\n"), None);
    }
}
