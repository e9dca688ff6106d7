//! HTTP/2 connections to one address, many requests at a time on each.
//!
//! One connection is enough until its streams are used up: the server says how many it takes at once
//! (SETTINGS_MAX_CONCURRENT_STREAMS). Then another is opened, up to a bound; beyond it requests wait for a stream. So it is
//! when the responses on a connection wait for clients that do not read them: others are not to wait with them.
//! Requests that come while a connection is being opened wait for that one.

use super::connections::{Connections, Lease};
use crate::{
    http::{
        http2::{self, Requests, Server, Unanswered},
        incoming::Incoming,
        outgoing::Outgoing,
    },
    identity::Alpn,
    listen::witness::Witness,
    outcome::Failure,
};
use futures::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};
use http::{Request, Response};
use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How long a connection without streams is kept. Longer than for HTTP/1.1: there is one for all requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Most connections to one address.
const MOST_CONNECTIONS: usize = 16;

/// Streams that a server is expected to take until it says so; RFC 9113 recommends no less.
const LIKELY_STREAMS: usize = 100;

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
    requests: Requests,
    load: Rc<Load>,
}

/// How much of a connection is in use.
struct Load {
    streams: Cell<usize>,
    /// The server has answered, so its settings are known.
    answered: Cell<bool>,
    last_used: Cell<Instant>,
    witness: Arc<Witness>,
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
        open.retain_mut(|c| !c.requests.are_over() && (c.load.streams.get() > 0 || now < expiry(c)));
        open.iter().filter(|connection| connection.load.streams.get() == 0).map(expiry).min()
    }

    /// A stream of the connection with the most room.
    fn stream(&self, connections: &Rc<Connections>) -> Option<(Requests, Stream)> {
        let mut open = self.open.borrow_mut();
        open.retain_mut(|connection| !connection.requests.are_over());
        let full = open.len() >= MOST_CONNECTIONS;
        let connection = open
            .iter()
            .filter(|connection| full || connection.has_room())
            .min_by_key(|connection| connection.load.streams.get())?;
        Some((connection.requests.clone(), Stream::start(&connection.load, connections)))
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        let most = match self.requests.most_streams() {
            Some(most) => most.max(1),
            None if self.load.answered.get() => 1,
            None => LIKELY_STREAMS,
        };
        self.load.streams.get() < most && !self.requests.is_stalled()
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
    outgoing: &mut Outgoing,
) -> Result<(Response<Incoming>, Lease), Failure> {
    for _ in 0..TRIES {
        let (mut requests, stream) = stream(connections).await?;
        if outgoing.wants_protocol() && !requests.take_protocols().await {
            return Err(Failure::RequestUnsupported);
        }
        let Some(body) = outgoing.body() else { break };
        // It takes the head for itself, which may be needed again.
        let request = Request::from_parts(outgoing.head().clone(), body);
        let Ok(exchange) = requests.send(request) else { continue };
        drop(requests);
        match exchange.answered(|response| outgoing.inform(response)).await {
            Ok(response) => {
                stream.0.answered.set(true);
                return Ok((response, Lease::Http2(stream)));
            }
            Err(_) if stream.0.witness.was_refused() => return Err(Failure::TlsFailed),
            // The server has gone away (GOAWAY) since the connection was last looked at, or refused the stream.
            Err(Unanswered::NeverProcessed) => {}
            Err(Unanswered::RequestBroken) => return Err(Failure::RequestBroken),
            Err(Unanswered::Invalid) => return Err(Failure::ResponseInvalid),
            Err(Unanswered::Reset(reason)) => {
                outgoing.reset(reason);
                return Err(Failure::ResponseBroken);
            }
            Err(Unanswered::Broken) => return Err(Failure::ResponseBroken),
        }
    }
    Err(Failure::ConnectionLost)
}

async fn stream(connections: &Rc<Connections>) -> Result<(Requests, Stream), Failure> {
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
    let server = if connections.are_verified() { Server::Proxy } else { Server::Application };
    let (requests, driven) = http2::open(io, server).await.map_err(|_| Failure::ConnectionLost)?;
    let load = Rc::new(Load {
        streams: Cell::new(0),
        answered: Cell::new(false),
        last_used: Cell::new(Instant::now()),
        witness,
    });
    tokio::task::spawn_local(async move {
        if let Err(error) = driven.await {
            tracing::debug!(%address, %error, "HTTP/2 connection to server ended");
        }
    });
    Ok(Connection { requests, load })
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
