//! What an HTTP/2 connection writes in one turn goes out in one piece.
//!
//! `h2` flushes after every frame that carries data. Here flushing does nothing, and whoever drives the connection sends
//! what has gathered when `h2` has nothing more to say. The memory for it is lent by the worker, and taken back when all
//! has been sent: an idle connection holds none.

use crate::listen::io::Io;
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered before they are sent even within a turn: four TLS records. About twice that is what a peer that
/// does not read leaves in memory, beside the windows.
const MOST: usize = 64 * 1024;

/// Buffers that a worker keeps for the next connection that has something to say.
const MOST_SPARE: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The connection as `h2` has it.
#[derive(Debug)]
pub(super) struct Wire(Rc<RefCell<Gathering>>);

/// The connection as whoever drives `h2` has it.
#[derive(Debug)]
pub(super) struct Outlet(Rc<RefCell<Gathering>>);

#[derive(Debug)]
struct Gathering {
    io: Io,
    gathered: Vec<u8>,
    /// How much of it has been sent.
    sent: usize,
    /// Some has been sent to what is below, which may still hold it.
    unflushed: bool,
    heard: bool,
    ever_heard: bool,
    /// Nothing has come that was not read in this turn. Each request that `h2` gives out has it look for more.
    dry: bool,
}

/// Both sides of one connection.
pub(super) fn wire(io: Io) -> (Wire, Outlet) {
    let gathering =
        Gathering { io, gathered: Vec::new(), sent: 0, unflushed: false, heard: false, ever_heard: false, dry: false };
    let gathering = Rc::new(RefCell::new(gathering));
    (Wire(gathering.clone()), Outlet(gathering))
}

impl Outlet {
    /// A turn begins, in which it is looked once more whether anything has come.
    pub(super) fn turn(&self) {
        self.0.borrow_mut().dry = false;
    }

    /// Sends what has gathered.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Whether anything was read since this was last asked.
    pub(super) fn heard(&self) -> bool {
        mem::take(&mut self.0.borrow_mut().heard)
    }

    /// Whether anything was ever read.
    pub(super) fn ever_heard(&self) -> bool {
        self.0.borrow().ever_heard
    }

    /// Reads what nobody needs any more.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, into)
    }
}

impl Gathering {
    fn gather(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        if self.gathered.capacity() == 0 {
            self.gathered = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.sent >= MOST {
            // To a peer that always leaves a little unsent, all would never have been sent.
            self.gathered.drain(..mem::take(&mut self.sent));
        }
        let before = self.gathered.len();
        pieces.iter().for_each(|piece| self.gathered.extend_from_slice(piece));
        self.gathered.len() - before
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.gathered[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.unflushed = true;
        }
        self.give_back();
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        self.sent = 0;
        if self.gathered.capacity() == 0 {
            return;
        }
        let mut empty = mem::take(&mut self.gathered);
        empty.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST_SPARE {
                spare.push(empty);
            }
        });
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.gathered.len() - self.sent >= MOST {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(self.gather(pieces)))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let gathering = &mut *self.0.borrow_mut();
        if gathering.dry {
            // Whoever drives the connection is woken when something comes, since it was looked first.
            return Poll::Pending;
        }
        let read = Pin::new(&mut gathering.io).poll_read(cx, buf);
        gathering.dry = read.is_pending();
        let read = ready!(read);
        (gathering.heard, gathering.ever_heard) = (true, true);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The outlet sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::pairs::connected;

    #[tokio::test]
    async fn what_has_been_sent_takes_no_memory_though_something_always_waits() {
        let (near, _far) = connected().await;
        let (_wire, outlet) = wire(near.into());
        let mut gathering = outlet.0.borrow_mut();
        let (mut written, mut left) = ((0..=u8::MAX).cycle(), (0..=u8::MAX).cycle());
        for _ in 0..1000 {
            let piece: Vec<u8> = written.by_ref().take(MOST / 2).collect();
            assert_eq!(gathering.gather(&[IoSlice::new(&piece)]), piece.len());
            // All but a byte leaves.
            let unsent = gathering.gathered.len() - 1;
            let leaving = &gathering.gathered[gathering.sent..unsent];
            assert!(leaving.iter().copied().eq(left.by_ref().take(leaving.len())));
            gathering.sent = unsent;
        }
        assert!(gathering.gathered.capacity() <= 4 * MOST, "{}", gathering.gathered.capacity());
    }
}
