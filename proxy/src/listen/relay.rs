//! The relay of bytes between two streams, in both directions at once.
//!
//! What a relay must carry is more than bytes: the end of one direction while the other goes on (a client that shuts
//! down its side and then waits for the answer), and a reset as a reset, so that an application that tells them apart
//! sees what happened.
//!
//! Memory: a connection that waits holds no buffer. One is taken from the worker's pool when bytes are there to be
//! read, and given back as soon as the stream has no more; a slow reader keeps one for what it has not taken.

use super::socket;
use bytes::Bytes;
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// Bytes read at once. Larger reads save system calls for bulk; 64 KiB is where the gain ends.
const BUFFER: usize = 64 * 1024;

/// Buffers that a worker keeps for the next connection.
const MOST_POOLED: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of the worker's pool, given back when dropped.
struct Buffer(Box<[u8]>);

/// One side of a relay.
pub(crate) struct Side<'s> {
    pub(crate) stream: &'s mut TcpStream,
    /// What was read from the stream before the relay started.
    pub(crate) read_already: Bytes,
}

/// Hears of bytes as they pass.
pub(crate) trait Tally {
    /// So many bytes went from the client to the server.
    fn sent(&self, bytes: usize);
    /// So many bytes came from the server to the client.
    fn received(&self, bytes: usize);
}

/// Relays until both directions have ended.
///
/// # Errors
/// The first error of either stream; both are then closed with a reset.
pub(crate) async fn relay(client: Side<'_>, server: Side<'_>, tally: &impl Tally) -> io::Result<()> {
    let ended = {
        let (client_source, client_sink) = client.stream.split();
        let (server_source, server_sink) = server.stream.split();
        let upward = one_way(client_source, client.read_already, server_sink, |bytes| tally.sent(bytes));
        let downward = one_way(server_source, server.read_already, client_sink, |bytes| tally.received(bytes));
        futures::future::try_join(upward, downward).await
    };
    if ended.is_err() {
        // The streams are about to be dropped. On one that is broken already this may fail, and does not matter.
        let _ = socket::reset_on_close(client.stream);
        let _ = socket::reset_on_close(server.stream);
    }
    ended.map(|((), ())| ())
}

/// Moves bytes from `source` to `sink` until the source ends, and ends the sink.
async fn one_way(
    mut source: ReadHalf<'_>,
    first: Bytes,
    mut sink: WriteHalf<'_>,
    passed: impl Fn(usize),
) -> io::Result<()> {
    if !first.is_empty() {
        sink.write_all(&first).await?;
        passed(first.len());
    }
    drop(first);
    loop {
        let (buffer, length) = poll_fn(|cx| poll_read(&mut source, cx)).await?;
        if length == 0 {
            return end(sink.as_ref());
        }
        sink.write_all(&buffer.0[..length]).await?;
        passed(length);
    }
}

/// Reads into a buffer that is taken only for the read.
fn poll_read(source: &mut ReadHalf<'_>, cx: &mut Context<'_>) -> Poll<io::Result<(Buffer, usize)>> {
    let mut buffer = Buffer::take();
    let mut unfilled = ReadBuf::new(&mut buffer.0);
    ready!(Pin::new(source).poll_read(cx, &mut unfilled))?;
    let length = unfilled.filled().len();
    Poll::Ready(Ok((buffer, length)))
}

/// Carries the end of one direction over to the other stream.
fn end(sink: &TcpStream) -> io::Result<()> {
    match socket::shutdown_write(sink) {
        // The peer has closed both its directions: it does not wait for the end.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        ended => ended,
    }
}

impl Buffer {
    fn take() -> Self {
        let pooled = POOL.with_borrow_mut(Vec::pop);
        Self(pooled.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice()))
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // The pool is gone while the thread ends; the buffer then simply goes too.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MOST_POOLED {
                pool.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::{io::AsyncReadExt, net::TcpListener};

    fn unread(stream: &mut TcpStream) -> Side<'_> {
        Side { stream, read_already: Bytes::new() }
    }

    #[derive(Default)]
    struct Counted {
        sent: Cell<usize>,
        received: Cell<usize>,
    }

    impl Tally for Counted {
        fn sent(&self, bytes: usize) {
            self.sent.set(self.sent.get() + bytes);
        }
        fn received(&self, bytes: usize) {
            self.received.set(self.received.get() + bytes);
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn one_direction_ends_while_the_other_goes_on() {
        let ((mut client, mut front), (mut back, mut server)) = (pair().await, pair().await);
        let tally = Counted::default();
        let talk = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = String::new();
            server.read_to_string(&mut question).await.unwrap();
            server.write_all(format!("answer to {question}").as_bytes()).await.unwrap();
            drop(server);
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let relayed = relay(unread(&mut front), unread(&mut back), &tally);
        let (ended, answer) = tokio::join!(relayed, talk);
        ended.unwrap();
        assert_eq!(answer, "answer to question");
        assert_eq!((tally.sent.get(), tally.received.get()), (8, 18));
    }

    #[tokio::test]
    async fn what_was_read_before_goes_first() {
        let ((mut client, mut front), (mut back, mut server)) = (pair().await, pair().await);
        client.write_all(b"tail").await.unwrap();
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        let side = Side { stream: &mut front, read_already: Bytes::from_static(b"head,") };
        relay(side, unread(&mut back), &Counted::default()).await.unwrap();
        let mut all = String::new();
        server.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "head,tail");
    }

    #[tokio::test]
    async fn a_reset_is_carried_as_a_reset() {
        let ((client, mut front), (mut back, mut server)) = (pair().await, pair().await);
        socket::reset_on_close(&client).unwrap();
        drop(client);
        let ended = relay(unread(&mut front), unread(&mut back), &Counted::default()).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        drop(back);
        assert_eq!(server.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_relay_that_waits_holds_no_buffer() {
        let ((_client, mut front), (mut back, _server)) = (pair().await, pair().await);
        let tally = Counted::default();
        let relayed = relay(unread(&mut front), unread(&mut back), &tally);
        tokio::time::timeout(std::time::Duration::from_millis(20), relayed).await.unwrap_err();
        assert_eq!(POOL.with_borrow(Vec::len), 1, "one buffer, and it is in the pool");
    }

    #[tokio::test]
    async fn a_relay_is_small() {
        let ((_client, mut front), (mut back, _server)) = (pair().await, pair().await);
        let tally = Counted::default();
        let relayed = relay(unread(&mut front), unread(&mut back), &tally);
        assert!(size_of_val(&relayed) <= 640, "{} bytes", size_of_val(&relayed));
    }
}
