//! Connections to the pod: to which of its ports, by which protocol, and to the application.
//!
//! A worker serves them with [`serve`], on a `LocalSet` of its own. They are forwarded to the pod's own address, as it
//! was redirected from, and never to loopback, so that what an application binds there stays private.
//!
//! When the operator says that the pod has been told to stop, peers are asked to go elsewhere (`connection: close`,
//! GOAWAY), and served on.
//!
//! This room does not know `outbound`.

mod port;
mod request;
mod tcp;

use crate::{
    http::{serve, tunnel},
    listen::{
        accept::{Accepted, Refusal, accept},
        drain::{self, Drain, OpenConnection},
        io::{Counted, Io},
        original::OriginalDestination,
        service::{ServerFirst, Service, decide},
    },
    outcome::Reports,
    record::{Metrics, labels::Direction},
    upstream::{Connections, Connector, own::Own},
};
use conduit_model::Inbound;
use port::Port;
use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// What a worker needs to serve inbound connections.
#[derive(Debug)]
pub struct Config {
    /// Where they come in; bound by [`crate::listen::socket::bind`].
    pub listeners: Vec<std::net::TcpListener>,
    /// How it is found where they were going.
    pub original: OriginalDestination,
    /// The pod's own addresses; connections to others are refused.
    pub pod_ips: Vec<IpAddr>,
    /// What is known of the pod's ports, and whether it is to stop.
    pub own: Arc<Own>,
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
    let Config { listeners, original, pod_ips, own, metrics, drain, .. } = config;
    let worker = Rc::new(Worker {
        terminating: own.terminating(),
        own,
        metrics: metrics.clone(),
        drain: drain.clone(),
        detect_timeout: config.detect_timeout,
        connector: Connector { connect_timeout: config.connect_timeout, idle_timeout: config.pool_idle_timeout },
        known: RefCell::default(),
        addresses: RefCell::default(),
        reports: Reports::new(),
    });
    let admit = |to: SocketAddr| match pod_ips.contains(&to.ip()) {
        true => Ok(()),
        false => Err(Refusal::NotThisPod),
    };
    let refused = |refusal: Refusal| metrics.connection_refused(Direction::Inbound, refusal.reason());
    accept(listeners, original, drain, admit, refused, |accepted| {
        tokio::task::spawn_local(connection(worker.clone(), accepted));
    })
    .await
}

/// What the connections of one worker share.
#[derive(Debug)]
struct Worker {
    own: Arc<Own>,
    terminating: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    drain: Drain,
    detect_timeout: Duration,
    connector: Connector,
    known: RefCell<Known>,
    addresses: RefCell<HashMap<SocketAddr, Kept>>,
    reports: Reports,
}

/// The ports as the newest configuration has them.
#[derive(Debug, Default)]
struct Known {
    config: Option<Arc<Inbound>>,
    ports: HashMap<u16, Rc<Port>>,
    /// Stands for every port that the configuration does not have.
    other: Option<Rc<Port>>,
}

/// One address of the pod, with the connections to the application there.
#[derive(Debug)]
struct Address {
    connections: Rc<Connections>,
    server_first: ServerFirst,
}

/// How an address is kept for the next connection to it.
#[derive(Debug)]
enum Kept {
    /// Its port is in the configuration, which has a bound.
    Known(Rc<Address>),
    /// Any other port: only while a connection uses it, for whoever scans ports must not fill the proxy's memory.
    Other(Weak<Address>),
}

impl Kept {
    fn address(&self) -> Option<Rc<Address>> {
        match self {
            Self::Known(address) => Some(address.clone()),
            Self::Other(address) => address.upgrade(),
        }
    }
}

/// One client's connection, held by all that goes on in it.
#[derive(Debug)]
struct Connection {
    worker: Rc<Worker>,
    address: Rc<Address>,
    /// Keeps the worker from ending.
    _open: OpenConnection,
}

async fn connection(worker: Rc<Worker>, accepted: Accepted) {
    let Accepted { stream, peer, destination, open } = accepted;
    let port = worker.port(destination.port());
    let address = worker.address(destination, &port);
    let connection = Rc::new(Connection { worker, address, _open: open });
    let mut io = Io::from(Counted::new(stream, port.accepted.open()));
    let Connection { worker, address, .. } = &*connection;
    let open = async || tcp::open(worker, address).await;
    // In a box, which is gone once it is decided, and not a part of what the connection takes from then on.
    let decided = decide(&io.counted().stream, port.protocol, worker.detect_timeout, &address.server_first, open);
    let service = match drain::unless_silent(worker.drain.clone(), worker.detect_timeout, Box::pin(decided)).await {
        Some(Ok(service)) => service,
        Some(Err(error)) => return tcp::broke(&io, &error),
        None => return,
    };
    let drain = worker.drain.clone();
    let serve = |request| request::serve(connection.clone(), request);
    let ended = match service {
        Service::Opaque => return tcp::serve(worker, address, &mut io).await,
        Service::Opened(mut server) => return tunnel::between(&mut io, &mut server).await,
        // For as long as a peer's proxy, set up as this one is, keeps a connection for the next request.
        Service::Http1 => serve::http1(io, serve, drain, worker.connector.idle_timeout).await,
        Service::Http2 => serve::http2(io, serve, drain, terminating(worker.terminating.clone())).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %destination, %error, "HTTP connection from client ended");
    }
}

/// Waits until the pod has been told to stop.
async fn terminating(mut terminating: watch::Receiver<bool>) {
    if terminating.wait_for(|terminating| *terminating).await.is_err() {
        // Nobody can say so any more.
        std::future::pending().await
    }
}

impl Worker {
    /// What is known of a port now.
    fn port(&self, port: u16) -> Rc<Port> {
        let newest = self.own.peek();
        let mut known = self.known.borrow_mut();
        let same = match (&*newest, &known.config) {
            (Some(newest), Some(held)) => Arc::ptr_eq(newest, held),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same {
            *known = Known { config: newest.clone(), ..Known::default() };
        }
        let Known { config, ports, other } = &mut *known;
        match config.as_ref().and_then(|config| config.port(port)) {
            Some(config) => ports.entry(port).or_insert_with(|| Port::new(config, &self.metrics)),
            None => other.get_or_insert_with(|| Port::unknown(&self.metrics)),
        }
        .clone()
    }

    /// An address of the pod as `port` has it now. One from before the configuration changed is counted under other labels:
    /// the connections that use it keep it, and what it has idle is closed in time.
    fn address(&self, address: SocketAddr, port: &Port) -> Rc<Address> {
        let mut addresses = self.addresses.borrow_mut();
        if let Some(kept) = addresses.get(&address).and_then(Kept::address)
            && Arc::ptr_eq(kept.connections.series(), &port.opened)
        {
            return kept;
        }
        if addresses.len() == addresses.capacity() {
            // Rather than to grow, to let go of what nothing uses: of each entry once per time that it could have been added.
            addresses.retain(|_, kept| kept.address().is_some());
        }
        let new = Rc::new(Address {
            connections: Connections::new(address, self.connector, port.opened.clone()),
            server_first: ServerFirst::default(),
        });
        let kept = if port.is_known() { Kept::Known(new.clone()) } else { Kept::Other(Rc::downgrade(&new)) };
        addresses.insert(address, kept);
        new
    }

    /// `pod/<namespace>/<name>`, empty until it is known. Asked for only where something failed.
    fn object(&self) -> String {
        let config = self.own.peek();
        let pod = config.as_ref().map(|config| format!("pod/{}/{}", config.workload.namespace, config.workload.pod));
        pod.unwrap_or_default()
    }

    fn is_terminating(&self) -> bool {
        *self.terminating.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::{InboundMtls, InboundPort, Protocol, Workload, WorkloadKind};

    fn worker(own: &Arc<Own>) -> Worker {
        Worker {
            own: own.clone(),
            terminating: own.terminating(),
            metrics: Metrics::new(),
            drain: drain::channel().1,
            detect_timeout: Duration::ZERO,
            connector: Connector { connect_timeout: Duration::ZERO, idle_timeout: Duration::ZERO },
            known: RefCell::default(),
            addresses: RefCell::default(),
            reports: Reports::new(),
        }
    }

    fn configured(ports: &[u16]) -> Arc<Inbound> {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        let port = |port: &u16| InboundPort {
            port: *port,
            protocol: Protocol::Detect,
            services: Vec::new(),
            mtls: InboundMtls::DEFAULT,
            probes: Vec::new(),
        };
        Arc::new(Inbound { ports: ports.iter().map(port).collect(), ..Inbound::of(workload) })
    }

    fn at(worker: &Worker, port: u16) -> Rc<Address> {
        worker.address(SocketAddr::from(([10, 0, 0, 1], port)), &worker.port(port))
    }

    #[test]
    fn a_port_that_comes_into_the_configuration_is_counted_as_such_from_then_on() {
        let own = Own::new();
        let worker = worker(&own);
        let before = at(&worker, 8080);
        assert!(Rc::ptr_eq(&before, &at(&worker, 8080)), "connections at the same time share it");
        own.apply(configured(&[8080]));
        let after = at(&worker, 8080);
        assert!(Arc::ptr_eq(after.connections.series(), &worker.port(8080).opened));
        assert!(!Rc::ptr_eq(&before, &after));
        drop(before);
        assert!(Rc::ptr_eq(&after, &at(&worker, 8080)));
    }

    #[test]
    fn a_scan_of_ports_leaves_nothing_behind() {
        let own = Own::new();
        own.apply(configured(&[8080]));
        let worker = worker(&own);
        let known = Rc::downgrade(&at(&worker, 8080));
        for port in 10_000..30_000 {
            at(&worker, port);
        }
        assert!(worker.addresses.borrow().capacity() < 100);
        assert!(known.upgrade().is_some());
    }

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// What a thousand idle connections cost is a thousand times this, and what HTTP keeps read ahead.
    #[test]
    fn futures_keep_within_their_budgets() {
        let (connection, request) = (size(connection), size(request::serve));
        assert!(connection <= 3072, "a connection takes {connection} bytes");
        assert!(request <= 1408, "a request takes {request} bytes");
    }
}
