//! What the connections of one worker share: the ports as the newest configuration has them, and the application at each
//! of the pod's addresses.

use super::{application::Application, handshake::Handshakes, port::Port};
use crate::{
    identity::Identity,
    listen::drain::Drain,
    outcome::Reports,
    record::Metrics,
    upstream::{Connector, own::Own},
};
use conduit_model::{Inbound, PortRange};
use std::{
    cell::RefCell,
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;

/// One worker's side of the pod.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) handshakes: Handshakes,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) terminating: watch::Receiver<bool>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain: Drain,
    pub(super) detect_timeout: Duration,
    pub(super) connector: Connector,
    pub(super) reports: Reports,
    own: Arc<Own>,
    known: RefCell<Known>,
    applications: RefCell<HashMap<SocketAddr, Kept>>,
}

/// The ports as the newest configuration has them.
#[derive(Debug, Default)]
struct Known {
    config: Option<Arc<Inbound>>,
    ports: HashMap<PortRange, Rc<Port>>,
    /// Stands for every port that the configuration does not have.
    other: Option<Rc<Port>>,
}

/// How an application is kept for the next connection to it.
#[derive(Debug)]
enum Kept {
    /// Its port is in the configuration, which has a bound.
    Known(Rc<Application>),
    /// Any other port: only while a connection uses it, for whoever scans ports must not fill the proxy's memory.
    Other(Weak<Application>),
}

impl Kept {
    fn application(&self) -> Option<Rc<Application>> {
        match self {
            Self::Known(application) => Some(application.clone()),
            Self::Other(application) => application.upgrade(),
        }
    }
}

impl Worker {
    pub(super) fn new(
        own: Arc<Own>,
        identity: Arc<Identity>,
        gateways: Vec<IpAddr>,
        metrics: Arc<Metrics>,
        drain: Drain,
        detect_timeout: Duration,
        connector: Connector,
    ) -> Rc<Self> {
        Rc::new(Self {
            handshakes: Handshakes::new(identity, metrics.clone()),
            gateways,
            terminating: own.terminating(),
            metrics,
            drain,
            detect_timeout,
            connector,
            reports: Reports::new(),
            own,
            known: RefCell::default(),
            applications: RefCell::default(),
        })
    }

    /// What is known of a port now.
    pub(super) fn port(&self, port: u16) -> Rc<Port> {
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
        let own = config.as_ref();
        match own.and_then(|own| Some((own, own.port(port)?))) {
            Some((own, config)) => ports.entry(config.ports).or_insert_with(|| Port::new(own, config, &self.metrics)),
            None => other.get_or_insert_with(|| Port::unknown(own, &self.metrics)),
        }
        .clone()
    }

    /// The application at an address of the pod as `port` has it now. One from before the configuration changed is counted
    /// under other labels: the connections that use it keep it, and what it has idle is closed in time.
    pub(super) fn application(&self, address: SocketAddr, port: &Port) -> Rc<Application> {
        let mut applications = self.applications.borrow_mut();
        if let Some(kept) = applications.get(&address).and_then(Kept::application)
            && Arc::ptr_eq(kept.series(), &port.opened)
        {
            return kept;
        }
        if applications.len() == applications.capacity() {
            // Rather than to grow, to let go of what nothing uses: of each entry once per time that it could have been added.
            applications.retain(|_, kept| kept.application().is_some());
        }
        let new = Application::new(address, self.connector, port.opened.clone());
        let kept = if port.is_known() { Kept::Known(new.clone()) } else { Kept::Other(Rc::downgrade(&new)) };
        applications.insert(address, kept);
        new
    }

    /// `pod/<namespace>/<name>`, empty until it is known. Asked for only where something failed.
    pub(super) fn object(&self) -> String {
        let config = self.own.peek();
        let pod = config.as_ref().map(|config| format!("pod/{}/{}", config.workload.namespace, config.workload.pod));
        pod.unwrap_or_default()
    }

    /// Whether what comes from `from` may be a probe of the kubelet.
    pub(super) fn may_be_probe(&self, from: IpAddr) -> bool {
        let told = |own: &Arc<Inbound>| own.may_be_probe(from, &self.gateways);
        self.own.peek().as_ref().map_or_else(|| self.gateways.contains(&from), told)
    }

    /// Who says that a client of `port` is not served: a policy, or else the pod.
    pub(super) fn refuser(&self, port: &Port) -> String {
        port.policy().map_or_else(|| self.object(), ToString::to_string)
    }

    pub(super) fn is_terminating(&self) -> bool {
        *self.terminating.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::drain;
    use conduit_model::{InboundMtls, InboundPort, Protocol, Workload, WorkloadKind};

    fn worker(own: &Arc<Own>) -> Rc<Worker> {
        let connector = Connector { connect_timeout: Duration::ZERO, idle_timeout: Duration::ZERO };
        let identity = Identity::new("cluster.local".parse().unwrap());
        let drain = drain::channel().1;
        Worker::new(own.clone(), identity, Vec::new(), Metrics::new(), drain, Duration::ZERO, connector)
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
            ports: (*port).into(),
            protocol: Protocol::Detect,
            services: Vec::new(),
            mtls: InboundMtls::DEFAULT,
            probes: Vec::new(),
        };
        Arc::new(Inbound { ports: ports.iter().map(port).collect(), ..Inbound::of(workload) })
    }

    fn at(worker: &Worker, port: u16) -> Rc<Application> {
        worker.application(SocketAddr::from(([10, 0, 0, 1], port)), &worker.port(port))
    }

    #[test]
    fn a_port_that_comes_into_the_configuration_is_counted_as_such_from_then_on() {
        let own = Own::new();
        let worker = worker(&own);
        let before = at(&worker, 8080);
        assert!(Rc::ptr_eq(&before, &at(&worker, 8080)), "connections at the same time share it");
        own.apply(configured(&[8080]));
        let after = at(&worker, 8080);
        assert!(Arc::ptr_eq(after.series(), &worker.port(8080).opened));
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
        assert!(worker.applications.borrow().capacity() < 100);
        assert!(known.upgrade().is_some());
    }

    #[test]
    fn nobody_without_an_identity_is_served_until_it_is_known_who_may_be() {
        let own = Own::new();
        let worker = worker(&own);
        let open = |port| worker.port(port).admission([10, 0, 0, 9].into(), &[]).admits_all();
        assert!(!open(8080));
        own.apply(configured(&[8080]));
        assert!(open(8080));
        assert!(open(9090), "a port that the configuration does not have is as the pod is");
    }
}
