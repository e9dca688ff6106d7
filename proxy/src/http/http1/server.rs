//! Serving one HTTP/1 connection of a client, with the request function of whoever accepted it: one request after the
//! other, in one task.
//!
//! While an answer is awaited or written, the connection is watched for the client's end, but not read beyond what one read
//! gives of requests that come early (pipelining), [`limits::HEAD`] at most: that waits, and TCP holds back what follows.

mod ending;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use self::request::{Body, Informer};

use super::{
    body::{Broken, Reading},
    head::{self, Fault, Head},
    transport::Transport,
    write::{self, Answering, Writing},
};
use crate::{
    http::{
        body::{Finish, ResponseBody},
        incoming::Incoming,
        limits,
        respond::{self, Answer},
        tunnel::{Grant, Upgraded},
    },
    listen::{drain::Drain, io::Io},
    outcome::Failure,
};
use bytes::Buf;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::time::{sleep, timeout};

/// One connection, shared by what serves it and the bodies of its requests.
struct Connection(RefCell<State>);

struct State {
    /// None once the connection has become something else, or has ended.
    transport: Option<Transport>,
    /// Where in the body of the request at hand its reading is.
    reading: Reading,
    /// Somebody holds that body, and nobody else may read it.
    held: bool,
    /// Who waits for more of the body, perhaps another task than that of the connection.
    reader: Option<Waker>,
    /// The connection's task, where it waits for the body to be read.
    server: Option<Waker>,
    /// What is to have the connection if it becomes something else.
    grant: Option<Grant>,
    expects: Expects,
    /// Informational responses that the client may still get.
    informational: usize,
}

/// Whether the client waits to be asked for the body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Nothing,
    ToBeAsked,
    /// It was.
    Asked,
}

/// What came of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "it is moved once, and nearly always a request")]
enum Asked {
    Request(Head<Request<()>>),
    Refused(Fault),
    /// Its head took too long.
    TooSlow,
    /// No more come.
    Ended,
}

/// How a connection goes on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Request,
    Close,
    /// It has become something else.
    Nothing,
}

/// What the answer to a request depends on.
struct Question {
    method: Method,
    version: Version,
    keep_alive: bool,
}

/// Serves HTTP/1.0 and HTTP/1.1. On drain, the request at hand is answered with `connection: close`; so is the next one on
/// an idle connection, which is closed only if none comes for `linger`: a request may be on its way, and one that meets a
/// closed connection cannot be told from one that was lost half done. A client that closes while it waits for its answer
/// has gone away, as other HTTP servers see it too; the request ends at once.
///
/// # Errors
/// The connection broke, or the client does not speak HTTP, which it was told.
pub(crate) async fn serve<S, R, F>(io: Io, request: S, drain: Drain, linger: Duration) -> Result<(), Broken>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin + 'static,
{
    let connection = Rc::new(Connection::new(io));
    let mut draining = drain.clone();
    let mut over = pin!(async {
        draining.draining().await;
        sleep(linger).await;
    });
    let _gone = Gone(&connection);
    loop {
        // In boxes, which an idle connection does without.
        match connection.ask(over.as_mut()).await? {
            Asked::Request(head) => match Box::pin(exchange(&connection, head, &request, &drain)).await? {
                Next::Request => {}
                Next::Close => break,
                Next::Nothing => return Ok(()),
            },
            Asked::Ended => break,
            Asked::TooSlow => return Box::pin(refuse::<F>(&connection, None)).await,
            Asked::Refused(fault) => return Box::pin(refuse::<F>(&connection, Some(fault))).await,
        }
    }
    Box::pin(connection.close()).await;
    Ok(())
}

/// Says what is wrong with a request, or that its head took too long, and closes.
async fn refuse<F: Finish + Unpin>(connection: &Connection, fault: Option<Fault>) -> Result<(), Broken> {
    let failure = match fault {
        None => Failure::RequestTooSlow,
        Some(Fault::Invalid(_)) => Failure::RequestInvalid,
        Some(Fault::Coding) => Failure::RequestUnsupported,
        Some(Fault::TooLarge) => Failure::RequestTooLarge,
    };
    let response: Response<ResponseBody<F>> = respond::failure(failure, Answer::Http, "");
    let question = Question { method: Method::GET, version: Version::HTTP_11, keep_alive: false };
    connection.state().reading = Reading::Broken;
    // A client that does not hear it was refused all the same.
    if connection.answer(response, &question).await.is_ok() {
        connection.close().await;
    }
    Err(Broken::Refused(failure, fault))
}

/// Answers one request.
async fn exchange<S, R, F>(
    connection: &Rc<Connection>,
    head: Head<Request<()>>,
    request: &S,
    drain: &Drain,
) -> Result<Next, Broken>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin + 'static,
{
    let Head { message, framing, keep_alive, .. } = head;
    let mut question = Question { method: message.method().clone(), version: message.version(), keep_alive };
    let body = connection.begin(framing.into(), &message);
    // In a box of its own: both are of a size that the allocator has at hand.
    let mut answered = Box::pin(request(message.map(|()| Incoming::Http1(super::Body::Request(body)))));
    let response = poll_fn(|cx| match answered.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Ok(response)),
        Poll::Pending => connection.watch(cx).map(Err),
    });
    let mut response = response.await?;
    drop(answered);
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS
        || question.method == Method::CONNECT && response.status().is_success();
    if drain.is_draining() && !switched {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    question.keep_alive &= connection.may_go_on();
    let next = connection.answer(response, &question).await?;
    if switched {
        connection.switch();
        return Ok(Next::Nothing);
    }
    match next {
        Next::Request if connection.finish_request().await => Ok(Next::Request),
        _ => Ok(Next::Close),
    }
}

impl Connection {
    fn new(io: Io) -> Self {
        Self(RefCell::new(State {
            transport: Some(Transport::new(io)),
            reading: Reading::Done,
            held: false,
            reader: None,
            server: None,
            grant: None,
            expects: Expects::Nothing,
            informational: 0,
        }))
    }

    fn state(&self) -> std::cell::RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Waits for a request, unless `over` is ready before it begins.
    async fn ask(&self, mut over: Pin<&mut impl Future<Output = ()>>) -> Result<Asked, Broken> {
        let begun = poll_fn(|cx| {
            let mut state = self.state();
            let transport = state.transport()?;
            loop {
                // An empty line before a request, which some clients send after a body (RFC 9112 section 2.2).
                while transport.input.starts_with(b"\r\n") {
                    transport.input.advance(2);
                }
                if !transport.input.is_empty() {
                    return Poll::Ready(Ok::<_, Broken>(true));
                }
                match transport.poll_fill(cx)? {
                    Poll::Ready(0) => return Poll::Ready(Ok(false)),
                    Poll::Ready(_) => {}
                    Poll::Pending => return over.as_mut().poll(cx).map(|()| Ok(false)),
                }
            }
        });
        if !begun.await? {
            return Ok(Asked::Ended);
        }
        if let Some(asked) = self.state().head()? {
            return Ok(asked);
        }
        let rest = poll_fn(|cx| {
            loop {
                let mut state = self.state();
                if ready!(state.transport()?.poll_fill(cx))? == 0 {
                    return Poll::Ready(Ok(Asked::Ended));
                }
                if let Some(asked) = state.head()? {
                    return Poll::Ready(Ok(asked));
                }
            }
        });
        // In a box, for heads seldom come in pieces.
        Box::pin(timeout(limits::HEAD_TIME, rest)).await.unwrap_or(Ok(Asked::TooSlow))
    }

    /// The body of a request whose head has been read.
    fn begin(self: &Rc<Self>, reading: Reading, head: &Request<()>) -> Body {
        let ended = reading == Reading::Done;
        let mut state = self.state();
        state.reading = reading;
        state.held = !ended;
        state.grant = None;
        state.informational = if head.version() == Version::HTTP_11 { limits::INFORMATIONAL } else { 0 };
        let expected = head.headers().get(header::EXPECT).is_some_and(|expected| {
            head.version() == Version::HTTP_11 && expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
        });
        state.expects = if expected && !ended { Expects::ToBeAsked } else { Expects::Nothing };
        Body { connection: self.clone(), ended }
    }

    /// Writes what is to be written before the answer, and waits for the client to go away.
    fn watch(&self, cx: &mut Context<'_>) -> Poll<Broken> {
        let mut state = self.state();
        let State { transport: Some(transport), reading, .. } = &mut *state else { return Poll::Ready(Broken::Gone) };
        if let Poll::Ready(Err(error)) = transport.poll_flush(cx) {
            return Poll::Ready(error.into());
        }
        if *reading != Reading::Done || !transport.input.is_empty() {
            return Poll::Pending;
        }
        match ready!(transport.poll_fill(cx)) {
            Ok(0) => Poll::Ready(Broken::Ended),
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error.into()),
        }
    }

    /// Writes `response`, and says whether the connection can go on.
    async fn answer<F: Finish + Unpin>(
        &self,
        response: Response<ResponseBody<F>>,
        question: &Question,
    ) -> Result<Next, Broken> {
        let (head, mut body) = response.into_parts();
        let Question { method, version, keep_alive } = question;
        let (length, mut ended) = (body.size_hint().exact(), body.is_end_stream());
        let to = Answering { method, version: *version, keep_alive: *keep_alive, length };
        let (mut writing, keep_alive) = write::response(&mut self.state().transport()?.output, &head, &to);
        drop(head);
        let written = poll_fn(|cx| {
            loop {
                let mut waits = false;
                while !ended && !waits && self.state().transport()?.output.has_room() {
                    match Pin::new(&mut body).poll_frame(cx) {
                        Poll::Ready(Some(Ok(frame))) => {
                            writing.frame(&mut self.state().transport()?.output, frame)?;
                            ended = body.is_end_stream();
                        }
                        Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken::Source)),
                        Poll::Ready(None) => ended = true,
                        Poll::Pending => waits = true,
                    }
                }
                if ended {
                    std::mem::replace(&mut writing, Writing::Nothing).end(&mut self.state().transport()?.output)?;
                }
                if waits {
                    return self.watch(cx).map(Err);
                }
                if self.state().transport()?.poll_flush(cx)?.is_pending() {
                    // A client may send all of a request before it reads any of the answer.
                    body.poll_request(cx);
                    return Poll::Pending;
                }
                if ended {
                    return Poll::Ready(Ok(()));
                }
            }
        });
        match written.await {
            Ok(()) if keep_alive => Ok(Next::Request),
            Ok(()) => Ok(Next::Close),
            Err(error) => {
                self.state().broke(writing);
                // What came until then passes.
                poll_fn(|cx| self.state().transport()?.poll_flush(cx).map_err(Broken::from)).await?;
                Err(error)
            }
        }
    }

    /// Hands the connection over to what it has become.
    fn switch(&self) {
        let mut state = self.state();
        if let (Some(grant), Some(transport)) = (state.grant.take(), state.transport.take()) {
            grant.give(Upgraded::Http1 { read_already: transport.input.freeze(), io: Box::new(transport.io) });
        }
    }
}

impl State {
    fn transport(&mut self) -> Result<&mut Transport, Broken> {
        self.transport.as_mut().ok_or(Broken::Gone)
    }

    /// The head that was read, if it has ended.
    fn head(&mut self) -> Result<Option<Asked>, Broken> {
        let transport = self.transport()?;
        if !transport.may_have_head() {
            return Ok(None);
        }
        Ok(match head::request(&transport.input) {
            Ok(None) => None,
            Ok(Some(head)) => {
                transport.took_head(head.length);
                Some(Asked::Request(head))
            }
            Err(fault) => Some(Asked::Refused(fault)),
        })
    }

    /// An answer broke off. Where only the end of the connection would tell where it ends, that must not look like one.
    fn broke(&mut self, writing: Writing) {
        if let (Writing::UntilEnd, Some(transport)) = (writing, &self.transport) {
            transport.io.reset_on_close();
        }
    }

    /// Nothing more is read or written.
    fn end(&mut self) -> Option<Transport> {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        self.transport.take()
    }
}

/// Ends a connection when what serves it ends, however that is: a body may still be held.
struct Gone<'c>(&'c Connection);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let ended = self.0.state().end();
        drop(ended);
    }
}
