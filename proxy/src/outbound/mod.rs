//! Connections that the application opens: to which destination, by which protocol, along which route, to which
//! endpoint.
//!
//! A worker serves them with [`serve`], on a `LocalSet` of its own. Everything a connection needs stays on its worker;
//! workers share the directory of destinations, and the metrics.
//!
//! This room does not know `inbound`, and nothing of how destinations come to be known.

mod plan;
mod request;
mod security;
mod target;
mod tcp;

use crate::{
    http::{http1, http2, incoming::Broken},
    identity::Identity,
    listen::{
        accept::{Accepted, Door, Refusal, accept},
        drain::{self, Drain, OpenConnection},
        io::{Counted, Io},
        original::OriginalDestination,
        room::Room,
        service::{Decided, Service, decide},
    },
    outcome::Reports,
    record::{Metrics, access::Conversation, labels::Direction},
    upstream::{
        Connector, Handshakes,
        directory::{Directory, Held},
    },
};
use conduit_model::Protocol;
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use target::Target;
use tokio::time::Instant;

/// How long a worker keeps what it has of a destination that the directory has let go of.
const SWEEP: Duration = Duration::from_secs(30);

/// What a worker needs to serve outbound connections.
#[derive(Debug)]
pub struct Config {
    /// Where they come in; bound by [`crate::listen::socket::bind`].
    pub listeners: Vec<std::net::TcpListener>,
    /// How it is found where they were going.
    pub original: OriginalDestination,
    /// How many are served at once, by all workers.
    pub room: Arc<Room>,
    /// What is known of destinations.
    pub directory: Arc<Directory>,
    /// Who the proxy is to its peers.
    pub identity: Arc<Identity>,
    /// The pod's own addresses: what goes there does not leave it.
    pub pod_ips: Vec<IpAddr>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// Ends the service.
    pub drain: Drain,
    /// How long a first connection waits for the operator's answer about its destination.
    pub discovery_timeout: Duration,
    /// How long first bytes are waited for before the server may speak first.
    pub detect_timeout: Duration,
    /// How long opening a connection to an endpoint may take.
    pub connect_timeout: Duration,
    /// How long an idle HTTP/1.1 connection is kept.
    pub pool_idle_timeout: Duration,
}

/// Serves outbound connections until the drain is told and none is open any more. Runs on a `LocalSet`.
///
/// # Errors
/// A listener cannot be used.
pub async fn serve(config: Config) -> io::Result<()> {
    let Config { listeners, original, room, directory, identity, pod_ips, metrics, drain, .. } = config;
    let worker = Rc::new(Worker {
        directory,
        handshakes: Handshakes::new(identity, metrics.clone()),
        pod_ips: pod_ips.into(),
        metrics: metrics.clone(),
        drain: drain.clone(),
        discovery_timeout: config.discovery_timeout,
        detect_timeout: config.detect_timeout,
        connector: Connector { connect_timeout: config.connect_timeout, idle_timeout: config.pool_idle_timeout },
        targets: RefCell::default(),
        sweeping: Cell::default(),
        reports: Reports::new(),
    });
    // Nobody but the application comes here.
    let is_probe = |_| false;
    let admit = |_| Ok(());
    let refused = |refusal: Refusal| metrics.connection_refused(Direction::Outbound, refusal.reason());
    accept(Door { listeners, original, room, drain }, is_probe, admit, refused, |accepted| {
        tokio::task::spawn_local(connection(worker.clone(), accepted));
    })
    .await
}

/// What the connections of one worker share.
#[derive(Debug)]
struct Worker {
    directory: Arc<Directory>,
    handshakes: Rc<Handshakes>,
    pod_ips: Rc<[IpAddr]>,
    metrics: Arc<Metrics>,
    drain: Drain,
    discovery_timeout: Duration,
    detect_timeout: Duration,
    connector: Connector,
    targets: RefCell<HashMap<SocketAddr, Rc<Target>>>,
    sweeping: Cell<bool>,
    reports: Reports,
}

/// One client's connection, held by all that goes on in it.
#[derive(Debug)]
struct Connection {
    worker: Rc<Worker>,
    target: Rc<Target>,
    /// Where it is written about.
    conversation: Option<Rc<Conversation>>,
    /// Keeps the destination known.
    _held: Held,
    /// Keeps the worker from ending.
    _open: OpenConnection,
}

async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { stream, peer, destination, open } = accepted;
    let held = worker.directory.destination(destination);
    worker.directory.known(&held, worker.discovery_timeout).await;
    let target = worker.target(&held);
    let plan = target.plan();
    let conversation = Conversation::begin(&worker.metrics, Direction::Outbound, peer, destination);
    let connection = Rc::new(Connection { worker, target, conversation, _held: held, _open: open });
    let mut io = Io::from(Counted::new(stream, plan.accepted.open()));
    let Connection { worker, target, .. } = &*connection;
    let open = async || tcp::open(&connection).await;
    let declared = plan.config.protocol;
    // In a box, which is gone once it is decided, and not a part of what the connection takes from then on.
    let decided = decide(&io.counted().stream, declared, worker.detect_timeout, target.server_first(), open);
    let start = Instant::now();
    let decided = drain::unless_silent(worker.drain.clone(), worker.detect_timeout, Box::pin(decided));
    let Decided { service, by, carries } = match decided.await {
        Some(Ok(decided)) => decided,
        Some(Err(error)) => return tcp::broke(&io, &error),
        None => return,
    };
    let looked = (declared == Protocol::Detect).then(|| start.elapsed());
    worker.metrics.detection.classified(Direction::Outbound, by, carries, looked);
    let drain = worker.drain.clone();
    let serve = |request| request::serve(connection.clone(), request);
    let ended = match service {
        Service::Opaque => return tcp::serve(&connection, &mut io).await,
        Service::Opened(opened) => return tcp::relay(&connection, &mut io, opened).await,
        // The application has exited before its proxy is told to: nothing more can come.
        Service::Http1 => http1::serve(io, serve, drain, Duration::ZERO).await.map_err(Broken::Http1),
        Service::Http2 => http2::serve(io, http2::Client::Application, serve, drain, std::future::pending())
            .await
            .map_err(Broken::Http2),
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %destination, %error, "HTTP connection from client ended");
        if let Some(failure) = error.refusal() {
            connection.worker.metrics.request_refused(Direction::Outbound, failure, connection.conversation.as_deref());
        }
    }
}

impl Worker {
    /// The destination as this worker sees it.
    fn target(self: &Rc<Self>, held: &Held) -> Rc<Target> {
        let mut targets = self.targets.borrow_mut();
        if let Some(target) = targets.get(&held.address())
            && target.is_of(held.shared())
        {
            return target.clone();
        }
        let target = Target::new(self, held.shared());
        targets.insert(held.address(), target.clone());
        if !self.sweeping.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
        target
    }

    /// Lets go of destinations that the directory has let go of; whether there are others.
    fn let_go(&self) -> bool {
        let mut targets = self.targets.borrow_mut();
        targets.retain(|_, target| !target.is_gone());
        if targets.len() * 4 <= targets.capacity() {
            targets.shrink_to_fit();
        }
        !targets.is_empty()
    }
}

/// Gives back what destinations took that nothing uses any more, for as long as there are any.
async fn sweep(worker: Weak<Worker>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(worker) = worker.upgrade() else { return };
        if !worker.let_go() {
            worker.sweeping.set(false);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::own::Own;
    use tokio::task::LocalSet;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// What a thousand idle connections cost is a thousand times this, and what HTTP keeps read ahead.
    #[test]
    fn futures_keep_within_their_budgets() {
        let (connection, request) = (size(connection), size(request::serve));
        assert!(connection <= 1536, "a connection takes {connection} bytes");
        assert!(request <= 1600, "a request takes {request} bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_destination_took_is_given_back_when_nothing_has_used_it_for_a_while() {
        let case = async {
            let (directory, _wanted) = Directory::new(Own::new());
            let metrics = Metrics::new();
            let worker = Rc::new(Worker {
                directory: directory.clone(),
                handshakes: Handshakes::new(Identity::new("cluster.local".parse().unwrap()), metrics.clone()),
                pod_ips: Rc::default(),
                metrics,
                drain: drain::channel().1,
                discovery_timeout: SWEEP,
                detect_timeout: SWEEP,
                connector: Connector { connect_timeout: SWEEP, idle_timeout: SWEEP },
                targets: RefCell::default(),
                sweeping: Cell::default(),
                reports: Reports::new(),
            });
            let [used, unused] = [1, 2].map(|last| SocketAddr::from(([10, 96, 0, last], 80)));
            let held = directory.destination(used);
            let kept = Rc::downgrade(&worker.target(&held));
            let gone = Rc::downgrade(&worker.target(&directory.destination(unused)));
            assert!(directory.remove(unused) && !directory.remove(used));
            tokio::time::sleep(2 * SWEEP).await;
            assert_eq!((kept.strong_count(), gone.strong_count()), (1, 0));
            drop(held);
            assert!(directory.remove(used));
            tokio::time::sleep(2 * SWEEP).await;
            assert_eq!((kept.strong_count(), worker.targets.borrow().capacity()), (0, 0));
            // The next one is let go of as well.
            let again = Rc::downgrade(&worker.target(&directory.destination(used)));
            assert!(directory.remove(used));
            tokio::time::sleep(2 * SWEEP).await;
            assert_eq!(again.strong_count(), 0);
        };
        LocalSet::new().run_until(case).await;
    }
}
