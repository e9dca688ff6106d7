//! What is to go out on a connection: sealed records, several of which go in one write.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Records that one write takes.
const MOST_AT_ONCE: usize = 16;
/// Records that room is kept for while there are none.
const FEW: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Sealed {
    records: VecDeque<Vec<u8>>,
    /// Bytes of the first that have gone.
    gone: usize,
}

impl Sealed {
    pub(super) fn push(&mut self, record: Vec<u8>) {
        self.records.push_back(record);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes until nothing is left.
    pub(super) fn poll_drain(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(first) = self.records.front() {
            let written = if self.records.len() == 1 {
                ready!(io.as_mut().poll_write(cx, &first[self.gone..]))?
            } else {
                let mut slices = [IoSlice::new(&[]); MOST_AT_ONCE];
                for (slice, record) in slices.iter_mut().zip(&self.records) {
                    *slice = IoSlice::new(record);
                }
                slices[0] = IoSlice::new(&first[self.gone..]);
                let shown = self.records.len().min(MOST_AT_ONCE);
                ready!(io.as_mut().poll_write_vectored(cx, &slices[..shown]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.went(written);
        }
        Poll::Ready(Ok(()))
    }

    fn went(&mut self, bytes: usize) {
        self.gone += bytes;
        while let Some(first) = self.records.front() {
            if self.gone < first.len() {
                return;
            }
            self.gone -= first.len();
            self.records.pop_front();
        }
        self.records.shrink_to(FEW);
    }
}
