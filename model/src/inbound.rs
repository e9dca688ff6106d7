//! What a proxy does with connections to its own pod.

use crate::{
    mtls::{InboundMtls, OutboundTlsMode},
    outbound::ServicePort,
    port_range::PortRange,
    protocol::Protocol,
    route::Route,
    target::{ip_from_wire, ip_to_wire},
    wire::{self, WireError, each, required},
    workload::Workload,
};
use bytes::Bytes;
use std::{fmt, net::IpAddr};

/// The inbound configuration of one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Who the proxy runs beside.
    pub workload: Workload,
    /// What is known of the pod's ports, ordered by them, none twice; of a port that is not here, nothing is.
    pub ports: Vec<InboundPort>,
    /// The pod has been told to stop: serve on, and ask peers to go elsewhere.
    pub terminating: bool,
    /// What is taken on ports that are not here.
    pub mtls: InboundMtls,
    /// Where the kubelet's probes come from.
    pub probe_networks: Vec<Network>,
    /// The roots of the mesh, X.509 in DER; the one that signs now is the first.
    pub trust_bundle: Vec<Bytes>,
    /// What holds for destinations of which the proxy knows nothing.
    pub unknown_destinations: OutboundTlsMode,
}

/// What is known of one port of the pod, or of several that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// The container's ports.
    pub ports: PortRange,
    /// What it declares to speak.
    pub protocol: Protocol,
    /// The Services that select the pod and lead to this port, oldest first.
    pub services: Vec<InboundService>,
    /// What is taken on it.
    pub mtls: InboundMtls,
    /// The kubelet's probes of it.
    pub probes: Vec<Probe>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    ip: IpAddr,
    prefix_length: u8,
}

/// A probe of the kubelet, which has no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP or gRPC request with this path; its query does not count.
    Path(String),
    /// The application's own TLS, in which no path can be seen.
    Tls,
}

impl Network {
    /// The addresses that begin with the first `prefix_length` bits of `ip`; none where it has fewer bits.
    pub fn new(ip: IpAddr, prefix_length: u8) -> Option<Self> {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        (prefix_length <= bits).then_some(Self { ip, prefix_length })
    }

    /// Whether `ip` is one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shifted = |bits: u128, width: u32| bits.checked_shr(width - u32::from(self.prefix_length)).unwrap_or(0);
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => shifted(own.to_bits().into(), 32) == shifted(ip.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(ip)) => shifted(own.to_bits(), 128) == shifted(ip.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    fn to_wire(self) -> wire::Network {
        wire::Network { ip: ip_to_wire(self.ip), prefix_length: self.prefix_length.into() }
    }

    fn from_wire(message: wire::Network) -> Result<Self, WireError> {
        let ip = ip_from_wire("ip", &message.ip)?;
        let network = u8::try_from(message.prefix_length).ok().and_then(|length| Self::new(ip, length));
        network.ok_or_else(|| {
            let found = message.prefix_length;
            WireError::new("prefix_length", format!("must not be longer than the address, was {found}"))
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_length)
    }
}

impl Probe {
    fn to_wire(&self) -> wire::Probe {
        let probe = match self {
            Self::Path(path) => wire::probe::Probe::Path(path.clone()),
            Self::Tls => wire::probe::Probe::Tls(wire::TlsProbe {}),
        };
        wire::Probe { probe: Some(probe) }
    }

    fn from_wire(message: wire::Probe) -> Result<Self, WireError> {
        Ok(match required("probe", message.probe)? {
            wire::probe::Probe::Path(path) => Self::Path(path),
            wire::probe::Probe::Tls(_) => Self::Tls,
        })
    }
}

/// A Service by which clients reach a port of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundService {
    /// The Service's own port.
    pub service: ServicePort,
    /// The host names by which clients name the Service, lower case, without port. A request that names none of any
    /// Service's is for the first, which is the oldest.
    pub hosts: Vec<String>,
    /// Ordered: the first whose condition matches is taken.
    pub routes: Vec<Route>,
}

impl Inbound {
    /// What holds for a pod of which no more than this is known.
    pub fn of(workload: Workload) -> Self {
        Self {
            workload,
            ports: Vec::new(),
            terminating: false,
            mtls: InboundMtls::DEFAULT,
            probe_networks: Vec::new(),
            trust_bundle: Vec::new(),
            unknown_destinations: OutboundTlsMode::Prefer,
        }
    }

    /// What is known of `port`.
    pub fn port(&self, port: u16) -> Option<&InboundPort> {
        let index = self.ports.partition_point(|known| known.ports.last() < port);
        self.ports.get(index).filter(|known| known.ports.contains(port))
    }

    /// Writes the configuration as a message.
    pub fn to_wire(&self) -> wire::Inbound {
        wire::Inbound {
            workload: Some(self.workload.to_wire()),
            ports: self.ports.iter().map(InboundPort::to_wire).collect(),
            terminating: self.terminating,
            mtls: Some(self.mtls.to_wire()),
            probe_networks: self.probe_networks.iter().map(|network| network.to_wire()).collect(),
            trust_bundle: self.trust_bundle.iter().map(|root| root.to_vec()).collect(),
            unknown_destinations: self.unknown_destinations.to_wire().into(),
        }
    }

    /// Reads a configuration.
    pub fn from_wire(message: wire::Inbound) -> Result<Self, WireError> {
        Ok(Self {
            workload: Workload::from_wire(required("workload", message.workload)?).map_err(|e| e.within("workload"))?,
            ports: in_order(each("ports", message.ports, InboundPort::from_wire)?)?,
            terminating: message.terminating,
            mtls: InboundMtls::from_wire("mtls", message.mtls)?,
            probe_networks: each("probe_networks", message.probe_networks, Network::from_wire)?,
            trust_bundle: message.trust_bundle.into_iter().map(Bytes::from).collect(),
            unknown_destinations: OutboundTlsMode::from_wire("unknown_destinations", message.unknown_destinations)?,
        })
    }
}

impl InboundPort {
    fn to_wire(&self) -> wire::InboundPort {
        let (port, last) = self.ports.to_wire();
        wire::InboundPort {
            port,
            last,
            protocol: self.protocol.to_wire().into(),
            services: self.services.iter().map(InboundService::to_wire).collect(),
            mtls: Some(self.mtls.to_wire()),
            probes: self.probes.iter().map(Probe::to_wire).collect(),
        }
    }

    fn from_wire(message: wire::InboundPort) -> Result<Self, WireError> {
        Ok(Self {
            ports: PortRange::from_wire(message.port, message.last)?,
            protocol: Protocol::from_wire("protocol", message.protocol)?,
            services: each("services", message.services, InboundService::from_wire)?,
            mtls: InboundMtls::from_wire("mtls", message.mtls)?,
            probes: each("probes", message.probes, Probe::from_wire)?,
        })
    }
}

/// The ports as they came, if they are in order.
fn in_order(ports: Vec<InboundPort>) -> Result<Vec<InboundPort>, WireError> {
    match ports.windows(2).position(|pair| pair[0].ports.last() >= pair[1].ports.first()) {
        None => Ok(ports),
        Some(index) => {
            let (before, found) = (ports[index].ports, ports[index + 1].ports);
            let field = format!("ports[{}].port", index + 1);
            Err(WireError::new(field, format!("must be above the ports before it, {before}, was {found}")))
        }
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
    use crate::{mtls::InboundMtlsMode, route::ObjectRef, workload::WorkloadKind};

    fn policy() -> ObjectRef {
        ObjectRef { kind: "TrafficPolicy".into(), namespace: "shop".into(), name: "strict".into() }
    }

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
                ports: 8080.into(),
                protocol: Protocol::Detect,
                services: vec![service("old"), service("new")],
                mtls: InboundMtls { mode: InboundMtlsMode::Strict, source: Some(policy()) },
                probes: vec![Probe::Path("/ready".into()), Probe::Tls],
            }],
            terminating: true,
            mtls: InboundMtls::DEFAULT,
            probe_networks: vec![Network::new([10, 0, 0, 1].into(), 32).unwrap()],
            trust_bundle: vec![Bytes::from_static(b"a root")],
            unknown_destinations: OutboundTlsMode::Prefer,
        }
    }

    #[test]
    fn a_configuration_survives_the_wire() {
        assert_eq!(Inbound::from_wire(inbound().to_wire()), Ok(inbound()));
    }

    #[test]
    fn a_port_is_found_in_the_row_that_holds_it() {
        let port = |first, last| InboundPort {
            ports: PortRange::new(first, last).unwrap(),
            protocol: Protocol::Opaque,
            services: Vec::new(),
            mtls: InboundMtls::DEFAULT,
            probes: Vec::new(),
        };
        let inbound =
            Inbound { ports: vec![port(1, 79), port(80, 80), port(8000, 8010), port(9000, 65_535)], ..inbound() };
        for (number, expected) in [
            (1, Some("1-79")),
            (79, Some("1-79")),
            (80, Some("80")),
            (81, None),
            (7999, None),
            (8000, Some("8000-8010")),
            (8010, Some("8000-8010")),
            (8011, None),
            (65_535, Some("9000-65535")),
        ] {
            assert_eq!(inbound.port(number).map(|port| port.ports.to_string()).as_deref(), expected, "{number}");
        }
        assert_eq!(Inbound::from_wire(inbound.to_wire()), Ok(inbound));
    }

    #[test]
    fn ports_that_are_not_in_order_are_refused_with_their_place() {
        let mut message = inbound().to_wire();
        message.ports.push(message.ports[0].clone());
        let error = Inbound::from_wire(message).unwrap_err().to_string();
        assert_eq!(error, "ports[1].port: must be above the ports before it, 8080, was 8080");
    }

    #[test]
    fn a_network_holds_the_addresses_of_its_family_that_begin_as_it_does() {
        let network = |ip: &str, length| Network::new(ip.parse().unwrap(), length);
        for (net, ip, expected) in [
            (network("10.1.2.3", 16), "10.1.255.1", true),
            (network("10.1.2.3", 16), "10.2.0.1", false),
            (network("10.1.2.3", 32), "10.1.2.3", true),
            (network("10.1.2.3", 32), "10.1.2.2", false),
            (network("0.0.0.0", 0), "203.0.113.9", true),
            (network("0.0.0.0", 0), "::1", false),
            (network("::", 0), "2001:db8::1", true),
            (network("2001:db8::", 64), "2001:db8::9", true),
            (network("2001:db8::", 64), "2001:db8:0:1::9", false),
        ] {
            assert_eq!(net.unwrap().contains(ip.parse().unwrap()), expected, "{ip}");
        }
        assert_eq!((network("10.0.0.0", 33), network("::", 129)), (None, None));
        let mut message = inbound().to_wire();
        message.probe_networks[0].prefix_length = 33;
        let error = Inbound::from_wire(message).unwrap_err().to_string();
        assert_eq!(error, "probe_networks[0].prefix_length: must not be longer than the address, was 33");
    }
}
