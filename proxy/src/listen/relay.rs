//! The relay of bytes between two connections, in both directions at once.
//!
//! What a relay must carry is more than bytes: the end of one direction while the other goes on (a client that shuts
//! down its side and then waits for the answer), and a reset as a reset, so that an application that tells them apart
//! sees what happened. A FIN on one side is `close_notify` and a FIN where the other has TLS, and the other way round. TLS
//! that ends without `close_notify` has been cut (RFC 8446 section 6.1): that is a reset too.
//!
//! Memory: a connection that waits holds no buffer. One is taken from the worker's pool when bytes are there to be
//! read, and given back as soon as the stream has no more; a slow reader keeps one for what it has not taken. Bytes that
//! came under TLS are written from where they were opened, several records in one write.

use super::io::Io;
use crate::tls::{
    MOST_SLICES,
    buffer::{Buffer, PLAIN},
};
use bytes::{Buf, Bytes};
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

/// One side of a relay.
pub(crate) struct Side<'s> {
    pub(crate) io: &'s mut Io,
    /// What was read from it before the relay started.
    pub(crate) read_already: Bytes,
}

/// How far one direction has come.
enum Way {
    /// What was read before the relay started is to be written.
    First(Bytes),
    Reading,
    Writing {
        buffer: Buffer,
        written: usize,
        length: usize,
    },
    /// What the source's TLS has opened is to be written.
    Passing,
    /// What TLS still holds of what was written is to go out.
    Flushing,
    /// The source has ended, and the sink is told so.
    Ending,
    Ended,
}

/// Relays until both directions have ended.
///
/// # Errors
/// The first error of either connection; both are then closed with a reset once dropped, and have it in their records.
pub(crate) async fn relay(client: Side<'_>, server: Side<'_>) -> io::Result<()> {
    let (mut upward, mut downward) = (Way::First(client.read_already), Way::First(server.read_already));
    let (client, server) = (client.io, server.io);
    let ended = poll_fn(|cx| {
        let up = upward.poll(client, server, cx)?;
        let down = downward.poll(server, client, cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    if let Err(error) = &ended {
        for io in [client, server] {
            io.record().broke(error);
            io.reset_on_close();
        }
    }
    ended
}

impl Way {
    /// Moves bytes from `source` to `sink` until the source ends, and ends the sink.
    fn poll(&mut self, source: &mut Io, sink: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            *self = match self {
                Self::First(bytes) => {
                    while bytes.has_remaining() {
                        bytes.advance(ready!(poll_write(sink, bytes, cx))?);
                    }
                    Self::Flushing
                }
                Self::Reading => match source {
                    Io::Plain(_) => match ready!(poll_read(source, cx))? {
                        (_, 0) => Self::Ending,
                        (buffer, length) => Self::Writing { buffer, written: 0, length },
                    },
                    Io::Tls(tls) => match ready!(Pin::new(tls).poll_fill_buf(cx))? {
                        [] => Self::Ending,
                        _ => Self::Passing,
                    },
                },
                Self::Writing { buffer, written, length } => {
                    while written < length {
                        *written += ready!(poll_write(sink, &buffer[*written..*length], cx))?;
                    }
                    Self::Flushing
                }
                Self::Passing => {
                    ready!(poll_pass(source, sink, cx))?;
                    Self::Flushing
                }
                Self::Flushing => {
                    ready!(Pin::new(&mut *sink).poll_flush(cx))?;
                    Self::Reading
                }
                Self::Ending => {
                    match ready!(Pin::new(&mut *sink).poll_shutdown(cx)) {
                        // The peer has closed both its directions: it does not wait for the end.
                        Err(error) if error.kind() != io::ErrorKind::NotConnected => return Poll::Ready(Err(error)),
                        Ok(()) | Err(_) => Self::Ended,
                    }
                }
                Self::Ended => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Reads into a buffer that is taken only for the read: no more than goes on in one packet.
fn poll_read(source: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<(Buffer, usize)>> {
    let mut buffer = Buffer::take();
    let mut unfilled = ReadBuf::new(&mut buffer[..PLAIN]);
    ready!(Pin::new(source).poll_read(cx, &mut unfilled))?;
    let length = unfilled.filled().len();
    Poll::Ready(Ok((buffer, length)))
}

fn poll_write(sink: &mut Io, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(sink).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(written),
    }
}

/// Writes all that the source's TLS has opened.
fn poll_pass(source: &mut Io, sink: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let Io::Tls(tls) = source else { return Poll::Ready(Ok(())) };
    loop {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let written = match tls.slices(&mut slices) {
            0 => return Poll::Ready(Ok(())),
            1 => ready!(poll_write(sink, &slices[0], cx))?,
            shown => match ready!(Pin::new(&mut *sink).poll_write_vectored(cx, &slices[..shown]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => written,
            },
        };
        Pin::new(&mut **tls).consume(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listen::pairs::{KINDS, Pair},
        tls::buffer,
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn unread(io: &mut Io) -> Side<'_> {
        Side { io, read_already: Bytes::new() }
    }

    /// A client and a server with what is between them, once for each combination of plain and TLS.
    async fn pairs() -> Vec<(Pair, Pair)> {
        let mut pairs = Vec::new();
        for client in KINDS {
            for server in KINDS {
                pairs.push((Pair::accepted(client).await, Pair::opened(server).await));
            }
        }
        pairs
    }

    #[tokio::test]
    async fn one_direction_ends_while_the_other_goes_on() {
        for (Pair { far: mut client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            let talk = async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                let mut question = String::new();
                server.read_to_string(&mut question).await.unwrap();
                server.write_all(format!("answer to {question}").as_bytes()).await.unwrap();
                server.shutdown().await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let relayed = relay(unread(&mut front), unread(&mut back));
            let (ended, answer) = tokio::join!(relayed, talk);
            ended.unwrap();
            assert_eq!(answer, "answer to question");
        }
    }

    #[tokio::test]
    async fn what_was_read_before_goes_first() {
        for (Pair { far: mut client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            client.write_all(b"tail").await.unwrap();
            client.shutdown().await.unwrap();
            server.shutdown().await.unwrap();
            let side = Side { io: &mut front, read_already: Bytes::from_static(b"head,") };
            relay(side, unread(&mut back)).await.unwrap();
            let mut all = String::new();
            server.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, "head,tail");
        }
    }

    #[tokio::test]
    async fn what_is_written_goes_out_before_more_comes() {
        for (Pair { far: mut client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            let talk = async {
                for byte in 0..3 {
                    client.write_u8(byte).await.unwrap();
                    client.flush().await.unwrap();
                    assert_eq!(server.read_u8().await.unwrap(), byte);
                }
            };
            tokio::select! {
                ended = relay(unread(&mut front), unread(&mut back)) => panic!("{ended:?}"),
                () = talk => {}
            }
        }
    }

    #[tokio::test]
    async fn a_reset_is_carried_as_a_reset() {
        for (Pair { far: client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            client.reset_on_close();
            drop(client);
            let ended = relay(unread(&mut front), unread(&mut back)).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            drop(back);
            assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn tls_that_ends_without_saying_so_was_cut_and_is_carried_as_a_reset() {
        for (Pair { far: client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            if let Io::Plain(_) = client {
                continue;
            }
            // A FIN that anybody could have sent.
            socket2::SockRef::from(&client.counted().stream).shutdown(std::net::Shutdown::Write).unwrap();
            let ended = relay(unread(&mut front), unread(&mut back)).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            drop(back);
            assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn a_large_transfer_arrives_whole_through_a_slow_reader() {
        const SIZE: usize = 3_000_001;
        for (Pair { far: mut client, near: mut front }, Pair { far: mut server, near: mut back }) in pairs().await {
            let sent: Vec<u8> = (0..=255).cycle().take(SIZE).collect();
            let talk = async {
                let send = async {
                    client.write_all(&sent).await.unwrap();
                    client.shutdown().await.unwrap();
                };
                let receive = async {
                    let (mut all, mut some) = (Vec::<u8>::new(), vec![0; 50_001]);
                    loop {
                        match server.read(&mut some).await.unwrap() {
                            0 => break,
                            length => all.extend(&some[..length]),
                        }
                        tokio::task::yield_now().await;
                    }
                    server.shutdown().await.unwrap();
                    all
                };
                let ((), all) = tokio::join!(send, receive);
                all
            };
            let (ended, all) = tokio::join!(relay(unread(&mut front), unread(&mut back)), talk);
            ended.unwrap();
            assert!(all == sent);
        }
    }

    #[tokio::test]
    async fn a_relay_that_waits_holds_no_buffer() {
        for (Pair { far: _client, near: mut front }, Pair { far: _server, near: mut back }) in pairs().await {
            let relayed = relay(unread(&mut front), unread(&mut back));
            tokio::time::timeout(std::time::Duration::from_millis(20), relayed).await.unwrap_err();
            assert_eq!(buffer::pooled(), 1, "one buffer, and it is in the pool");
        }
    }

    #[tokio::test]
    async fn a_relay_is_small() {
        let (mut front, mut back) = (Pair::accepted(KINDS[0]).await.near, Pair::opened(KINDS[0]).await.near);
        let relayed = relay(unread(&mut front), unread(&mut back));
        assert!(size_of_val(&relayed) <= 320, "{} bytes", size_of_val(&relayed));
    }
}
