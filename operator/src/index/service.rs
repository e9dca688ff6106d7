//! What is kept of a Service.

use super::{
    name::ObjectName,
    ports::{AnnotatedPorts, PortSet},
};
use conduit_model::Protocol;
use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};
use std::{collections::BTreeMap, net::IpAddr};

/// A Service, as far as compilation asks about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Tells it from an earlier Service of the same name; manifests may leave it out.
    pub uid: String,
    /// When it was created, in seconds since the epoch; the oldest of several comes first.
    pub created: i64,
    /// Its virtual addresses, of one or both families; none for headless Services and ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Labels of the pods behind it; none or empty where something else fills its endpoints.
    pub selector: BTreeMap<String, String>,
    /// Its TCP ports.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy: Local`.
    pub local_traffic_only: bool,
    /// `sessionAffinity: ClientIP`.
    pub client_ip_affinity: bool,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Ports of the Service that are opaque.
    pub opaque_ports: AnnotatedPorts,
}

/// A TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the Service has one port without a name.
    pub name: String,
    /// The Service's own port.
    pub port: u16,
    /// The pods' port.
    pub target: TargetPort,
    /// What its `appProtocol` says.
    pub app_protocol: Option<AppProtocol>,
}

/// A value of `appProtocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppProtocol {
    /// It is understood.
    Known(Protocol),
    /// It means nothing here, such as another vendor's.
    Unknown(String),
}

/// Every value of `appProtocol` that is understood: Kubernetes' own (KEP-3726) and IANA's names that matter here.
pub const APP_PROTOCOLS: [(&str, Protocol); 8] = [
    ("http", Protocol::Http1),
    ("kubernetes.io/h2c", Protocol::Http2),
    ("kubernetes.io/ws", Protocol::Http1),
    ("kubernetes.io/wss", Protocol::Tls),
    ("https", Protocol::Tls),
    ("grpc", Protocol::Grpc),
    ("tcp", Protocol::Opaque),
    ("tls", Protocol::Tls),
];

/// The pods' port that a Service's port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// The same on every pod.
    Number(u16),
    /// The container port of this name, which may differ between pods.
    Name(String),
}

impl Service {
    /// Keeps what is needed of a Service. Ports that are not TCP are not Conduit's.
    pub fn from_object(service: &v1::Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        let ips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        let ports = spec.ports.unwrap_or_default();
        Self {
            name: ObjectName::new(
                service.metadata.namespace.clone().unwrap_or_default(),
                service.metadata.name.clone().unwrap_or_default(),
            ),
            uid: service.metadata.uid.clone().unwrap_or_default(),
            created: super::created(&service.metadata),
            // "None" of a headless Service is no address.
            cluster_ips: ips.iter().filter(|_| !external).filter_map(|ip| ip.parse().ok()).collect(),
            selector: spec.selector.filter(|_| !external).unwrap_or_default(),
            ports: ports.into_iter().filter_map(ServicePort::from_object).collect(),
            local_traffic_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
            client_ip_affinity: spec.session_affinity.as_deref() == Some("ClientIP"),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            opaque_ports: PortSet::opaque(service.metadata.annotations.as_ref()),
        }
    }

    /// The port with this number.
    pub fn port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|known| known.port == port)
    }

    /// Whether a pod of the same namespace with these labels is behind the Service.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.selector.is_empty() && self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl AppProtocol {
    /// Reads a value.
    pub fn parse(value: String) -> Self {
        match APP_PROTOCOLS.into_iter().find(|(name, _)| *name == value) {
            Some((_, protocol)) => Self::Known(protocol),
            None => Self::Unknown(value),
        }
    }
}

impl ServicePort {
    fn from_object(port: v1::ServicePort) -> Option<Self> {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            return None;
        }
        let number = u16::try_from(port.port).ok()?;
        Some(Self {
            name: port.name.unwrap_or_default(),
            port: number,
            target: match port.target_port {
                None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
                Some(IntOrString::Int(target)) => TargetPort::Number(u16::try_from(target).ok()?),
                Some(IntOrString::String(name)) => TargetPort::Name(name),
            },
            app_protocol: port.app_protocol.map(AppProtocol::parse),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_application_protocols_are_understood_and_other_vendors_are_not() {
        for (declared, expected) in [
            ("http", Some(Protocol::Http1)),
            ("kubernetes.io/h2c", Some(Protocol::Http2)),
            ("kubernetes.io/ws", Some(Protocol::Http1)),
            ("kubernetes.io/wss", Some(Protocol::Tls)),
            ("https", Some(Protocol::Tls)),
            ("grpc", Some(Protocol::Grpc)),
            ("tcp", Some(Protocol::Opaque)),
            ("tls", Some(Protocol::Tls)),
            ("linkerd.io/tcp", None),
            ("HTTP", None),
        ] {
            let expected = expected.map_or_else(|| AppProtocol::Unknown(declared.into()), AppProtocol::Known);
            assert_eq!(AppProtocol::parse(declared.into()), expected);
        }
    }
}
