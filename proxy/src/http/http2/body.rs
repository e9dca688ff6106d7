//! The body of an HTTP/2 message as it comes.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A body that is being received, with its trailers.
#[derive(Debug)]
pub(crate) struct Streamed {
    stream: RecvStream,
    /// What its length is, if the head says so; `h2` has the peer keep its word.
    length: Option<u64>,
    /// Bytes of the last piece, of which the peer has not been told that they were taken.
    taken: usize,
    data_ended: bool,
}

impl Streamed {
    /// The body that follows a head with these headers.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, length, taken: 0, data_ended: false }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            // The only error is that the stream is closed, and then there is nobody to be told.
            let _ = self.stream.flow_control().release_capacity(taken);
        }
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.taken = piece.len();
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(ready!(self.stream.poll_trailers(cx))?.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
