//! What a proxy does with connections to its own pod.

use crate::{
    outbound::ServicePort,
    protocol::Protocol,
    route::Route,
    wire::{self, WireError, each, required},
    workload::Workload,
};

/// The inbound configuration of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Who the proxy runs beside.
    pub workload: Workload,
    /// What is known of the pod's ports, ordered by port; of a port that is not here, nothing is.
    pub ports: Vec<InboundPort>,
    /// The pod has been told to stop: serve on, and ask peers to go elsewhere.
    pub terminating: bool,
}

/// What is known of one port of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The container's port.
    pub port: u16,
    /// What it declares to speak.
    pub protocol: Protocol,
    /// The Services that select the pod and lead to this port, oldest first.
    pub services: Vec<InboundService>,
}

/// A Service by which clients reach a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundService {
    /// The Service's own port.
    pub service: ServicePort,
    /// The host names by which clients name the Service, lower case, without port.
    pub hosts: Vec<String>,
    /// Ordered: the first whose condition matches is taken.
    pub routes: Vec<Route>,
}

impl Inbound {
    /// What is known of `port`.
    pub fn port(&self, port: u16) -> Option<&InboundPort> {
        self.ports.iter().find(|known| known.port == port)
    }

    /// Writes the configuration as a message.
    pub fn to_wire(&self) -> wire::Inbound {
        wire::Inbound {
            workload: Some(self.workload.to_wire()),
            ports: self.ports.iter().map(InboundPort::to_wire).collect(),
            terminating: self.terminating,
        }
    }

    /// Reads a configuration.
    pub fn from_wire(message: wire::Inbound) -> Result<Self, WireError> {
        Ok(Self {
            workload: Workload::from_wire(required("workload", message.workload)?).map_err(|e| e.within("workload"))?,
            ports: each("ports", message.ports, InboundPort::from_wire)?,
            terminating: message.terminating,
        })
    }
}

impl InboundPort {
    /// The Service that a request with this host (lower case, without port) was meant for: the one with that name, or
    /// the oldest where the host names none.
    pub fn service(&self, host: Option<&str>) -> Option<&InboundService> {
        let named = |host| self.services.iter().find(|service| service.hosts.iter().any(|name| name == host));
        host.and_then(named).or(self.services.first())
    }

    fn to_wire(&self) -> wire::InboundPort {
        wire::InboundPort {
            port: self.port.into(),
            protocol: self.protocol.to_wire().into(),
            services: self.services.iter().map(InboundService::to_wire).collect(),
        }
    }

    fn from_wire(message: wire::InboundPort) -> Result<Self, WireError> {
        Ok(Self {
            port: wire::port("port", message.port)?,
            protocol: Protocol::from_wire("protocol", message.protocol)?,
            services: each("services", message.services, InboundService::from_wire)?,
        })
    }
}

impl InboundService {
    fn to_wire(&self) -> wire::InboundService {
        wire::InboundService {
            service: Some(self.service.to_wire()),
            hosts: self.hosts.clone(),
            routes: self.routes.iter().map(Route::to_wire).collect(),
        }
    }

    fn from_wire(message: wire::InboundService) -> Result<Self, WireError> {
        Ok(Self {
            service: ServicePort::from_wire(required("service", message.service)?).map_err(|e| e.within("service"))?,
            hosts: message.hosts,
            routes: each("routes", message.routes, Route::from_wire)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    fn service(name: &str) -> InboundService {
        let fqdn = format!("{name}.shop.svc.cluster.local");
        InboundService {
            hosts: vec![name.to_owned(), fqdn.clone()],
            service: ServicePort { namespace: "shop".into(), name: name.into(), port: 80, fqdn },
            routes: Vec::new(),
        }
    }

    fn inbound() -> Inbound {
        Inbound {
            workload: Workload {
                namespace: "shop".into(),
                service_account: "web".into(),
                kind: WorkloadKind::Deployment,
                name: "web".into(),
                pod: "web-1".into(),
            },
            ports: vec![InboundPort {
                port: 8080,
                protocol: Protocol::Detect,
                services: vec![service("old"), service("new")],
            }],
            terminating: true,
        }
    }

    #[test]
    fn a_configuration_survives_the_wire() {
        assert_eq!(Inbound::from_wire(inbound().to_wire()), Ok(inbound()));
    }

    #[test]
    fn a_request_belongs_to_the_service_that_its_host_names_or_to_the_oldest() {
        let inbound = inbound();
        let of = |host| inbound.port(8080).unwrap().service(host).map(|s| s.service.name.as_str());
        assert_eq!(of(Some("new.shop.svc.cluster.local")), Some("new"));
        assert_eq!(of(Some("10.0.0.1")), Some("old"));
        assert_eq!(of(None), Some("old"));
        assert!(inbound.port(9).is_none());
    }
}
