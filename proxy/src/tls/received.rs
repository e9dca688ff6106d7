//! What has come on a connection: records that are to be opened, and what was opened and not read yet.
//!
//! Both lie in one buffer of the pool, records opened in place. It is taken to receive, and given back once nothing is in
//! it; a record of which only a part has come, on a connection on which nothing more comes for now, waits by itself.

use super::{
    buffer::Buffer,
    record::{Framed, HEADER, Opener, framed, inappropriate},
};
use rustls::{ContentType, Error};
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// Slices that are shown at once: a full buffer of full records has fewer.
pub(crate) const MOST_SLICES: usize = 16;
/// Opened records that room is kept for while nothing is there.
const FEW: usize = 4;

/// What a record carries.
pub(super) enum Opened<'r> {
    /// Something to be read, once it is kept.
    Data(Range<u32>),
    /// Padding alone.
    Nothing,
    Alert(&'r [u8]),
    /// One or more, or parts, of a handshake's messages.
    Messages(&'r [u8]),
}

#[derive(Debug, Default)]
pub(super) struct Received {
    buffer: Option<Buffer>,
    /// Where the records are that were not opened.
    sealed: Range<usize>,
    /// Where what was opened is, in its order, before those; none is empty.
    opened: VecDeque<Range<u32>>,
    /// A part of a record, while there is no buffer.
    part: Vec<u8>,
}

impl Received {
    /// What had come already with the handshake.
    pub(super) fn with(part: Vec<u8>) -> Self {
        Self { part, ..Self::default() }
    }

    /// Whether there is something to be read.
    pub(super) fn is_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// The first of what is there to be read; nothing if there is nothing.
    pub(super) fn first(&self) -> &[u8] {
        match (&self.buffer, self.opened.front()) {
            (Some(buffer), Some(range)) => &buffer[range.start as usize..range.end as usize],
            _ => &[],
        }
    }

    /// The beginning of what is there to be read.
    pub(super) fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>; MOST_SLICES]) -> usize {
        let Some(buffer) = &self.buffer else { return 0 };
        let shown = self.opened.iter().zip(slices.iter_mut());
        shown.map(|(range, slice)| *slice = IoSlice::new(&buffer[range.start as usize..range.end as usize])).count()
    }

    /// So many bytes of it were read.
    pub(super) fn consume(&mut self, mut bytes: usize) {
        while let Some(first) = self.opened.front_mut() {
            let length = (first.end - first.start) as usize;
            if bytes < length {
                first.start += bytes as u32;
                return;
            }
            bytes -= length;
            self.opened.pop_front();
        }
        if self.sealed.is_empty() {
            self.release();
        }
    }

    /// Opens the next record, if all of it has come.
    ///
    /// # Errors
    /// It is none that the peer sealed.
    pub(super) fn open(&mut self, opener: &mut Opener) -> Result<Option<Opened<'_>>, Error> {
        // What came with the handshake may be whole already, with nothing to follow.
        if self.buffer.is_none() && framed(&self.part)? != Framed::Part {
            self.make_room();
        }
        let Some(buffer) = &mut self.buffer else { return Ok(None) };
        let record = &mut buffer[self.sealed.clone()];
        let Framed::Whole(length) = framed(record)? else { return Ok(None) };
        let (kind, carried) = opener.open(&mut record[..length])?;
        let start = self.sealed.start + HEADER;
        self.sealed.start += length;
        let carried = start..start + carried;
        Ok(Some(match kind {
            ContentType::ApplicationData if carried.is_empty() => Opened::Nothing,
            ContentType::ApplicationData => Opened::Data(carried.start as u32..carried.end as u32),
            ContentType::Alert => Opened::Alert(&buffer[carried]),
            ContentType::Handshake => Opened::Messages(&buffer[carried]),
            other => return Err(inappropriate(other)),
        }))
    }

    /// Has `data`, which was just opened, be read after what is there already.
    pub(super) fn keep(&mut self, data: Range<u32>) {
        self.opened.push_back(data);
    }

    /// What comes from now on is not looked at.
    pub(super) fn end(&mut self) {
        self.sealed = 0..0;
        if self.opened.is_empty() {
            self.release();
        }
    }

    /// Reads what there is on `io` now, for as much as there is room for: how many bytes, none at its end. Only while
    /// nothing is there to be read.
    pub(super) fn poll_receive(
        &mut self,
        io: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let Self { buffer: Some(buffer), sealed, .. } = self else { return Poll::Ready(Ok(0)) };
        let mut unfilled = ReadBuf::new(&mut buffer[sealed.end..]);
        match io.poll_read(cx, &mut unfilled) {
            Poll::Ready(result) => {
                let length = unfilled.filled().len();
                sealed.end += length;
                Poll::Ready(result.map(|()| length))
            }
            Poll::Pending => {
                self.part = buffer[sealed.clone()].to_vec();
                self.release();
                Poll::Pending
            }
        }
    }

    /// Takes a buffer, and moves what has come of a record to where the rest has room.
    fn make_room(&mut self) {
        match &mut self.buffer {
            Some(buffer) => {
                let length = self.sealed.len();
                buffer.copy_within(self.sealed.clone(), 0);
                self.sealed = 0..length;
            }
            None => {
                let mut buffer = Buffer::take();
                let length = self.part.len();
                buffer[..length].copy_from_slice(&self.part);
                self.part = Vec::new();
                self.sealed = 0..length;
                self.buffer = Some(buffer);
            }
        }
    }

    fn release(&mut self) {
        self.buffer = None;
        self.sealed = 0..0;
        self.opened.shrink_to(FEW);
    }
}
