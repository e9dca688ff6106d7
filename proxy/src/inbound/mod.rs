//! Connections to the pod: from whom they are, to which of its ports, by which protocol, and to the application.
//!
//! A worker serves them with [`serve`], on a `LocalSet` of its own. They are forwarded to the pod's own address, as it
//! was redirected from, and never to loopback, so that what an application binds there stays private.
//!
//! A peer of the mesh proves who it is before anything else, and says what its connection carries; the others are served
//! as policy allows. The application is reached with a `Permit` and not otherwise.
//!
//! When the operator says that the pod has been told to stop, peers are asked to go elsewhere (`connection: close`,
//! GOAWAY), and served on.
//!
//! This room does not know `outbound`.

mod admit;
mod application;
mod handshake;
mod opening;
mod port;
mod request;
mod tcp;
mod worker;

use crate::{
    http::{http1, http2, incoming::Broken},
    identity::{Alpn, Identity},
    listen::{
        accept::{Accepted, Door, Refusal, accept},
        drain::{self, Drain, OpenConnection},
        io::{Counted, Io},
        original::OriginalDestination,
        room::Room,
    },
    outcome::Failure,
    record::{
        Metrics,
        access::Conversation,
        detection::{By, Carries},
        labels::{Direction, Labels, NoTls},
    },
    upstream::{Connector, own::Own},
};
use admit::{Client, Permit};
use application::Application;
use conduit_model::Protocol;
use handshake::Handshaken;
use opening::{Expected, Opening};
use port::{ClientSeries, Port, Secured};
use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, sync::watch, time::Instant};
use worker::Worker;

/// What a worker needs to serve inbound connections.
#[derive(Debug)]
pub struct Config {
    /// Where they come in; bound by [`crate::listen::socket::bind`].
    pub listeners: Vec<std::net::TcpListener>,
    /// How it is found where they were going.
    pub original: OriginalDestination,
    /// How many are served at once, by all workers.
    pub room: Arc<Room>,
    /// The pod's own addresses; connections to others are refused.
    pub pod_ips: Vec<IpAddr>,
    /// The pod's default gateways ([`crate::listen::gateway::read`]), from which probes may come.
    pub gateways: Vec<IpAddr>,
    /// What is known of the pod's ports, and whether it is to stop.
    pub own: Arc<Own>,
    /// What proves to peers who this is, and whom it trusts.
    pub identity: Arc<Identity>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Ends the service.
    pub drain: Drain,
    /// How long first bytes are waited for before the server may speak first.
    pub detect_timeout: Duration,
    /// How long opening a connection to the application may take.
    pub connect_timeout: Duration,
    /// How long an idle HTTP/1.1 connection is kept.
    pub pool_idle_timeout: Duration,
}

/// Serves inbound connections until the drain is told and none is open any more. Runs on a `LocalSet`.
///
/// # Errors
/// A listener cannot be used.
pub async fn serve(config: Config) -> io::Result<()> {
    let Config { listeners, original, room, pod_ips, gateways, own, identity, metrics, drain, .. } = config;
    let connector = Connector { connect_timeout: config.connect_timeout, idle_timeout: config.pool_idle_timeout };
    let worker = Worker::new(own, identity, gateways, metrics.clone(), drain.clone(), config.detect_timeout, connector);
    let admit = |to: SocketAddr| match pod_ips.contains(&to.ip()) {
        true => Ok(()),
        false => Err(Refusal::NotThisPod),
    };
    let is_probe = |from| worker.may_be_probe(from);
    let refused = |refusal: Refusal| metrics.connection_refused(Direction::Inbound, refusal.reason());
    accept(Door { listeners, original, room, drain }, is_probe, admit, refused, |accepted| {
        tokio::task::spawn_local(connection(worker.clone(), accepted));
    })
    .await
}

/// One client's connection, held by all that goes on in it.
#[derive(Debug)]
struct Connection {
    worker: Rc<Worker>,
    application: Rc<Application>,
    client: Client,
    /// Where it is written about.
    conversation: Option<Rc<Conversation>>,
    /// The port as it was known last, with what counts this client there.
    counted: RefCell<(Rc<Port>, Rc<ClientSeries>)>,
    /// Keeps the worker from ending.
    _open: OpenConnection,
}

/// How a client is served once it is known.
#[derive(Debug)]
enum Service {
    Http1,
    Http2,
    Bytes(Permit),
    /// The same, on a connection to the application that is open already.
    Opened(Io),
}

async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { stream, peer, destination, open } = accepted;
    let port = worker.port(destination.port());
    let application = worker.application(destination, &port);
    // In a box, which is gone once it is decided, and not a part of what the connection takes from then on.
    let conversation = Conversation::begin(&worker.metrics, Direction::Inbound, peer, destination);
    let unserved = |labels: &Labels, failure| {
        if let Some(conversation) = &conversation {
            conversation.unserved(labels, failure);
        }
    };
    let beginning = Box::pin(begin(&worker, &port, &application, stream, peer.ip(), unserved));
    let Some((mut io, client, service)) = beginning.await else { return };
    let counted = RefCell::new((port.clone(), port.client(&Secured::of(&client))));
    let connection = Rc::new(Connection { worker, application, client, conversation, counted, _open: open });
    let worker = &connection.worker;
    let drain = worker.drain.clone();
    let serve = |request| request::serve(connection.clone(), request);
    let ended = match service {
        Service::Bytes(permit) => return tcp::serve(&connection, permit, &mut io).await,
        Service::Opened(server) => return tcp::relay(&connection, &mut io, server).await,
        // For as long as a peer's proxy, set up as this one is, keeps a connection for the next request.
        Service::Http1 => http1::serve(io, serve, drain, worker.connector.idle_timeout).await.map_err(Broken::Http1),
        Service::Http2 => {
            let client = match connection.client {
                Client::Peer(_) => http2::Client::Proxy,
                Client::Unverified(_) => http2::Client::Application,
            };
            let terminating = terminating(worker.terminating.clone());
            http2::serve(io, client, serve, drain, terminating).await.map_err(Broken::Http2)
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %destination, %error, "HTTP connection from client ended");
        if let Some(failure) = error.refusal() {
            connection.worker.metrics.request_refused(Direction::Inbound, failure, connection.conversation.as_deref());
        }
    }
}

/// Finds out whom a connection is from and what it carries; none where that was its end, of which `unserved` is told how it
/// was counted and why.
async fn begin(
    worker: &Worker,
    port: &Port,
    application: &Application,
    stream: TcpStream,
    from: IpAddr,
    unserved: impl Fn(&Labels, Failure),
) -> Option<(Io, Client, Service)> {
    let expected = Expected {
        protocol: port.protocol,
        admission: port.admission(from, &worker.gateways),
        patience: worker.detect_timeout,
    };
    let open = async |permit| {
        let opened = tcp::open(worker, application, permit).await;
        opened.inspect_err(|failure| {
            unserved(port.client(&Secured::Not(NoTls::NotFromRemote)).accepted.labels(), *failure)
        })
    };
    let start = Instant::now();
    let decided = opening::decide(&stream, expected, open);
    let opening = drain::unless_silent(worker.drain.clone(), worker.detect_timeout, decided).await?;
    let not_secured = |stream, why| {
        let series = port.client(&Secured::Not(why));
        Io::from(Counted::new(stream, series.accepted.open()))
    };
    let looked = (!opening::is_http(port.protocol)).then(|| start.elapsed());
    let (why, service, by, carries) = match opening {
        Ok(Opening::Mesh) => {
            let secured = secured(worker, port, stream, from, looked).await;
            if secured.is_none() {
                let series = port.client(&Secured::Not(NoTls::HandshakeFailed));
                unserved(series.accepted.labels(), Failure::TlsFailed);
            }
            return secured;
        }
        Ok(Opening::Http1) => (NoTls::NotFromRemote, Service::Http1, By::FirstBytes, Carries::Http1),
        Ok(Opening::Http2) => (NoTls::NotFromRemote, Service::Http2, By::FirstBytes, Carries::Http2),
        Ok(Opening::Bytes(permit, by)) => (NoTls::NotFromRemote, Service::Bytes(permit), by, Carries::Opaque),
        Ok(Opening::Opened(server, by)) => (NoTls::NotFromRemote, Service::Opened(server), by, Carries::Opaque),
        Ok(Opening::Tls(permit)) => (NoTls::NotMeshTls, Service::Bytes(permit), By::FirstBytes, Carries::Tls),
        Ok(Opening::Refused(failure)) => {
            worker.reports.report(failure, &worker.refuser(port), application.address());
            worker.metrics.connection_refused(Direction::Inbound, "tls_required");
            let refused = not_secured(stream, NoTls::NotFromRemote);
            unserved(refused.record().labels(), failure);
            tcp::broke(&refused, &io::ErrorKind::ConnectionRefused.into());
            return None;
        }
        Err(error) => {
            tcp::broke(&not_secured(stream, NoTls::NotFromRemote), &error);
            return None;
        }
    };
    // What is declared is believed, and looked at all the same: a peer would say so.
    let by = if port.protocol == Protocol::Detect { by } else { By::Declared };
    worker.metrics.detection.classified(Direction::Inbound, by, carries, looked);
    Some((not_secured(stream, why), Client::Unverified(from), service))
}

/// Takes the connection of a peer, which has said what it carries.
async fn secured(
    worker: &Worker,
    port: &Port,
    stream: TcpStream,
    from: IpAddr,
    looked: Option<Duration>,
) -> Option<(Io, Client, Service)> {
    let handshake = worker.handshakes.accept(stream, from, |peer| {
        let secured = match peer {
            Some(peer) => Secured::By(peer.id().clone()),
            None => Secured::Not(NoTls::HandshakeFailed),
        };
        port.client(&secured).accepted.clone()
    });
    let Handshaken { io, alpn, peer } = handshake.await?;
    let (service, carries) = match alpn {
        Alpn::Http1 => (Service::Http1, Carries::Http1),
        Alpn::Http2 => (Service::Http2, Carries::Http2),
        Alpn::Tcp => (Service::Bytes(admit::peer(&peer)), Carries::Opaque),
    };
    worker.metrics.detection.classified(Direction::Inbound, By::Peer, carries, looked);
    Some((io, Client::Peer(peer), service))
}

/// Waits until the pod has been told to stop.
async fn terminating(mut terminating: watch::Receiver<bool>) {
    if terminating.wait_for(|terminating| *terminating).await.is_err() {
        // Nobody can say so any more.
        std::future::pending().await
    }
}

impl Connection {
    /// The port as it is known now, and what counts this client there.
    fn port(&self) -> (Rc<Port>, Rc<ClientSeries>) {
        let port = self.worker.port(self.application.address().port());
        let mut counted = self.counted.borrow_mut();
        if !Rc::ptr_eq(&counted.0, &port) {
            let series = port.client(&Secured::of(&self.client));
            *counted = (port, series);
        }
        counted.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// What a thousand idle connections cost is a thousand times this, and what HTTP keeps read ahead.
    #[test]
    fn futures_keep_within_their_budgets() {
        let (connection, request) = (size(connection), size(request::serve));
        assert!(connection <= 1536, "a connection takes {connection} bytes");
        assert!(request <= 1424, "a request takes {request} bytes");
    }
}
