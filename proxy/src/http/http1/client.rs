//! One HTTP/1 connection to a server, one request at a time: whoever waits for the answer drives it.
//!
//! The request's body is sent while the answer is awaited, and on while the answer's body is read, for a server may answer
//! before it has all of a request. Where an answer has ended and its request has not, [`Client::rest`] sends what is left.

use super::{
    body::{Broken, Reading},
    head,
    transport::Transport,
    write::{self, Writing},
};
use crate::{
    http::{
        body::{RequestBody, RequestBodyError},
        headers, limits,
        tunnel::Upgraded,
    },
    listen::io::Io,
};
use bytes::Bytes;
use http::{Method, Response, StatusCode, header, request::Parts};
use http_body::{Body as _, Frame, SizeHint};
use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

/// Times that the connection is written to before it is read again. A body that comes and goes as fast as it can would use up
/// the task's budget (tokio's), turn by turn, and an answer that comes meanwhile would be seen when all of it had gone.
const TURN: usize = 4;

/// A connection on which requests are sent.
pub(crate) struct Client(Rc<RefCell<State>>);

/// The body of a response.
pub(crate) struct Body {
    connection: Rc<RefCell<State>>,
    ended: bool,
}

struct State {
    /// None once the connection has become something else.
    transport: Option<Transport>,
    sending: Option<Sending>,
    /// Nothing more can be written.
    deaf: bool,
    /// Where in the body of the response its reading is.
    reading: Reading,
    /// Whether another request may follow.
    keep_alive: bool,
    /// The server has answered with an error, and closes: it wants no more of the request (RFC 9112 section 9.5).
    refused: bool,
}

/// The rest of a request.
struct Sending {
    body: RequestBody,
    writing: Writing,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The request's body broke off, or is not as long as was said.
    #[error("the request broke off")]
    Request,
    /// What came is no response.
    #[error("the response is not valid: {0}")]
    Response(#[from] head::Fault),
    /// The connection broke.
    #[error(transparent)]
    Broken(Broken),
}

impl Client {
    pub(crate) fn new(io: Io) -> Self {
        Self(Rc::new(RefCell::new(State {
            transport: Some(Transport::new(io)),
            sending: None,
            deaf: false,
            reading: Reading::Done,
            keep_alive: true,
            refused: false,
        })))
    }

    /// Whether the connection, on which nothing is under way, is open and silent, as far as is known now.
    pub(crate) fn is_open(&self) -> bool {
        let state = &mut *self.0.borrow_mut();
        let Some(transport) = &mut state.transport else { return false };
        let mut nobody = Context::from_waker(Waker::noop());
        state.keep_alive && transport.input.is_empty() && transport.poll_fill(&mut nobody).is_pending()
    }

    /// Sends a request. `inform` is told of what comes before its answer (1xx).
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) fn send(
        &self,
        head: &Parts,
        body: RequestBody,
        mut inform: impl FnMut(Response<()>),
    ) -> impl Future<Output = Result<Response<Body>, SendError>> {
        // Here, so that the head is no part of what waits for the answer.
        let switches = head.headers.contains_key(header::UPGRADE);
        self.0.borrow_mut().begin(head, body);
        let method = &head.method;
        let mut informational = limits::INFORMATIONAL;
        poll_fn(move |cx| {
            let state = &mut *self.0.borrow_mut();
            if let Poll::Ready(Err(error)) = state.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
            loop {
                let response = ready!(state.poll_head(method, cx))?;
                let status = response.status();
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS && switches {
                    if headers::is_upgrade(method, &response) && !state.has_sent() {
                        // What is left of it would be lost, or taken for the first bytes of what follows.
                        return Poll::Ready(Err(head::Fault::Invalid("it switches within a request").into()));
                    }
                    let ended = state.reading == Reading::Done;
                    let body = || Body { connection: self.0.clone(), ended };
                    return Poll::Ready(Ok(response.map(|()| body())));
                }
                if status == StatusCode::SWITCHING_PROTOCOLS || informational == 0 {
                    return Poll::Ready(Err(head::Fault::Invalid("there are 1xx that nobody asked for").into()));
                }
                informational -= 1;
                inform(response);
            }
        })
    }

    /// Whether the request at hand has been sent whole.
    pub(crate) fn has_sent(&self) -> bool {
        self.0.borrow().has_sent()
    }

    /// Whether another request may follow, the answer to the one at hand having ended.
    pub(crate) fn can_go_on(&self) -> bool {
        let state = self.0.borrow();
        state.keep_alive && !state.deaf && state.reading == Reading::Done && state.transport.is_some()
    }

    /// Whether the server may want what is left of the request at hand, whose answer has ended.
    pub(crate) fn wants_rest(&self) -> bool {
        let state = self.0.borrow();
        !state.refused && !state.deaf && state.transport.is_some()
    }

    /// Sends what is left of the request at hand.
    pub(crate) async fn rest(&self) {
        poll_fn(|cx| {
            let state = &mut *self.0.borrow_mut();
            if ready!(state.poll_send(cx)).is_err() {
                state.keep_alive = false;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl State {
    /// Starts to send a request.
    fn begin(&mut self, head: &Parts, body: RequestBody) {
        let Some(transport) = &mut self.transport else { return };
        let writing = write::request(&mut transport.output, head, body.is_end_stream());
        self.keep_alive = head.version == http::Version::HTTP_11;
        self.sending = Some(Sending { body, writing });
        self.reading = Reading::Broken;
    }

    fn has_sent(&self) -> bool {
        self.sending.is_none() && self.transport.as_ref().is_none_or(|transport| transport.output.is_flushed())
    }

    /// Sends what there is of the request, as much as one turn allows. That the server takes no more is no error: it may have
    /// answered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        for _ in 0..TURN {
            let Some(transport) = self.transport.as_mut().filter(|_| !self.deaf) else { return Poll::Ready(Ok(())) };
            let mut waits = false;
            while let Some(Sending { body, writing }) = &mut self.sending
                && transport.output.has_room()
                && !waits
            {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if writing.frame(&mut transport.output, frame).is_err() {
                            return Poll::Ready(Err(self.breaks_off()));
                        }
                    }
                    Poll::Ready(Some(Err(RequestBodyError::Client(_) | RequestBodyError::Superseded))) => {
                        return Poll::Ready(Err(self.breaks_off()));
                    }
                    Poll::Ready(None) => {
                        let ended = writing.end(&mut transport.output);
                        self.sending = None;
                        if ended.is_err() {
                            return Poll::Ready(Err(self.breaks_off()));
                        }
                    }
                    Poll::Pending => waits = true,
                }
            }
            let written = ready!(transport.poll_flush(cx));
            if written.is_err() {
                self.sending = None;
                (self.deaf, self.keep_alive) = (true, false);
            } else if waits {
                return Poll::Pending;
            } else if self.sending.is_none() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn breaks_off(&mut self) -> SendError {
        self.sending = None;
        (self.deaf, self.keep_alive) = (true, false);
        SendError::Request
    }

    /// The head of the next response.
    fn poll_head(&mut self, method: &Method, cx: &mut Context<'_>) -> Poll<Result<Response<()>, SendError>> {
        loop {
            let Some(transport) = &mut self.transport else { return Poll::Ready(Err(SendError::Broken(Broken::Gone))) };
            if !transport.input.is_empty()
                && transport.may_have_head()
                && let Some(head) = head::response(&transport.input, method)?
            {
                transport.took_head(head.length);
                self.reading = head.framing.into();
                let status = head.message.status();
                self.keep_alive &= head.keep_alive || status.is_informational();
                self.refused = !self.keep_alive && (status.is_client_error() || status.is_server_error());
                return Poll::Ready(Ok(head.message));
            }
            match transport.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(SendError::Broken(Broken::Ended))),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(SendError::Broken(error.into()))),
                Poll::Pending if self.deaf => return Poll::Ready(Err(SendError::Broken(Broken::Source))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Body {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_request(cx);
        let state = &mut *self.connection.borrow_mut();
        let Some(transport) = &mut state.transport else { return Poll::Ready(Some(Err(Broken::Gone))) };
        let polled = state.reading.poll_frame(transport, cx);
        self.ended = state.reading == Reading::Done;
        polled
    }

    /// Sends what there is of the request, whose answer this is.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) {
        let state = &mut *self.connection.borrow_mut();
        if let Poll::Ready(Err(_)) = state.poll_send(cx) {
            // The server has half a request, and its answer may be to that.
            state.reading = Reading::Broken;
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.ended { SizeHint::with_exact(0) } else { self.connection.borrow().reading.size_hint() }
    }

    /// The connection, which has become something else.
    pub(crate) fn upgraded(&mut self) -> Option<Upgraded> {
        let transport = self.connection.borrow_mut().transport.take()?;
        Some(Upgraded::Http1 { read_already: transport.input.freeze(), io: Box::new(transport.io) })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("ended", &self.ended).finish_non_exhaustive()
    }
}
