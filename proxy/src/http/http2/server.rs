//! Serving one HTTP/2 connection of a client, with the request function of whoever accepted it.

use super::{
    body::Streamed,
    inform::Informations,
    pump::{Pump, Stopped},
    reset,
    windows::Window,
    wire::{Outlet, Wire, wire},
};
use crate::{
    http::{
        body::{Finish, ResponseBody},
        incoming::Incoming,
        limits,
    },
    listen::{drain::Drain, io::Io},
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, select},
    stream::FuturesUnordered,
};
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::ReadBuf;

/// How long a client that was told of the end of its connection may take to hear it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Bytes that such a client may send meanwhile.
const MOST_UNREAD: usize = 64 * 1024;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// A proxy of the mesh, on whose connection all clients of its pod come.
    Proxy,
    /// Anybody else.
    Application,
}

/// Serves HTTP/2. Once `going_away` is ready, or on drain, the client is told to open no more streams (GOAWAY).
///
/// # Errors
/// The connection broke, or the client does not speak HTTP/2.
pub(crate) async fn serve<S, R, F>(
    io: Io,
    client: Client,
    request: S,
    drain: Drain,
    going_away: impl Future<Output = ()>,
) -> Result<(), h2::Error>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin,
{
    // In a box: `h2` takes more than connections otherwise do, and they share a type.
    Box::pin(converse(io, client, request, drain, going_away)).await
}

async fn converse<S, R, F>(
    io: Io,
    client: Client,
    request: S,
    mut drain: Drain,
    going_away: impl Future<Output = ()>,
) -> Result<(), h2::Error>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin,
{
    let (wire, outlet) = wire(io);
    let going_away = async {
        select(pin!(going_away), pin!(drain.draining())).await;
    };
    let window = Window::new();
    let ended = match handshake(wire, client, &window, &outlet).await {
        Ok(connection) => drive(connection, window, &outlet, request, going_away.boxed_local()).await,
        Err(error) => Err(error),
    };
    if !ended.as_ref().is_err_and(h2::Error::is_io) {
        let _ = tokio::time::timeout(LAST_WORDS, discard(&outlet)).await;
    }
    ended
}

async fn handshake(
    wire: Wire,
    client: Client,
    window: &Window,
    outlet: &Outlet,
) -> Result<Connection<Wire, Bytes>, h2::Error> {
    let of_all = match client {
        Client::Proxy => limits::SHARED_CONNECTION_WINDOW,
        Client::Application => limits::CONNECTION_WINDOW,
    };
    let mut handshake = Builder::new()
        .initial_window_size(window.size())
        .initial_connection_window_size(of_all)
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::HEAD as u32)
        .max_send_buffer_size(limits::SEND_BUFFER)
        .data_frame_budget(limits::SMALL_FRAMES)
        .enable_connect_protocol()
        .max_pending_accept_reset_streams(limits::RESET_UNSEEN)
        .handshake(wire);
    poll_fn(|cx| {
        outlet.turn();
        let shaken = Pin::new(&mut handshake).poll(cx);
        // An error of the connection shows when it is read.
        let _ = outlet.poll_send(cx);
        shaken
    })
    .await
}

/// Drives the connection until it has ended. What it carries then ends with it.
async fn drive<S, R, F>(
    mut connection: Connection<Wire, Bytes>,
    mut window: Window,
    outlet: &Outlet,
    request: S,
    going_away: LocalBoxFuture<'_, ()>,
) -> Result<(), h2::Error>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin,
{
    let informations = Informations::default();
    let mut all = FuturesUnordered::new();
    all.push(Going::Away { told: going_away });
    let (mut answered, mut given_up) = (0, 0);
    poll_fn(|cx| {
        outlet.turn();
        window.adapt(|size| connection.set_initial_window_size(size));
        loop {
            // What is answered by now is in what the connection writes next.
            let mut again = false;
            while let Poll::Ready(Some(ended)) = all.poll_next_unpin(cx) {
                match ended {
                    Ended::Away => connection.graceful_shutdown(),
                    Ended::Answered => answered += 1,
                    Ended::GivenUp => given_up += 1,
                }
                if given_up > limits::GIVEN_UP.max(answered) {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
            }
            while let Poll::Ready(next) = connection.poll_accept(cx)? {
                let Some((head, respond)) = next else { return Poll::Ready(Ok(())) };
                let answer = request(incoming(head, &informations));
                all.push(Going::Serving { answer, respond, informations: informations.clone() });
                again = true;
            }
            if !again {
                break;
            }
        }
        // An error of the connection shows when it is read.
        let _ = outlet.poll_send(cx);
        Poll::Pending
    })
    .await
}

fn incoming(request: Request<RecvStream>, informations: &Informations) -> Request<Incoming> {
    let (head, body) = request.into_parts();
    let body = Incoming::Http2(Streamed::of_request(body, &head.headers, informations.clone()));
    Request::from_parts(head, body)
}

/// Reads until the client has closed the connection: one that is closed with bytes unread is reset, and a reset may
/// overtake what was said last (RFC 9113 section 5.4.1).
async fn discard(outlet: &Outlet) {
    let mut bytes = vec![0; 4096];
    let mut unread = 0;
    while unread < MOST_UNREAD {
        let mut into = ReadBuf::new(&mut bytes);
        let read = poll_fn(|cx| outlet.poll_discard(cx, &mut into)).await;
        if read.is_err() || into.filled().is_empty() {
            return;
        }
        unread += into.filled().len();
    }
}

pin_project! {
    /// What goes on in a connection.
    #[project = GoingProjection]
    enum Going<'a, R, F> {
        /// Waits for the time to tell the client that no more streams are to be opened.
        Away { told: LocalBoxFuture<'a, ()> },
        /// A request waits for its answer.
        Serving {
            #[pin]
            answer: R,
            respond: SendResponse<Bytes>,
            informations: Informations,
        },
        /// An answer is being sent.
        Answering { pump: Pump<ResponseBody<F>> },
        /// The client does not want its answer any more.
        GivenUp,
    }
}

/// What has ended in a connection.
enum Ended {
    Away,
    Answered,
    GivenUp,
}

impl<R, F> Future for Going<'_, R, F>
where
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin,
{
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let pump = match self.as_mut().project() {
                GoingProjection::Away { told } => return told.poll_unpin(cx).map(|()| Ended::Away),
                GoingProjection::Serving { answer, respond, informations } => {
                    // The client may give it up, which ends it here and at the server. Looked at first: to whoever sends its
                    // body on, that is a body that broke off.
                    if let Poll::Ready(reset) = respond.poll_reset(cx) {
                        reset::because(reset.unwrap_or(Reason::CANCEL), || self.set(Self::GivenUp));
                        return Poll::Ready(Ended::GivenUp);
                    }
                    let answered = answer.poll(cx);
                    for information in informations.take(|| respond.stream_id()) {
                        // It has to be understood by nobody.
                        let _ = respond.send_informational(information);
                    }
                    match answered {
                        Poll::Ready(response) => respond_with(respond, response),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                GoingProjection::Answering { pump } => {
                    if let Err(Stopped::ByPeer(reason)) = ready!(Pin::new(pump).poll(cx)) {
                        reset::because(reason, || self.set(Self::GivenUp));
                    }
                    return Poll::Ready(Ended::Answered);
                }
                GoingProjection::GivenUp => return Poll::Ready(Ended::GivenUp),
            };
            match pump {
                Some(pump) => self.set(Self::Answering { pump }),
                None => return Poll::Ready(Ended::Answered),
            }
        }
    }
}

/// Sends the head of a response, or the reset that stands for it; what sends its body, if there is one.
fn respond_with<F>(
    respond: &mut SendResponse<Bytes>,
    response: Response<ResponseBody<F>>,
) -> Option<Pump<ResponseBody<F>>>
where
    F: Finish + Unpin,
{
    let (head, body) = response.into_parts();
    if let ResponseBody::Reset(reason) = body {
        respond.send_reset(reason);
        return None;
    }
    let last = body.is_end_stream();
    match respond.send_response(Response::from_parts(head, ()), last) {
        Ok(stream) => (!last).then(|| Pump::new(body, stream)),
        Err(error) => {
            tracing::debug!(%error, "a response cannot be sent");
            respond.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}
