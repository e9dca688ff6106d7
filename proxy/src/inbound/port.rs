//! A port of the pod with what requests need of it looked up in advance.

use crate::{
    http::headers,
    record::{
        Metrics,
        labels::{Direction, Labels, NoTls, Peer, Tls},
        request::{HttpSeries, RouteSeries, route_index},
        tcp::TcpSeries,
    },
};
use conduit_model::{InboundPort, Protocol, Route, ServicePort};
use http::Request;
use std::{rc::Rc, sync::Arc};

/// What to do with the connections and requests to one port, until the configuration changes.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    /// Counts connections from clients.
    pub(super) accepted: Arc<TcpSeries>,
    /// Counts connections to the application.
    pub(super) opened: Arc<TcpSeries>,
    config: Option<InboundPort>,
    /// In the order of the configuration's; where that has none, one that stands for none.
    services: Vec<Service>,
}

/// A Service by which clients reach the port.
#[derive(Debug)]
struct Service {
    http: Rc<HttpSeries>,
    /// As [`RouteSeries::all`] orders them.
    routes: Vec<Rc<RouteSeries>>,
}

impl Port {
    /// A port that the operator knows.
    pub(super) fn new(config: &InboundPort, metrics: &Arc<Metrics>) -> Rc<Self> {
        Self::of(Some(config.clone()), config.protocol, metrics)
    }

    /// Any other port: its protocol is detected, and its number is no label, for it comes from traffic.
    pub(super) fn unknown(metrics: &Arc<Metrics>) -> Rc<Self> {
        Self::of(None, Protocol::Detect, metrics)
    }

    fn of(config: Option<InboundPort>, protocol: Protocol, metrics: &Arc<Metrics>) -> Rc<Self> {
        let number = config.as_ref().map(|config| config.port);
        let plain = Tls::None(NoTls::NotFromRemote);
        let labels = Labels::own(number, None, plain);
        let service = |service: Option<&ServicePort>, routes: &[Route]| Service {
            http: Rc::new(HttpSeries::new(&metrics.http, Labels::own(number, service, plain))),
            routes: RouteSeries::all(&metrics.route, routes, |route| Labels::route(Direction::Inbound, service, route)),
        };
        let known = config.as_ref().map_or(&[][..], |config| &config.services);
        let services = match known {
            [] => vec![service(None, &[])],
            known => known.iter().map(|known| service(Some(&known.service), &known.routes)).collect(),
        };
        Rc::new(Self {
            protocol,
            accepted: TcpSeries::new(metrics, Peer::Source, &labels),
            opened: TcpSeries::new(metrics, Peer::Destination, &labels),
            services,
            config,
        })
    }

    /// Whether the configuration has it.
    pub(super) fn is_known(&self) -> bool {
        self.config.is_some()
    }

    /// The route that `request` takes, and the series of the Service that it is for.
    pub(super) fn route<B>(&self, request: &Request<B>) -> (&Rc<RouteSeries>, &Rc<HttpSeries>) {
        let meant = self.config.as_ref().and_then(|config| config.service(headers::host(request).as_deref()));
        let known = self.config.as_ref().map_or(&[][..], |config| &config.services);
        let index = meant.and_then(|meant| known.iter().position(|known| std::ptr::eq(known, meant)));
        let service = &self.services[index.unwrap_or(0)];
        let routes = meant.map_or(&[][..], |meant| &meant.routes);
        (&service.routes[route_index(routes, request.method(), request.uri().path())], &service.http)
    }
}
