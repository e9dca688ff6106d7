//! The bodies that pass through the proxy: nothing is held back, and what ends is noticed at once.

use super::limits;
use crate::{outcome::Failure, record::request::RequestRecord};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
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
    Client(#[source] hyper::Error),
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
    /// Index of the next piece.
    next: usize,
}

#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// Every piece so far; empty once given up.
    kept: Vec<Bytes>,
    kept_bytes: usize,
    trailers: Option<HeaderMap>,
    /// More passes than can be kept, or there is no need any more.
    given_up: bool,
    /// Something has passed.
    started: bool,
    /// The attempt that the body belongs to now.
    attempt: usize,
    hint: SizeHint,
}

impl Replay {
    /// The body for the first attempt, and what it takes to make one for the next.
    pub(crate) fn of(incoming: Incoming) -> (RequestBody, Self) {
        if incoming.is_end_stream() {
            return (RequestBody::Empty, Self(None));
        }
        let hint = incoming.size_hint();
        let given_up = hint.lower() > limits::REPLAY as u64;
        let source = Source {
            incoming,
            kept: Vec::new(),
            kept_bytes: 0,
            trailers: None,
            given_up,
            started: false,
            attempt: 0,
            hint,
        };
        let source = Rc::new(RefCell::new(source));
        let attempt = Attempt { source: source.clone(), number: 0, next: 0 };
        (RequestBody::Replayable(attempt), Self(Some(source)))
    }

    /// Whether all of the body that has passed was kept.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|source| source.borrow().is_whole())
    }

    /// The body once more from its start, if all of it that has passed was kept. The attempt before gets no more of it.
    pub(crate) fn again(&self) -> Option<RequestBody> {
        let Some(source) = &self.0 else { return Some(RequestBody::Empty) };
        let mut now = source.borrow_mut();
        if !now.is_whole() {
            return None;
        }
        now.attempt += 1;
        let number = now.attempt;
        Some(RequestBody::Replayable(Attempt { source: source.clone(), number, next: 0 }))
    }

    /// The body will not be sent again: what follows is not kept.
    pub(crate) fn settle(&self) {
        if let Some(source) = &self.0 {
            source.borrow_mut().give_up();
        }
    }
}

impl Source {
    fn is_whole(&self) -> bool {
        !self.given_up || !self.started
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.kept = Vec::new();
    }

    fn keep(&mut self, piece: &Bytes) {
        self.kept_bytes += piece.len();
        match self.kept_bytes > limits::REPLAY {
            true => self.give_up(),
            false => self.kept.push(piece.clone()),
        }
    }
}

impl Attempt {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let mut source = self.source.borrow_mut();
        if source.attempt != self.number {
            return Poll::Ready(Some(Err(RequestBodyError::Superseded)));
        }
        if !source.given_up {
            if let Some(piece) = source.kept.get(self.next) {
                self.next += 1;
                return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
            }
            // Trailers are the last: the incoming body would say no more.
            if let Some(trailers) = &source.trailers {
                self.next += 1;
                let first_time = self.next == source.kept.len() + 1;
                return Poll::Ready(first_time.then(|| Ok(Frame::trailers(trailers.clone()))));
            }
        }
        let frame = match ready!(Pin::new(&mut source.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(RequestBodyError::Client(error)))),
            None => return Poll::Ready(None),
        };
        source.started = true;
        if !source.given_up {
            if let Some(piece) = frame.data_ref() {
                source.keep(piece);
            } else {
                source.trailers = frame.trailers_ref().cloned();
            }
            self.next += 1;
        }
        Poll::Ready(Some(Ok(frame)))
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
            Self::Replayable(attempt) => {
                let source = attempt.source.borrow();
                let all_replayed = source.given_up || attempt.next >= source.kept.len();
                all_replayed && source.trailers.is_none() && source.incoming.is_end_stream()
            }
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
    Streamed { incoming: Incoming, record: RequestRecord, held: Option<F> },
}

impl<F: Finish> ResponseBody<F> {
    /// Ends `record` and finishes `held` when the last of `incoming` has passed.
    pub(crate) fn new(incoming: Incoming, record: RequestRecord, held: F) -> Self {
        let mut body = Self::Streamed { incoming, record, held: Some(held) };
        body.finish_if_ended();
        body
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
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Streamed { incoming, record, held } = &mut *self else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
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
            Self::Empty => true,
            Self::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}
