//! The body of an HTTP/2 message as it comes.

use super::{
    client::State,
    inform::{Informations, Informer},
    reset, windows,
};
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
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
    /// Nothing more comes, as was seen before: `h2` has to look the stream up for it.
    ended: Cell<bool>,
    of: Of,
}

/// Whose body it is.
#[derive(Debug)]
enum Of {
    Request(Informations),
    Response(OfResponse),
}

/// What the body of a response knows beside.
#[derive(Debug)]
struct OfResponse {
    /// The connection that it comes on, which counts it while its client does not take it.
    state: Rc<State>,
    /// Says why it is not wanted any more, unless that is said by the request's body, which is still being sent.
    stream: Option<SendStream<Bytes>>,
}

impl Streamed {
    /// The body of a request with these headers, on a connection that has these to send.
    pub(super) fn of_request(stream: RecvStream, headers: &HeaderMap, informations: Informations) -> Self {
        Self::new(stream, headers, Of::Request(informations))
    }

    /// What tells the client whose request this is.
    pub(crate) fn informer(&self) -> Option<Informer> {
        match &self.of {
            Of::Request(informations) => Some(informations.informer(self.stream.stream_id())),
            Of::Response(_) => None,
        }
    }

    /// The body of a response that comes on a connection which is in this state; `sent` is the stream of a request that has
    /// been sent whole.
    pub(super) fn of_response(
        stream: RecvStream,
        headers: &HeaderMap,
        state: Rc<State>,
        sent: Option<SendStream<Bytes>>,
    ) -> Self {
        Self::new(stream, headers, Of::Response(OfResponse { state, stream: sent }))
    }

    fn new(stream: RecvStream, headers: &HeaderMap, of: Of) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self { stream, length, taken: 0, data_ended: false, ended: Cell::new(false), of }
    }

    /// Tells the peer that the last piece was taken.
    fn release(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if taken > 0 {
            windows::waits_no_more();
            self.count(|stalled| stalled - 1);
            // The only error is that the stream is closed, and then there is nobody to be told.
            let _ = self.stream.flow_control().release_capacity(taken);
        }
    }

    fn count(&self, change: impl FnOnce(usize) -> usize) {
        if let Of::Response(OfResponse { state, .. }) = &self.of {
            state.stalled.set(change(state.stalled.get()));
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // `h2` gives it back only once nobody holds the stream any more, and the other direction may go on for long.
        self.release();
        if let Of::Response(OfResponse { stream: Some(stream), .. }) = &mut self.of
            && !self.ended.get()
            && !self.stream.is_end_stream()
        {
            stream.send_reset(reset::reason());
        }
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.release();
        while !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                Some(Ok(piece)) => {
                    self.taken = piece.len();
                    windows::waits();
                    self.count(|stalled| stalled + 1);
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.data_ended = true,
            }
        }
        Poll::Ready(ready!(self.stream.poll_trailers(cx))?.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        if !self.ended.get() {
            self.ended.set(self.stream.is_end_stream());
        }
        self.ended.get()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
