//! A connection with what was read ahead of need, and what waits to be written.

use super::write::Output;
use crate::{http::limits, listen::io::Io};
use bytes::{Buf, BytesMut};
use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// Bytes of a buffer: what TLS gives at most at once, and more than most messages have.
const BUFFER: usize = 16 * 1024;

/// Bytes of a buffer where more comes than fits: larger reads save system calls.
const LARGE_BUFFER: usize = 64 * 1024;

/// Buffers that a worker keeps for the next connection.
const MOST_POOLED: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer of the worker's pool.
pub(super) fn buffer() -> BytesMut {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(BUFFER))
}

/// Gives a buffer back, unless somebody still holds a part of it.
pub(super) fn give_back(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        return;
    }
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    if buffer.try_reclaim(BUFFER) && buffer.capacity() < LARGE_BUFFER {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < MOST_POOLED {
                pool.push(buffer);
            }
        });
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) io: Io,
    /// Read, and not taken yet.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    /// How much of the input has been searched for the end of a head.
    searched: usize,
    /// The last read filled the buffer.
    filled: bool,
}

impl Transport {
    pub(super) fn new(io: Io) -> Self {
        Self { io, input: BytesMut::new(), output: Output::default(), searched: 0, filled: false }
    }

    /// Reads more of the input; how much, 0 at its end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { io, input, filled, .. } = self;
        if input.capacity() == 0 {
            *input = buffer();
        }
        if *filled {
            input.reserve(LARGE_BUFFER);
        } else if input.capacity() - input.len() < BUFFER / 8 {
            input.reserve(BUFFER);
        }
        let room = input.capacity() - input.len();
        let read = pin!(io.read_buf(input)).poll(cx);
        match &read {
            Poll::Ready(Ok(length)) => *filled = *length == room,
            Poll::Ready(Err(_)) => {}
            Poll::Pending => *filled = false,
        }
        if input.is_empty() {
            give_back(input);
        }
        read
    }

    /// Writes the output.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, output, .. } = self;
        if output.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let written = match output.slices(&mut slices) {
                1 => ready!(Pin::new(&mut *io).poll_write(cx, &slices[0]))?,
                several => ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..several]))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            output.wrote(written);
        }
        // TLS may hold some of it.
        ready!(Pin::new(io).poll_flush(cx))?;
        output.flushed();
        Poll::Ready(Ok(()))
    }

    /// Whether a head may have ended in the input since that was asked last. So a head that comes in small pieces is not
    /// read from its beginning with each of them.
    pub(super) fn may_have_head(&mut self) -> bool {
        let searched = std::mem::replace(&mut self.searched, self.input.len());
        let new = &self.input[searched.saturating_sub(2)..];
        searched == 0
            || self.input.len() >= limits::HEAD
            || new.windows(2).any(|end| end == b"\n\n")
            || new.windows(3).any(|end| end == b"\n\r\n")
    }

    /// Takes the head that was read off the input.
    pub(super) fn took_head(&mut self, length: usize) {
        self.input.advance(length);
        self.searched = 0;
        self.rest();
    }

    /// Gives back a buffer in which nothing is.
    pub(super) fn rest(&mut self) {
        if self.input.is_empty() {
            give_back(&mut self.input);
        }
    }
}
