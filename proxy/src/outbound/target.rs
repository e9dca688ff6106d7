//! One destination as one worker sees it: its plan, and its endpoints with their connections.

use super::{Worker, plan::Plan};
use crate::{
    listen::service::ServerFirst,
    record::{
        labels::{Labels, Peer},
        request::HttpSeries,
        tcp::TcpSeries,
    },
    upstream::{Balancer, Candidate, Connections, Connector, Ewma, directory::Destination},
};
use conduit_model::{Forward, Outbound, OutboundTlsMode};
use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// A destination on one worker.
#[derive(Debug)]
pub(super) struct Target {
    destination: Arc<Destination>,
    metrics: Arc<crate::record::Metrics>,
    connector: Connector,
    plan: RefCell<Option<Rc<Plan>>>,
    balancer: RefCell<Balancer>,
    /// Where connections go that are not balanced: the destination's own address.
    direct: RefCell<Option<Rc<Candidate>>>,
    groups: RefCell<BTreeMap<Labels, Group>>,
    server_first: ServerFirst,
}

/// The series of endpoints that metrics do not tell apart.
#[derive(Clone, Debug)]
struct Group {
    http: Rc<HttpSeries>,
    tcp: Arc<TcpSeries>,
}

impl Target {
    pub(super) fn new(worker: &Worker, destination: &Arc<Destination>) -> Rc<Self> {
        Rc::new(Self {
            destination: destination.clone(),
            metrics: worker.metrics.clone(),
            connector: worker.connector,
            plan: RefCell::default(),
            balancer: RefCell::default(),
            direct: RefCell::default(),
            groups: RefCell::default(),
            server_first: ServerFirst::default(),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.destination.address()
    }

    pub(super) fn is_of(&self, destination: &Arc<Destination>) -> bool {
        Arc::ptr_eq(&self.destination, destination)
    }

    /// Whether the directory has let go of the destination.
    pub(super) fn is_gone(&self) -> bool {
        self.destination.is_removed()
    }

    pub(super) fn server_first(&self) -> &ServerFirst {
        &self.server_first
    }

    /// The plan of the newest configuration. While all that it needs is not known, connections pass through.
    pub(super) fn plan(&self) -> Rc<Plan> {
        let newest = self.destination.peek_config();
        let mut held = self.plan.borrow_mut();
        match (&*newest, &*held) {
            (Some(newest), Some(plan)) if Arc::ptr_eq(newest, &plan.config) => plan.clone(),
            (Some(newest), old) if self.is_complete(newest) => {
                if let Some(old) = old {
                    self.forget_what_differs(&old.config, newest);
                }
                held.insert(Plan::new(newest.clone(), &self.metrics)).clone()
            }
            (_, Some(plan)) => plan.clone(),
            (_, None) => {
                held.insert(Plan::new(Arc::new(Outbound::unknown(OutboundTlsMode::Prefer)), &self.metrics)).clone()
            }
        }
    }

    /// Whether all that `config` needs is known.
    fn is_complete(&self, config: &Outbound) -> bool {
        config.forward != Forward::Balance || self.destination.peek_endpoints().is_some()
    }

    /// Lets go of what was made from `old` and is not right for `new`.
    fn forget_what_differs(&self, old: &Outbound, new: &Outbound) {
        if new.service != old.service {
            // Whoever counts there is another now.
            self.groups.borrow_mut().clear();
            *self.balancer.borrow_mut() = Balancer::default();
        }
        if new.service != old.service || new.forward != old.forward {
            *self.direct.borrow_mut() = None;
        }
    }

    /// One endpoint that was not `tried`.
    pub(super) fn pick(&self, plan: &Plan, tried: &[SocketAddr], now: Instant) -> Option<Rc<Candidate>> {
        match &plan.config.forward {
            Forward::Balance => {
                let mut balancer = self.balancer.borrow_mut();
                if let Some(endpoints) = &*self.destination.peek_endpoints() {
                    balancer.apply(endpoints, now, |endpoint, load| {
                        let labels = Labels::endpoint(plan.config.service.as_ref(), Some(&endpoint.workload));
                        self.candidate(endpoint.address, endpoint.proxy.is_meshed(), labels, load)
                    });
                }
                balancer.pick(tried, now)
            }
            Forward::Direct { endpoint, .. } => {
                let direct = || {
                    let workload = endpoint.as_ref().map(|endpoint| &endpoint.workload);
                    let labels = Labels::endpoint(plan.config.service.as_ref(), workload);
                    let meshed = endpoint.as_ref().is_some_and(|endpoint| endpoint.proxy.is_meshed());
                    self.candidate(self.address(), meshed, labels, Ewma::among(std::iter::empty(), now))
                };
                tried.is_empty().then(|| self.direct.borrow_mut().get_or_insert_with(direct).clone())
            }
        }
    }

    fn candidate(&self, address: SocketAddr, meshed: bool, labels: Labels, load: Ewma) -> Rc<Candidate> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(labels).or_insert_with_key(|labels| Group {
            http: Rc::new(HttpSeries::new(&self.metrics.http, labels.clone())),
            tcp: TcpSeries::new(&self.metrics, Peer::Destination, labels),
        });
        let connections = Connections::new(address, self.connector, group.tcp.clone());
        Candidate::new(connections, group.http.clone(), meshed, load)
    }
}
