//! One HTTP/2 connection to a server, which carries many requests at a time.

use super::{
    body::Streamed,
    pump::{Pump, Stopped},
    wire::wire,
};
use crate::{
    http::{body::RequestBody, incoming::Incoming, limits},
    listen::io::Io,
};
use bytes::Bytes;
use futures::FutureExt;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{Request, Response};
use http_body::Body;
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

/// Streams that are opened until the server has said how many it takes: it would refuse those beyond.
const FIRST_STREAMS: usize = 1;

/// Sends requests on one connection. The connection is closed once there is no clone of it and no stream any more.
#[derive(Clone)]
pub(crate) struct Requests(SendRequest<Bytes>);

/// Why a request has no response.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The server has not looked at it: it was not sent, or the server says so (RFC 9113 section 8.7).
    NeverProcessed,
    /// Its body broke off.
    RequestBroken,
    /// What the server sent is not HTTP/2.
    Invalid,
    /// The server reset it, or the connection broke.
    Broken,
}

/// Opens HTTP/2 on a connection: what sends requests, and what drives the connection, to be run until it ends.
///
/// # Errors
/// The connection broke.
pub(crate) async fn open(io: Io) -> Result<(Requests, impl Future<Output = Result<(), h2::Error>>), h2::Error> {
    let (wire, outlet) = wire(io);
    let (requests, mut connection) = Builder::new()
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::SHARED_CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(limits::HEAD as u32)
        .max_send_buffer_size(limits::SEND_BUFFER)
        .data_frame_budget(limits::SMALL_FRAMES)
        .enable_push(false)
        .handshake(wire)
        .await?;
    let driven = poll_fn(move |cx| {
        let ended = connection.poll_unpin(cx);
        // An error of the connection shows when it is read.
        let _ = outlet.poll_send(cx);
        ended
    });
    Ok((Requests(requests), driven))
}

impl Requests {
    /// Whether no more requests can be sent: the connection has ended, or the server has said that it will (GOAWAY).
    pub(crate) fn are_over(&mut self) -> bool {
        matches!(self.0.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Streams that the server takes at once; none until it has said so, or has left it open.
    pub(crate) fn most_streams(&self) -> Option<usize> {
        Some(self.0.current_max_send_streams()).filter(|most| *most != FIRST_STREAMS)
    }

    /// Sends the head of a request. What is given sends the rest of it, and ends with the response; dropped before, it
    /// resets the stream.
    ///
    /// # Errors
    /// It was not sent.
    pub(crate) fn send(&mut self, request: Request<RequestBody>) -> Result<Exchange, Unanswered> {
        let (head, body) = request.into_parts();
        let last = body.is_end_stream();
        let sent = self.0.send_request(Request::from_parts(head, ()), last);
        let (response, stream) = sent.map_err(|_| Unanswered::NeverProcessed)?;
        Ok(Exchange { response, pump: (!last).then(|| Pump::new(body, stream)) })
    }
}

/// A request that waits for the head of its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    response: ResponseFuture,
    pump: Option<Pump<RequestBody>>,
}

impl Future for Exchange {
    type Output = Result<Response<Incoming>, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(pump) = &mut self.pump
            && let Poll::Ready(sent) = Pin::new(pump).poll(cx)
        {
            self.pump = None;
            if sent == Err(Stopped::Broken) {
                return Poll::Ready(Err(Unanswered::RequestBroken));
            }
        }
        let response = ready!(self.response.poll_unpin(cx)).map_err(|error| Unanswered::of(&error))?;
        if let Some(pump) = self.pump.take() {
            // Both bodies may be endless, and neither may wait for the other. It ends with its stream.
            tokio::task::spawn_local(pump);
        }
        let (head, body) = response.into_parts();
        let body = Incoming::Http2(Streamed::new(body, &head.headers));
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

impl Unanswered {
    fn of(error: &h2::Error) -> Self {
        let gone_away = error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
        if error.reason() == Some(h2::Reason::REFUSED_STREAM) || gone_away {
            Self::NeverProcessed
        } else if error.is_library() {
            Self::Invalid
        } else {
            Self::Broken
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Requests").finish()
    }
}
