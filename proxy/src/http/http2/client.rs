//! One HTTP/2 connection to a server, which carries many requests at a time.

use super::{
    body::Streamed,
    pump::{Pump, Stopped},
    reset,
    watch::Watch,
    windows::Window,
    wire::wire,
};
use crate::{
    http::{body::RequestBody, incoming::Incoming, limits},
    listen::io::Io,
};
use bytes::Bytes;
use futures::FutureExt;
use h2::{
    Reason, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{Request, Response, StatusCode};
use http_body::Body;
use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};
use tokio::sync::Notify;

/// Streams that are opened until the server has said how many it takes: it would refuse those beyond.
const FIRST_STREAMS: usize = 1;

/// Sends requests on one connection. The connection is closed once there is no clone of it and no stream any more.
#[derive(Clone)]
pub(crate) struct Requests {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// A proxy of the mesh, which is asked whether it is still there ([`Watch`]).
    Proxy,
    /// An application, which gets nothing that its clients have not sent.
    Application,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct State {
    /// Streams that the server takes at once; [`FIRST_STREAMS`] until it has said so.
    most_streams: Cell<usize>,
    ended: Cell<bool>,
    /// The server's settings are known, or will not be.
    settled: Cell<bool>,
    settling: Notify,
    /// Responses of which a piece waits for its client to take it.
    pub(super) stalled: Cell<usize>,
}

/// Why a request has no response.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// The server has not looked at it: it was not sent, or the server says so (RFC 9113 section 8.7).
    NeverProcessed,
    /// Its body broke off.
    RequestBroken,
    /// What the server sent is not HTTP/2.
    Invalid,
    /// The server reset it, for this reason.
    Reset(Reason),
    /// The connection broke.
    Broken,
}

/// How a connection ended that was not closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error(transparent)]
    Broken(h2::Error),
    #[error("the other proxy does not answer")]
    Silent,
}

/// Opens HTTP/2 on a connection: what sends requests, and what drives the connection, to be run until it ends.
///
/// # Errors
/// The connection broke.
pub(crate) async fn open(
    io: Io,
    server: Server,
) -> Result<(Requests, impl Future<Output = Result<(), Ended>>), h2::Error> {
    let (wire, outlet) = wire(io);
    let mut window = Window::new();
    let (sender, mut connection) = Builder::new()
        .initial_window_size(window.size())
        .initial_connection_window_size(limits::SHARED_CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(limits::HEAD as u32)
        .max_send_buffer_size(limits::SEND_BUFFER)
        .data_frame_budget(limits::SMALL_FRAMES)
        .enable_push(false)
        .handshake(wire)
        .await?;
    let pings = connection.ping_pong().filter(|_| server == Server::Proxy);
    let mut watch = pings.map(Watch::new);
    let state = State {
        most_streams: Cell::new(FIRST_STREAMS),
        ended: Cell::new(false),
        settled: Cell::new(false),
        settling: Notify::new(),
        stalled: Cell::new(0),
    };
    let state = Rc::new(state);
    let requests = Requests { sender, state: state.clone() };
    let driven = poll_fn(move |cx| {
        if watch.as_mut().is_some_and(|watch| watch.has_lost(&outlet, cx)) {
            state.ended.set(true);
            return Poll::Ready(Err(Ended::Silent));
        }
        outlet.turn();
        window.adapt(|size| connection.set_initial_window_size(size));
        let ended = connection.poll_unpin(cx).map_err(Ended::Broken);
        state.ended.set(ended.is_ready());
        state.most_streams.set(connection.max_concurrent_send_streams());
        // Settings are the first that a server says (RFC 9113 section 3.4).
        if !state.settled.get() && (ended.is_ready() || outlet.ever_heard()) {
            state.settled.set(true);
            state.settling.notify_waiters();
        }
        // An error of the connection shows when it is read.
        let _ = outlet.poll_send(cx);
        ended
    });
    Ok((requests, driven))
}

impl Requests {
    /// Whether no more requests can be sent: the connection has ended, or the server has said that it will (GOAWAY).
    pub(crate) fn are_over(&mut self) -> bool {
        self.state.ended.get()
            || matches!(self.sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Streams that the server takes at once; none until it has said so, or where it says [`FIRST_STREAMS`].
    pub(crate) fn most_streams(&self) -> Option<usize> {
        Some(self.state.most_streams.get()).filter(|most| *most != FIRST_STREAMS)
    }

    /// Whether so many clients do not take what they have asked for that another would wait for them: what they have not
    /// taken fills half the window that all streams of the connection share.
    pub(crate) fn is_stalled(&self) -> bool {
        self.state.stalled.get() >= (limits::SHARED_CONNECTION_WINDOW / limits::STREAM_WINDOW / 2) as usize
    }

    /// Whether the server takes requests for another protocol in a stream (RFC 8441 section 3).
    pub(crate) async fn take_protocols(&self) -> bool {
        let settled = self.state.settling.notified();
        if !self.state.settled.get() {
            settled.await;
        }
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Sends the head of a request. What is given sends the rest of it, and ends with the response; dropped before, it
    /// resets the stream.
    ///
    /// # Errors
    /// It was not sent.
    pub(crate) fn send(&mut self, request: Request<RequestBody>) -> Result<Exchange, Unanswered> {
        let (head, body) = request.into_parts();
        let last = body.is_end_stream();
        let sent = self.sender.send_request(Request::from_parts(head, ()), last);
        let (response, stream) = sent.map_err(|_| Unanswered::NeverProcessed)?;
        let sending = if last { Sending::Sent(stream) } else { Sending::Body(Pump::new(body, stream)) };
        Ok(Exchange { response, sending, informational: limits::INFORMATIONAL as u8, state: self.state.clone() })
    }
}

/// A request that waits for the head of its response.
#[derive(Debug)]
pub(crate) struct Exchange {
    response: ResponseFuture,
    sending: Sending,
    /// Informational responses that are still passed on.
    informational: u8,
    state: Rc<State>,
}

/// How much of a request has been sent.
#[derive(Debug)]
enum Sending {
    Body(Pump<RequestBody>),
    /// All of it.
    Sent(SendStream<Bytes>),
    /// It is nothing to the exchange any more.
    Over,
}

impl Exchange {
    /// Sends what there is of the body.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Unanswered> {
        if let Sending::Body(pump) = &mut self.sending
            && let Poll::Ready(sent) = Pin::new(pump).poll(cx)
        {
            if sent == Err(Stopped::Broken) {
                return Err(Unanswered::RequestBroken);
            }
            if let Sending::Body(pump) = std::mem::replace(&mut self.sending, Sending::Over) {
                self.sending = Sending::Sent(pump.into_stream());
            }
        }
        Ok(())
    }
}

impl Exchange {
    /// Sends the rest of the request, and waits for its response; `inform` is told of what comes before it (1xx).
    pub(crate) fn answered<I: FnMut(Response<()>)>(self, inform: I) -> Answered<I> {
        Answered { exchange: self, inform }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        inform: &mut impl FnMut(Response<()>),
    ) -> Poll<Result<Response<Incoming>, Unanswered>> {
        self.poll_send(cx)?;
        while let Poll::Ready(Some(Ok(response))) = self.response.poll_informational(cx) {
            // One that switches protocols is not for HTTP/2 (RFC 9113 section 8.6).
            if response.status() != StatusCode::SWITCHING_PROTOCOLS && self.informational > 0 {
                self.informational -= 1;
                inform(response);
            }
        }
        let response = ready!(self.response.poll_unpin(cx)).map_err(|error| Unanswered::of(&error))?;
        let sent = match std::mem::replace(&mut self.sending, Sending::Over) {
            Sending::Body(pump) => {
                // Both bodies may be endless, and neither may wait for the other. It ends with its stream.
                tokio::task::spawn_local(pump);
                None
            }
            Sending::Sent(stream) => Some(stream),
            Sending::Over => None,
        };
        let (head, body) = response.into_parts();
        let body = Incoming::Http2(Streamed::of_response(body, &head.headers, self.state.clone(), sent));
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

/// The response to a request, or why there is none.
#[derive(Debug)]
pub(crate) struct Answered<I> {
    exchange: Exchange,
    inform: I,
}

impl<I: FnMut(Response<()>) + Unpin> Future for Answered<I> {
    type Output = Result<Response<Incoming>, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { exchange, inform } = &mut *self;
        exchange.poll(cx, inform)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut stream = match std::mem::replace(&mut self.sending, Sending::Over) {
            Sending::Body(pump) => pump.into_stream(),
            Sending::Sent(stream) => stream,
            Sending::Over => return,
        };
        stream.send_reset(reset::reason());
    }
}

impl Unanswered {
    fn of(error: &h2::Error) -> Self {
        let gone_away = error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        match error.reason() {
            Some(Reason::REFUSED_STREAM) => Self::NeverProcessed,
            _ if gone_away => Self::NeverProcessed,
            _ if error.is_library() => Self::Invalid,
            Some(reason) if error.is_reset() && error.is_remote() => Self::Reset(reason),
            _ => Self::Broken,
        }
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Requests").finish()
    }
}
