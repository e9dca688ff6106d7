//! A destination's configuration with what requests need of it looked up in advance.

use crate::record::{
    Metrics,
    labels::{Direction, Labels, NoTls, Peer, Tls},
    request::{RouteSeries, route_index},
    tcp::TcpSeries,
};
use conduit_model::Outbound;
use http::Request;
use std::{rc::Rc, sync::Arc};

/// What to do with the connections and requests to one destination, until its configuration changes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Arc<Outbound>,
    /// Counts connections from clients.
    pub(super) accepted: Arc<TcpSeries>,
    /// `service/<namespace>/<name>`, empty where there is no Service.
    pub(super) object: String,
    /// As [`RouteSeries::all`] orders them.
    routes: Vec<Rc<RouteSeries>>,
}

impl Plan {
    pub(super) fn new(config: Arc<Outbound>, metrics: &Arc<Metrics>) -> Rc<Self> {
        let service = config.service.as_ref();
        let labels = |route: Option<&str>| Labels::route(Direction::Outbound, service, route);
        Rc::new(Self {
            accepted: TcpSeries::new(
                metrics,
                Peer::Source,
                &Labels::endpoint(service, None, Tls::None(NoTls::Loopback)),
            ),
            object: service.map(|s| format!("service/{}/{}", s.namespace, s.name)).unwrap_or_default(),
            routes: RouteSeries::all(&metrics.route, &config.routes, labels),
            config,
        })
    }

    /// Whether nothing is known of the destination.
    pub(super) fn is_of_unknown(&self) -> bool {
        *self.config == Outbound::unknown(self.config.tls.mode)
    }

    /// The route that `request` takes.
    pub(super) fn route<B>(&self, request: &Request<B>) -> &Rc<RouteSeries> {
        &self.routes[route_index(&self.config.routes, request.method(), request.uri().path())]
    }
}
