//! What is kept of an EndpointSlice.

use super::name::ObjectName;
use k8s_openapi::api::discovery::v1;
use std::net::IpAddr;

/// Label of an EndpointSlice that names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Some of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its name.
    pub name: ObjectName,
    /// The Service whose endpoints it holds.
    pub service: ObjectName,
    /// The TCP ports that each of the endpoints serves.
    pub ports: Vec<SlicePort>,
    /// Addresses of the endpoints, all of one family.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A TCP port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the Service's port that leads here; empty where that has none.
    pub name: String,
    /// The endpoints' own port.
    pub port: u16,
}

/// One address of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Where it is.
    pub address: IpAddr,
    /// The pod that it is, if it is one.
    pub pod: Option<ObjectName>,
    /// May be sent new connections.
    pub ready: bool,
    /// Answers, whether or not it is about to stop.
    pub serving: bool,
    /// Is about to stop.
    pub terminating: bool,
}

impl Slice {
    /// Keeps what is needed of a slice; none where it belongs to no Service or holds no IP addresses.
    pub fn from_object(slice: &v1::EndpointSlice) -> Option<Self> {
        let metadata = &slice.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let service = metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
        if slice.address_type == "FQDN" {
            return None;
        }
        let ports = slice.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let ports = ports.filter_map(|port| {
            Some(SlicePort { name: port.name.clone().unwrap_or_default(), port: u16::try_from(port.port?).ok()? })
        });
        Some(Self {
            service: ObjectName::new(&namespace, service),
            ports: ports.collect(),
            endpoints: slice.endpoints.iter().filter_map(|e| SliceEndpoint::from_object(&namespace, e)).collect(),
            name: ObjectName::new(namespace, metadata.name.clone().unwrap_or_default()),
        })
    }

    /// Whether one of the endpoints is no pod, so that nothing is known of who answers there.
    pub fn has_foreign_endpoint(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.pod.is_none())
    }
}

impl SliceEndpoint {
    fn from_object(namespace: &str, endpoint: &v1::Endpoint) -> Option<Self> {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        let ready = conditions.ready.unwrap_or(true);
        Some(Self {
            // Consumers use the first address only, says the API.
            address: endpoint.addresses.first()?.parse().ok()?,
            pod: pod.and_then(|pod| {
                Some(ObjectName::new(pod.namespace.as_deref().unwrap_or(namespace), pod.name.as_deref()?))
            }),
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
        })
    }
}
