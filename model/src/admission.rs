//! Who is served on a port of a pod, by whether they have proved who they are: what `inbound.mtls.mode` means.
//!
//! A peer with a verified identity is served whatever the mode. This decides on the others: `STRICT` serves none of them
//! but the kubelet's probes, which have no identity, and can be told by where they come from and what they ask for.

use crate::{
    inbound::{Inbound, InboundPort, Probe},
    mtls::{InboundMtls, InboundMtlsMode},
};
use http::Method;
use std::net::IpAddr;

/// The path of gRPC's health checks, which kubelets probe with (the GRPC Health Checking Protocol).
pub const GRPC_HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a client without a verified identity is served on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<'a> {
    /// Whatever it asks for.
    Open,
    /// These probes; none where the slice is empty.
    Probes(&'a [Probe]),
}

impl Inbound {
    /// What is taken on `port`, one of these or none, and which policy says so.
    pub fn mtls<'i>(&'i self, port: Option<&'i InboundPort>) -> &'i InboundMtls {
        port.map_or(&self.mtls, |port| &port.mtls)
    }

    /// What a client at `from` without a verified identity is served on `port`, one of these or none. `gateways`: the pod's
    /// own default gateways, from which probes come on some networks.
    pub fn admission<'i>(&self, port: Option<&'i InboundPort>, from: IpAddr, gateways: &[IpAddr]) -> Admission<'i> {
        let mode = port.map_or(&self.mtls, |port| &port.mtls).mode;
        match mode {
            InboundMtlsMode::Permissive | InboundMtlsMode::Disable => Admission::Open,
            InboundMtlsMode::Strict => {
                let probes = port.map_or(&[][..], |port| &port.probes);
                Admission::Probes(if self.may_be_probe(from, gateways) { probes } else { &[] })
            }
        }
    }

    /// Whether what comes from `from` may be a probe of the kubelet. `gateways`: as for [`Inbound::admission`].
    pub fn may_be_probe(&self, from: IpAddr, gateways: &[IpAddr]) -> bool {
        gateways.contains(&from) || self.probe_networks.iter().any(|network| network.contains(from))
    }
}

impl Admission<'_> {
    /// What holds while nothing is known: nothing is served, for what secures a port is not known either.
    pub const NOTHING: Self = Self::Probes(&[]);

    /// Whether a request with this method and path (without query) is served. One that asks for its connection to become
    /// something else is no probe, and must not come here.
    pub fn admits(self, method: &Method, path: &str) -> bool {
        match self {
            Self::Open => true,
            Self::Probes(probes) => probes.iter().any(|probe| match probe {
                Probe::Path(probed) if probed == path => match path {
                    GRPC_HEALTH_CHECK => method == Method::POST,
                    _ => method == Method::GET || method == Method::HEAD,
                },
                Probe::Path(_) | Probe::Tls => false,
            }),
        }
    }

    /// Whether a connection by the application's own TLS is served, in which no request can be seen.
    pub fn admits_tls(self) -> bool {
        match self {
            Self::Open => true,
            Self::Probes(probes) => probes.contains(&Probe::Tls),
        }
    }

    /// Whether everything is served, so that nothing has to be looked at.
    pub fn admits_all(self) -> bool {
        self == Self::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inbound::InboundPort, inbound::Network, protocol::Protocol, workload::Workload, workload::WorkloadKind,
    };

    const NODE: &str = "192.168.0.7";
    const GATEWAY: &str = "10.244.0.1";
    const STRANGER: &str = "10.244.0.9";

    fn mtls(mode: InboundMtlsMode) -> InboundMtls {
        InboundMtls { mode, source: None }
    }

    /// A pod whose port 80 has the mode `port`, and all others `others`.
    fn inbound(port: InboundMtlsMode, others: InboundMtlsMode) -> Inbound {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        let ports = vec![InboundPort {
            ports: 80.into(),
            protocol: Protocol::Detect,
            services: Vec::new(),
            mtls: mtls(port),
            probes: vec![Probe::Path("/ready".into()), Probe::Path(GRPC_HEALTH_CHECK.into()), Probe::Tls],
        }];
        let probe_networks = vec![Network::new(NODE.parse().unwrap(), 32).unwrap()];
        Inbound { ports, mtls: mtls(others), probe_networks, ..Inbound::of(workload) }
    }

    #[test]
    fn where_policy_is_not_strict_everybody_is_served() {
        use InboundMtlsMode::{Disable, Permissive, Strict};
        let from = STRANGER.parse().unwrap();
        for (port, others, number, open) in [
            (Permissive, Strict, 80, true),
            (Disable, Strict, 80, true),
            (Strict, Permissive, 80, false),
            (Permissive, Strict, 81, false),
            (Strict, Permissive, 81, true),
            (Strict, Disable, 81, true),
        ] {
            let inbound = inbound(port, others);
            let admission = inbound.admission(inbound.port(number), from, &[]);
            assert_eq!(admission.admits_all(), open, "{port:?} {others:?} {number}");
            assert_eq!(admission.admits(&Method::DELETE, "/orders"), open);
            assert_eq!(admission.admits_tls(), open);
        }
    }

    #[test]
    fn strict_serves_a_probe_where_its_source_port_path_and_method_are_the_kubelets() {
        let inbound = inbound(InboundMtlsMode::Strict, InboundMtlsMode::Strict);
        let gateways = [GATEWAY.parse().unwrap()];
        for (from, port, method, path, expected) in [
            (NODE, 80, Method::GET, "/ready", true),
            (NODE, 80, Method::HEAD, "/ready", true),
            (GATEWAY, 80, Method::GET, "/ready", true),
            (NODE, 80, Method::POST, GRPC_HEALTH_CHECK, true),
            (NODE, 80, Method::GET, GRPC_HEALTH_CHECK, false),
            (NODE, 80, Method::POST, "/ready", false),
            (NODE, 80, Method::GET, "/ready/", false),
            (NODE, 80, Method::GET, "/READY", false),
            (NODE, 80, Method::GET, "/", false),
            (NODE, 81, Method::GET, "/ready", false),
            (STRANGER, 80, Method::GET, "/ready", false),
            (STRANGER, 80, Method::POST, GRPC_HEALTH_CHECK, false),
            ("::ffff:192.168.0.7", 80, Method::GET, "/ready", false),
        ] {
            let admission = inbound.admission(inbound.port(port), from.parse().unwrap(), &gateways);
            assert_eq!(admission.admits(&method, path), expected, "{from} {port} {method} {path}");
        }
    }

    #[test]
    fn strict_serves_the_applications_own_tls_only_to_a_probe_by_tls() {
        let inbound = inbound(InboundMtlsMode::Strict, InboundMtlsMode::Strict);
        for (from, port, expected) in [(NODE, 80, true), (NODE, 81, false), (STRANGER, 80, false)] {
            let admission = inbound.admission(inbound.port(port), from.parse().unwrap(), &[]);
            assert_eq!(admission.admits_tls(), expected, "{from} {port}");
        }
    }
}
