//! Sending a body in an HTTP/2 stream, as fast as the peer takes it and no faster.

use super::windows;
use crate::http::{body::RequestBodyError, incoming::Broken};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Sends a body to its end.
#[derive(Debug)]
pub(super) struct Pump<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// A piece for which there was no room yet, and whether it is the last.
    held: Option<(Bytes, bool)>,
}

/// Why a body was not sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// The peer does not want it, for this reason, or is gone.
    ByPeer(Reason),
    /// The body broke off, or would have been one too many to wait, which the peer has been told.
    Broken,
}

/// The peer is gone.
const GONE: Stopped = Stopped::ByPeer(Reason::CANCEL);

/// What a stream is reset with because of an error.
pub(super) trait Reset {
    fn reason(&self) -> Reason;
}

impl<B> Pump<B> {
    pub(super) fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, held: None }
    }

    /// The stream, once the body has been sent, or is not to be.
    pub(super) fn into_stream(self) -> SendStream<Bytes> {
        self.stream
    }
}

impl<B> Pump<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Reset,
{
    /// Sends the piece that is held.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        while self.held.is_some() && self.stream.capacity() == 0 {
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(GONE)),
                Poll::Pending if windows::are_full() => {
                    self.stream.send_reset(Reason::ENHANCE_YOUR_CALM);
                    return Poll::Ready(Err(Stopped::Broken));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(match self.held.take() {
            Some((piece, last)) => self.send(piece, last),
            None => Ok(()),
        })
    }

    fn send(&mut self, piece: Bytes, last: bool) -> Result<(), Stopped> {
        self.stream.send_data(piece, last).map_err(|_closed| GONE)
    }
}

impl<B> Future for Pump<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Reset,
{
    type Output = Result<(), Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let this = &mut *self;
        // Looked at before the body: that of a response breaks off too where its client has given up the call, and is then
        // not to count as the server's failure.
        if let Poll::Ready(reset) = this.stream.poll_reset(cx) {
            return Poll::Ready(Err(reset.map_or(GONE, Stopped::ByPeer)));
        }
        loop {
            if let Some((_, last)) = this.held {
                ready!(this.poll_held(cx))?;
                if last {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    this.stream.send_reset(error.reason());
                    return Poll::Ready(Err(Stopped::Broken));
                }
                None => return Poll::Ready(this.send(Bytes::new(), true)),
            };
            match frame.into_data() {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => {
                    // Room is asked for once there is something to send: what is asked for and not used, no other stream of
                    // the connection gets. As little as will do, for `h2` asks for the rest as soon as it has the piece.
                    this.stream.reserve_capacity(1);
                    this.held = Some((piece, this.body.is_end_stream()));
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    return Poll::Ready(this.stream.send_trailers(trailers).map_err(|_closed| GONE));
                }
            }
        }
    }
}

impl Reset for Broken {
    fn reason(&self) -> Reason {
        match self {
            // A connection that broke is not the fault of whoever is told.
            Self::Http2(error) => error.reason().unwrap_or(Reason::CANCEL),
            Self::Http1(_) => Reason::INTERNAL_ERROR,
        }
    }
}

impl Reset for RequestBodyError {
    fn reason(&self) -> Reason {
        match self {
            Self::Client(broken) => broken.reason(),
            Self::Superseded => Reason::CANCEL,
        }
    }
}
