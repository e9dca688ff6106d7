//! The bodies that pass through the proxy: nothing is held back, and what ends is noticed at once.

use super::{
    incoming::{Broken, Incoming},
    limits,
};
use crate::{outcome::Failure, record::request::RequestRecord};
use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// What is to be done when a response has come to its end in good order; dropped without, it broke off.
pub(crate) trait Finish {
    fn finish(self);
}

/// The body of a request on its way to a server.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Replayable(Attempt),
}

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestBodyError {
    /// Carries the reason of an HTTP/2 reset to the server.
    #[error("the client's request broke off")]
    Client(#[source] Broken),
    #[error("the request is being sent to another endpoint")]
    Superseded,
}

/// The beginning of a request's body, kept until an answer shows that it need not be sent again.
#[derive(Debug)]
pub(crate) struct Replay(Option<Rc<RefCell<Source>>>);

/// One sending of a body that may have to be sent again.
#[derive(Debug)]
pub(crate) struct Attempt {
    source: Rc<RefCell<Source>>,
    number: usize,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    kept: Kept,
    /// The attempt that the body belongs to now.
    attempt: usize,
    hint: SizeHint,
}

/// What has passed of a body, and how much of it the attempt that it belongs to now has had.
#[derive(Debug, Default)]
struct Kept {
    /// The pieces so far, none of them empty, until no more are kept and the attempt has had these.
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// What the pieces take, in bytes.
    size: usize,
    /// Index of the attempt's next piece.
    next: usize,
    /// The attempt has had the trailers: nothing follows.
    ended: bool,
    /// Nothing more is kept: more passes than can be, or there is no need any more.
    stopped: bool,
    /// Something has passed.
    started: bool,
}

impl Replay {
    /// The body for the first attempt, and what it takes to make one for the next.
    pub(crate) fn of(incoming: Incoming) -> (RequestBody, Self) {
        if incoming.is_end_stream() {
            return (RequestBody::Empty, Self(None));
        }
        let hint = incoming.size_hint();
        let kept = Kept { stopped: hint.lower() > limits::REPLAY as u64, ..Kept::default() };
        let source = Rc::new(RefCell::new(Source { incoming, kept, attempt: 0, hint }));
        let attempt = Attempt { source: source.clone(), number: 0 };
        (RequestBody::Replayable(attempt), Self(Some(source)))
    }

    /// Whether all of the body that has passed was kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.borrow().kept.is_whole())
    }

    /// The body once more from its start, if all of it that has passed was kept. The attempt before gets no more of it.
    pub(crate) fn again(&self) -> Option<RequestBody> {
        let Some(source) = &self.0 else { return Some(RequestBody::Empty) };
        let mut now = source.borrow_mut();
        if !now.kept.is_whole() {
            return None;
        }
        now.kept.rewind();
        now.attempt += 1;
        let number = now.attempt;
        Some(RequestBody::Replayable(Attempt { source: source.clone(), number }))
    }

    /// The body will not be sent again: what follows is not kept. The attempt that is being sent gets all of it.
    pub(crate) fn settle(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().kept.stop();
        }
    }
}

impl Kept {
    /// What a piece takes beside its bytes.
    const PIECE: usize = 64;

    /// Most bytes of a piece that is copied. A piece may hold on to the whole buffer that it was read into; a larger one
    /// is worth it.
    const COPIED: usize = 4096;

    fn is_whole(&self) -> bool {
        !self.stopped || !self.started
    }

    /// The next attempt starts.
    fn rewind(&mut self) {
        (self.next, self.ended) = (0, false);
    }

    /// What the attempt gets before anything new.
    fn replay(&mut self) -> Option<Frame<Bytes>> {
        if let Some(piece) = self.pieces.get(self.next) {
            let piece = piece.clone();
            self.next += 1;
            self.free();
            return Some(Frame::data(piece));
        }
        let trailers = self.trailers.as_ref().filter(|_| !self.ended)?;
        self.ended = true;
        Some(Frame::trailers(trailers.clone()))
    }

    fn is_replayed(&self) -> bool {
        self.next >= self.pieces.len() && (self.ended || self.trailers.is_none())
    }

    /// The attempt gets `frame`, which is new.
    fn pass(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            (self.started, self.ended) = (true, true);
            self.trailers = (!self.stopped).then(|| trailers.clone());
        }
        let Some(piece) = frame.data_ref().filter(|piece| !piece.is_empty()) else { return };
        self.started = true;
        self.size = self.size.saturating_add(piece.len() + Self::PIECE);
        if self.size > limits::REPLAY {
            self.stopped = true;
        }
        if !self.stopped {
            self.pieces.push(match piece.len() <= Self::COPIED {
                true => Bytes::copy_from_slice(piece),
                false => piece.clone(),
            });
        }
        // What is new comes after all that was kept.
        self.next = self.pieces.len();
        self.free();
    }

    /// Keeps no more, and what is kept only until the attempt has had it.
    fn stop(&mut self) {
        self.stopped = true;
        self.free();
    }

    fn free(&mut self) {
        if self.stopped && self.next >= self.pieces.len() {
            (self.pieces, self.next) = (Vec::new(), 0);
        }
    }
}

impl Attempt {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Source { incoming, kept, attempt, .. } = &mut *self.source.borrow_mut();
        if *attempt != self.number {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        if let Some(frame) = kept.replay() {
            return Poll::Ready(Some(Ok(frame)));
        }
        // Trailers are the last: the incoming body would say no more.
        if kept.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                kept.pass(&frame);
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(RequestBodyError::Client(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let Source { incoming, kept, attempt, .. } = &*self.source.borrow();
        *attempt == self.number && kept.is_replayed() && incoming.is_end_stream()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Replayable(attempt) => attempt.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Replayable(attempt) => attempt.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            // Asked for before the first piece, when it is the whole body's.
            Self::Replayable(attempt) => attempt.source.borrow().hint,
        }
    }
}

/// The body of a response on its way to the client, with the record of its request.
#[derive(Debug)]
pub(crate) enum ResponseBody<F> {
    Empty,
    /// None, because the server reset its stream: to a client of HTTP/2 the reset is the answer, and there is no head either.
    Reset(Reason),
    Streamed {
        incoming: Incoming,
        record: RequestRecord,
        held: Option<F>,
    },
}

impl<F: Finish> ResponseBody<F> {
    /// Ends `record` and finishes `held` when the last of `incoming` has passed.
    pub(crate) fn new(incoming: Incoming, record: RequestRecord, held: F) -> Self {
        let mut body = Self::Streamed { incoming, record, held: Some(held) };
        body.finish_if_ended();
        body
    }

    /// Sends on what there is of the request, as [`Incoming::poll_request`] does.
    pub(crate) fn poll_request(&mut self, cx: &mut Context<'_>) {
        if let Self::Streamed { incoming, .. } = self {
            incoming.poll_request(cx);
        }
    }

    fn finish_if_ended(&mut self) {
        // The server may not ask again once nothing can come.
        if matches!(self, Self::Streamed { incoming, .. } if incoming.is_end_stream()) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Self::Streamed { mut record, held, .. } = std::mem::replace(self, Self::Empty) {
            record.finish();
            if let Some(held) = held {
                held.finish();
            }
        }
    }
}

impl<F: Finish + Unpin> Body for ResponseBody<F> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self::Streamed { incoming, record, held } = &mut *self else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.passed(data.len());
                }
                if let Some(trailers) = frame.trailers_ref() {
                    record.trailers(trailers);
                }
                self.finish_if_ended();
            }
            Some(Err(_)) => {
                record.fail(Failure::ResponseBroken);
                *held = None;
            }
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Reset(_) => true,
            Self::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Reset(_) => SizeHint::with_exact(0),
            Self::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(pieces: &[&'static str]) -> Kept {
        let mut kept = Kept::default();
        for piece in pieces {
            kept.pass(&Frame::data(Bytes::from_static(piece.as_bytes())));
        }
        kept
    }

    fn replayed(kept: &mut Kept) -> String {
        let mut all = String::new();
        while let Some(frame) = kept.replay() {
            match frame.into_data() {
                Ok(piece) => all += std::str::from_utf8(&piece).unwrap(),
                Err(_) => all += "+trailers",
            }
        }
        all
    }

    #[test]
    fn an_attempt_that_is_answered_early_still_gets_all_that_was_kept() {
        let mut kept = passed(&["one ", "two ", "three"]);
        kept.pass(&Frame::trailers(HeaderMap::new()));
        kept.rewind();
        assert_eq!(kept.replay().unwrap().into_data().unwrap(), "one ");
        kept.stop();
        assert!(!kept.is_replayed() && !kept.is_whole());
        assert_eq!(replayed(&mut kept), "two three+trailers");
        assert!(kept.is_replayed() && kept.pieces.capacity() == 0, "{kept:?}");
    }

    #[test]
    fn every_attempt_gets_the_same() {
        let mut kept = passed(&["one ", "two"]);
        assert_eq!(replayed(&mut kept), "", "the first had it as it came");
        for _ in 0..2 {
            kept.rewind();
            assert_eq!(replayed(&mut kept), "one two");
        }
        kept.pass(&Frame::trailers(HeaderMap::new()));
        kept.rewind();
        assert_eq!(replayed(&mut kept), "one two+trailers");
    }

    #[test]
    fn pieces_however_small_take_no_more_than_the_bound() {
        let mut kept = passed(&[""; 10_000]);
        assert!(kept.is_whole() && kept.pieces.is_empty(), "nothing has passed");
        for _ in 0..limits::REPLAY / (1 + Kept::PIECE) {
            kept.pass(&Frame::data(Bytes::from_static(b"a")));
        }
        assert!(kept.is_whole());
        kept.pass(&Frame::data(Bytes::from_static(b"a")));
        assert!(!kept.is_whole() && kept.pieces.capacity() == 0);
    }

    #[test]
    fn a_small_piece_does_not_hold_on_to_the_buffer_that_it_was_read_into() {
        let buffer = Bytes::from(vec![b'a'; 64 * 1024]);
        let mut kept = Kept::default();
        kept.pass(&Frame::data(buffer.slice(..5)));
        assert!(buffer.is_unique());
        kept.rewind();
        assert_eq!(replayed(&mut kept), "aaaaa");
    }
}
