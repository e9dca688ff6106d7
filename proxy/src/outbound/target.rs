//! One destination as one worker sees it: its plan, and its endpoints with their connections.

use super::{
    Worker,
    plan::Plan,
    security::{self, Decision},
};
use crate::{
    listen::service::ServerFirst,
    record::{
        labels::{Labels, Peer, Tls},
        request::HttpSeries,
        tcp::TcpSeries,
    },
    upstream::{
        Balancer, Candidate, Connections, Connector, Ewma, Handshakes, Security,
        directory::{Destination, Directory},
    },
};
use conduit_model::{Endpoint, Forward, Outbound, OutboundTlsMode};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};
use tokio::time::Instant;

/// A destination on one worker.
#[derive(Debug)]
pub(super) struct Target {
    destination: Arc<Destination>,
    directory: Arc<Directory>,
    handshakes: Rc<Handshakes>,
    pod_ips: Rc<[IpAddr]>,
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
            directory: worker.directory.clone(),
            handshakes: worker.handshakes.clone(),
            pod_ips: worker.pod_ips.clone(),
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

    /// The plan of the newest configuration. While all that it needs is not known, what holds for unknown destinations, and
    /// what it requires holds already.
    pub(super) fn plan(&self) -> Rc<Plan> {
        let newest = self.destination.peek_config();
        let mut held = self.plan.borrow_mut();
        match (&*newest, &*held) {
            (Some(newest), Some(plan)) if Arc::ptr_eq(newest, &plan.config) => plan.clone(),
            (Some(newest), _) if self.is_complete(newest) => self.replace(&mut held, newest.clone()),
            (newest, plan) => {
                let told = newest.as_ref().map(|newest| newest.tls.mode);
                let mode = told.unwrap_or_else(|| self.directory.unknown_destinations());
                match plan {
                    Some(plan) if plan.config.tls.mode == mode => plan.clone(),
                    Some(plan) if !plan.is_of_unknown() && mode != OutboundTlsMode::Require => plan.clone(),
                    Some(_) | None => self.replace(&mut held, Arc::new(Outbound::unknown(mode))),
                }
            }
        }
    }

    fn replace(&self, held: &mut Option<Rc<Plan>>, config: Arc<Outbound>) -> Rc<Plan> {
        if let Some(old) = held {
            self.forget_what_differs(&old.config, &config);
        }
        held.insert(Plan::new(config, &self.metrics)).clone()
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
        }
        // A connection that is secured otherwise than policy says now is not used again.
        let secured_otherwise = new.tls.mode != old.tls.mode;
        if new.service != old.service || secured_otherwise {
            self.balancer.borrow_mut().clear();
        }
        if (new.service != old.service || new.forward != old.forward || secured_otherwise)
            && let Some(direct) = self.direct.borrow_mut().take()
        {
            direct.connections.retire();
        }
    }

    /// One endpoint that was not `tried`, as the newest configuration has them: what a request began with long ago must not
    /// decide how those that come after it are secured.
    pub(super) fn pick(&self, tried: &[SocketAddr], now: Instant) -> Option<Rc<Candidate>> {
        let plan = self.plan();
        match &plan.config.forward {
            Forward::Balance => {
                let mut balancer = self.balancer.borrow_mut();
                if let Some(endpoints) = &*self.destination.peek_endpoints() {
                    balancer.apply(endpoints);
                }
                balancer.pick(tried, now, |endpoint, load| {
                    self.candidate(&plan.config, endpoint.address, Some(endpoint), load)
                })
            }
            Forward::Direct { endpoint, .. } => {
                let direct = || {
                    let load = Ewma::among(std::iter::empty(), now);
                    self.candidate(&plan.config, self.address(), endpoint.as_ref(), load)
                };
                tried.is_empty().then(|| self.direct.borrow_mut().get_or_insert_with(direct).clone())
            }
        }
    }

    fn candidate(
        &self,
        config: &Outbound,
        address: SocketAddr,
        endpoint: Option<&Endpoint>,
        load: Ewma,
    ) -> Rc<Candidate> {
        let peer;
        let (security, tls) = match security::decide(config, endpoint, address.ip(), &self.pod_ips) {
            Decision::Mtls(endpoint) => {
                peer = self.handshakes.identity().trust_domain().identity_of(&endpoint.workload);
                (Security::Mtls(self.handshakes.clone(), peer.clone()), Tls::Peer(&peer))
            }
            Decision::Plaintext(reason) => (Security::Plaintext, Tls::None(reason)),
            Decision::Refused(reason) => (Security::Refused, Tls::None(reason)),
        };
        let workload = endpoint.map(|endpoint| &endpoint.workload);
        let mut groups = self.groups.borrow_mut();
        let labels = Labels::endpoint(config.service.as_ref(), workload, tls);
        let group = groups.entry(labels).or_insert_with_key(|labels| Group {
            http: Rc::new(HttpSeries::new(&self.metrics.http, labels.clone())),
            tcp: TcpSeries::new(&self.metrics, Peer::Destination, labels),
        });
        let connections = Connections::secured(address, self.connector, group.tcp.clone(), security);
        Candidate::new(connections, group.http.clone(), load)
    }
}
