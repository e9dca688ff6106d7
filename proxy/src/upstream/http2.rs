//! HTTP/2 connections to one address, many requests at a time on each.
//!
//! One connection is enough until its streams are used up: the server says how many it takes at once
//! (SETTINGS_MAX_CONCURRENT_STREAMS). Then another is opened, up to a bound; beyond it requests wait for a stream.
//! Requests that come while a connection is being opened wait for that one.

use super::connections::{Connections, Lease, failure};
use crate::{
    http::{body::RequestBody, http2::LocalExecutor, incoming::Incoming, limits, outgoing::Outgoing},
    identity::Alpn,
    listen::witness::Witness,
    outcome::Failure,
};
use futures::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};
use http::Response;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// How long a connection without streams is kept. Longer than for HTTP/1.1: there is one for all requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Most connections to one address.
const MOST_CONNECTIONS: usize = 16;

/// Streams that a server is expected to take until it says so; RFC 9113 recommends no less.
const LIKELY_STREAMS: usize = 100;

/// Streams that are opened until the server has said how many it takes: it would refuse those beyond.
const FIRST_STREAMS: usize = 1;

/// Attempts to find a connection that has not just gone away.
const TRIES: usize = 3;

type Opening = Shared<LocalBoxFuture<'static, Result<(), Failure>>>;

/// The open connections.
#[derive(Default)]
pub(crate) struct Multiplexed {
    open: RefCell<Vec<Connection>>,
    opening: RefCell<Option<Opening>>,
}

/// One connection.
struct Connection {
    sender: SendRequest<RequestBody>,
    load: Rc<Load>,
}

/// How much of a connection is in use.
struct Load {
    streams: Cell<usize>,
    /// What the server takes at once; a guess until its settings have been seen.
    most_streams: Cell<usize>,
    answered: Cell<bool>,
    last_used: Cell<Instant>,
    witness: Arc<Witness>,
    /// Wakes the connection's task, which is the one that can see what the server takes.
    task: Cell<Option<Waker>>,
}

/// One stream, in use until it is dropped.
pub(crate) struct Stream(Rc<Load>, Rc<Connections>);

impl Multiplexed {
    pub(super) fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    /// Closes what has had no stream for too long; when the next one will have had none.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut open = self.open.borrow_mut();
        let expiry = |connection: &Connection| connection.load.last_used.get() + IDLE_TIMEOUT;
        open.retain(|c| !c.sender.is_closed() && (c.load.streams.get() > 0 || now < expiry(c)));
        open.iter().filter(|connection| connection.load.streams.get() == 0).map(expiry).min()
    }

    /// A stream of the connection with the most room.
    fn stream(&self, connections: &Rc<Connections>) -> Option<(SendRequest<RequestBody>, Stream)> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        let full = open.len() >= MOST_CONNECTIONS;
        let connection = open
            .iter()
            .filter(|connection| full || connection.load.has_room())
            .min_by_key(|connection| connection.load.streams.get())?;
        Some((connection.sender.clone(), Stream::start(&connection.load, connections)))
    }
}

impl Load {
    /// The server has answered, so its settings are here: they are to be looked at.
    fn look_at_settings(&self) {
        self.answered.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn has_room(&self) -> bool {
        self.streams.get() < self.most_streams.get()
    }
}

impl Stream {
    fn start(load: &Rc<Load>, connections: &Rc<Connections>) -> Self {
        load.streams.set(load.streams.get() + 1);
        Self(load.clone(), connections.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Self(load, connections) = self;
        load.streams.set(load.streams.get() - 1);
        if load.streams.get() == 0 {
            load.last_used.set(Instant::now());
            connections.reap_later();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.1.address()).finish()
    }
}

impl fmt::Debug for Multiplexed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplexed").field("open", &self.open.borrow().len()).finish_non_exhaustive()
    }
}

pub(super) async fn send(
    connections: &Rc<Connections>,
    request: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failure> {
    for _ in 0..TRIES {
        let (mut sender, stream) = stream(connections).await?;
        let Some(request) = request.next() else { break };
        match sender.try_send_request(request).await {
            Ok(response) => {
                stream.0.look_at_settings();
                return Ok((response.map(Incoming::Http2), Lease::Http2(stream)));
            }
            Err(_) if stream.0.witness.was_refused() => return Err(Failure::TlsFailed),
            // The server has gone away (GOAWAY) since the connection was last looked at, or refused the stream.
            Err(error) if error.message().is_some() || never_processed(error.error()) => {}
            Err(error) => return Err(failure(error.error())),
        }
    }
    Err(Failure::ConnectionLost)
}

/// Whether the server says that it has not looked at the request (RFC 9113 section 8.7).
fn never_processed(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            return h2.reason() == Some(h2::Reason::REFUSED_STREAM)
                || h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
        }
        source = cause.source();
    }
    false
}

async fn stream(connections: &Rc<Connections>) -> Result<(SendRequest<RequestBody>, Stream), Failure> {
    loop {
        if let Some(stream) = connections.http2.stream(connections) {
            return Ok(stream);
        }
        let opening = connections.http2.opening.borrow().clone();
        opening.unwrap_or_else(|| start_to_open(connections)).await?;
    }
}

/// Opens one connection for all who wait, in a task of its own: those who wait may all give up, and what they began has to
/// be brought to its end nevertheless. It holds the connections no longer than opening one may take.
fn start_to_open(connections: &Rc<Connections>) -> Opening {
    let task = tokio::task::spawn_local(open(connections.clone()));
    let opening = task.map(|ended| ended.unwrap_or(Err(Failure::ConnectionLost))).boxed_local().shared();
    *connections.http2.opening.borrow_mut() = Some(opening.clone());
    opening
}

async fn open(connections: Rc<Connections>) -> Result<(), Failure> {
    let opened = handshake(&connections).await;
    // Who comes from now on starts anew.
    *connections.http2.opening.borrow_mut() = None;
    // Retired ones take it too, for those who wait already: it is closed when they are let go of.
    connections.http2.open.borrow_mut().push(opened?);
    // Perhaps nobody waits any more.
    connections.reap_later();
    Ok(())
}

async fn handshake(connections: &Rc<Connections>) -> Result<Connection, Failure> {
    let address = connections.address();
    let mut io = connections.open(Alpn::Http2).await?;
    let witness = io.witnessed();
    let (sender, connection) = Builder::new(LocalExecutor)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::SHARED_CONNECTION_WINDOW)
        .initial_max_send_streams(FIRST_STREAMS)
        .max_header_list_size(limits::HEAD as u32)
        .max_send_buf_size(limits::SEND_BUFFER)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|_| Failure::ConnectionLost)?;
    let load = Rc::new(Load {
        streams: Cell::new(0),
        most_streams: Cell::new(LIKELY_STREAMS),
        answered: Cell::new(false),
        last_used: Cell::new(Instant::now()),
        witness,
        task: Cell::default(),
    });
    let seen = load.clone();
    tokio::task::spawn_local(async move {
        let mut connection = pin!(connection);
        let mut first = true;
        let ended = poll_fn(|cx| {
            if std::mem::take(&mut first) {
                seen.task.set(Some(cx.waker().clone()));
            }
            let polled = connection.as_mut().poll(cx);
            let most_streams = connection.current_max_send_streams();
            if seen.answered.get() || most_streams != FIRST_STREAMS {
                seen.most_streams.set(most_streams.max(1));
            }
            polled
        });
        if let Err(error) = ended.await {
            tracing::debug!(%address, %error, "HTTP/2 connection to server ended");
        }
    });
    Ok(Connection { sender, load })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        record::{
            Metrics,
            labels::{Direction, Labels, Peer},
            tcp::TcpSeries,
        },
        upstream::Connector,
    };
    use std::rc::Weak;
    use tokio::{io::AsyncReadExt, net::TcpListener, task::LocalSet, time::timeout};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_connection_that_nobody_waits_for_any_more_ends_with_those_of_its_address() {
        let case = async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let series = TcpSeries::new(&Metrics::new(), Peer::Destination, &Labels::direction(Direction::Outbound));
            let connector = Connector { connect_timeout: LIMIT, idle_timeout: LIMIT };
            let connections = Connections::new(listener.local_addr().unwrap(), connector, series);
            assert!(stream(&connections).now_or_never().is_none(), "given up while the connection is being opened");
            connections.retire();
            let held: Weak<Connections> = Rc::downgrade(&connections);
            drop(connections);
            let (mut accepted, _) = listener.accept().await.unwrap();
            // The end of the connection.
            accepted.read_to_end(&mut Vec::new()).await.unwrap();
            assert_eq!(held.strong_count(), 0);
        };
        timeout(LIMIT, LocalSet::new().run_until(case)).await.unwrap();
    }
}
