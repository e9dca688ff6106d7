//! A port of the pod, or some that are alike, with what requests need of it looked up in advance.

use super::admit::Client;
use crate::{
    http::headers,
    record::{
        Metrics,
        labels::{Direction, Labels, NoTls, Peer, Tls},
        request::{HttpSeries, RouteSeries, route_index},
        tcp::TcpSeries,
    },
};
use conduit_model::{Admission, Inbound, InboundPort, ObjectRef, PortRange, Protocol, Route, ServicePort, SpiffeId};
use http::Request;
use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::{Rc, Weak},
    sync::Arc,
};

/// What to do with the connections and requests to one port, until the configuration changes.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    /// Counts connections to the application.
    pub(super) opened: Arc<TcpSeries>,
    /// What the pod was told, once it was.
    own: Option<Arc<Inbound>>,
    config: Option<InboundPort>,
    metrics: Arc<Metrics>,
    /// By the host that clients name it by: the place of the Service among the configuration's, the oldest first.
    services: HashMap<Box<str>, usize>,
    /// Of each Service in the order of the configuration's; where that has none, of one that stands for none.
    routes: Vec<Routes>,
    /// Those that have a connection.
    clients: RefCell<HashMap<Secured, Weak<ClientSeries>>>,
}

/// As [`RouteSeries::all`] orders them.
type Routes = Vec<Rc<RouteSeries>>;

/// How clients are secured, as far as series tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Secured {
    By(SpiffeId),
    Not(NoTls),
}

/// What counts the connections and requests of clients that are alike.
#[derive(Debug)]
pub(super) struct ClientSeries {
    pub(super) accepted: Arc<TcpSeries>,
    secured: Secured,
    /// As the port's services; made for the first request, for most who come without an identity send none.
    services: OnceCell<Vec<Rc<HttpSeries>>>,
}

impl Port {
    /// A port that the operator knows.
    pub(super) fn new(own: &Arc<Inbound>, config: &InboundPort, metrics: &Arc<Metrics>) -> Rc<Self> {
        Self::of(Some(own.clone()), Some(config.clone()), metrics)
    }

    /// Any other port: its protocol is detected, and its number is no label, for it comes from traffic.
    pub(super) fn unknown(own: Option<&Arc<Inbound>>, metrics: &Arc<Metrics>) -> Rc<Self> {
        Self::of(own.cloned(), None, metrics)
    }

    fn of(own: Option<Arc<Inbound>>, config: Option<InboundPort>, metrics: &Arc<Metrics>) -> Rc<Self> {
        let labels = Labels::own(config.as_ref().map(|config| config.ports), None, Tls::None(NoTls::Loopback));
        let routes = |service: Option<&ServicePort>, routes: &[Route]| {
            RouteSeries::all(&metrics.route, routes, |route| Labels::route(Direction::Inbound, service, route))
        };
        let routes = match config.as_ref().map_or(&[][..], |config| &config.services) {
            [] => vec![routes(None, &[])],
            known => known.iter().map(|known| routes(Some(&known.service), &known.routes)).collect(),
        };
        let mut services = HashMap::new();
        for (place, known) in config.iter().flat_map(|config| &config.services).enumerate() {
            for host in &known.hosts {
                services.entry(host.as_str().into()).or_insert(place);
            }
        }
        Rc::new(Self {
            protocol: config.as_ref().map_or(Protocol::Detect, |config| config.protocol),
            opened: TcpSeries::new(metrics, Peer::Destination, &labels),
            own,
            config,
            metrics: metrics.clone(),
            services,
            routes,
            clients: RefCell::default(),
        })
    }

    /// Whether the configuration has it.
    pub(super) fn is_known(&self) -> bool {
        self.config.is_some()
    }

    /// What a client at `from` is served that has proved nothing.
    pub(super) fn admission(&self, from: IpAddr, gateways: &[IpAddr]) -> Admission<'_> {
        match &self.own {
            Some(own) => own.admission(self.config.as_ref(), from, gateways),
            None => Admission::NOTHING,
        }
    }

    /// The policy that says what it is served.
    pub(super) fn policy(&self) -> Option<&ObjectRef> {
        self.own.as_ref()?.mtls(self.config.as_ref()).source.as_ref()
    }

    /// What counts clients that are secured like this. Forgotten with the last connection that holds it, so that there are
    /// no more than connections.
    pub(super) fn client(&self, secured: &Secured) -> Rc<ClientSeries> {
        let mut clients = self.clients.borrow_mut();
        if let Some(known) = clients.get(secured).and_then(Weak::upgrade) {
            return known;
        }
        if clients.len() == clients.capacity() {
            clients.retain(|_, client| client.strong_count() > 0);
        }
        let labels = Labels::own(self.ports(), None, secured.tls());
        let accepted = TcpSeries::new(&self.metrics, Peer::Source, &labels);
        let new = Rc::new(ClientSeries { accepted, secured: secured.clone(), services: OnceCell::new() });
        clients.insert(secured.clone(), Rc::downgrade(&new));
        new
    }

    fn ports(&self) -> Option<PortRange> {
        self.config.as_ref().map(|config| config.ports)
    }

    /// What counts the requests of `client`, one of this port's, service by service.
    fn series<'c>(&self, client: &'c ClientSeries) -> &'c [Rc<HttpSeries>] {
        client.services.get_or_init(|| {
            let labels = |service| Labels::own(self.ports(), service, client.secured.tls());
            let http = |service| Rc::new(HttpSeries::new(&self.metrics.http, labels(service)));
            match self.config.as_ref().map_or(&[][..], |config| &config.services) {
                [] => vec![http(None)],
                known => known.iter().map(|known| http(Some(&known.service))).collect(),
            }
        })
    }

    /// The route that a request of `client`, one of this port's, takes, and the series of the Service that it is for: the
    /// one that its host names, or the oldest where it names none.
    pub(super) fn route<'s, B>(
        &'s self,
        client: &'s ClientSeries,
        request: &Request<B>,
    ) -> (&'s Rc<RouteSeries>, &'s Rc<HttpSeries>) {
        let place = headers::host(request).and_then(|host| self.services.get(&*host).copied()).unwrap_or(0);
        let service = self.config.as_ref().and_then(|config| config.services.get(place));
        let routes = service.map_or(&[][..], |service| &service.routes);
        let route = route_index(routes, request.method(), request.uri().path());
        (&self.routes[place][route], &self.series(client)[place])
    }
}

impl Secured {
    /// How `client` is secured. One that has proved nothing speaks plaintext where its requests can be read.
    pub(super) fn of(client: &Client) -> Self {
        match client {
            Client::Peer(peer) => Self::By(peer.id().clone()),
            Client::Unverified(_) => Self::Not(NoTls::NotFromRemote),
        }
    }

    fn tls(&self) -> Tls<'_> {
        match self {
            Self::By(id) => Tls::Peer(id),
            Self::Not(why) => Tls::None(*why),
        }
    }
}
