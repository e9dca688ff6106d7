//! What a proxy does with connections to one destination.

use crate::{
    endpoint::Endpoint,
    mtls::{OutboundTls, OutboundTlsMode},
    protocol::Protocol,
    route::Route,
    wire::{self, WireError, each, required},
};
use std::fmt;

/// The configuration of one outbound destination, without its endpoints, which change at their own pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// What the destination declares to speak.
    pub protocol: Protocol,
    /// The Service that the destination is, if it is one.
    pub service: Option<ServicePort>,
    /// Ordered: the first whose condition matches is taken.
    pub routes: Vec<Route>,
    /// Where connections go.
    pub forward: Forward,
    /// Whether they are encrypted.
    pub tls: OutboundTls,
}

/// Where connections to a destination go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// To one of the destination's endpoints.
    Balance,
    /// To the original destination, as if there were no proxy.
    Direct {
        /// Why nothing is balanced.
        reason: DirectReason,
        /// The pod at the address, if there is one.
        endpoint: Option<Endpoint>,
    },
}

/// Why connections to a destination are not balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectReason {
    /// No Service and no pod has this address: outside the cluster, a host's network.
    UnknownAddress,
    /// A pod's own address.
    Pod,
    /// A Service with semantics that kube-proxy has and a balancer in the client's pod cannot keep, such as
    /// `sessionAffinity: ClientIP`.
    LeftToKubeProxy,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// The Service's port, not the endpoints'.
    pub port: u16,
    /// `<name>.<namespace>.svc.<cluster domain>`.
    pub fqdn: String,
}

/// `<fqdn>:<port>`, the value of the metric label `dst`.
impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.fqdn, self.port)
    }
}

impl ServicePort {
    /// Writes the port as a message.
    pub fn to_wire(&self) -> wire::ServicePort {
        wire::ServicePort {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port.into(),
            fqdn: self.fqdn.clone(),
        }
    }

    /// Reads a port.
    pub fn from_wire(message: wire::ServicePort) -> Result<Self, WireError> {
        Ok(Self {
            port: wire::port("port", message.port)?,
            namespace: message.namespace,
            name: message.name,
            fqdn: message.fqdn,
        })
    }
}

impl Forward {
    fn to_wire(&self) -> wire::outbound::Forward {
        match self {
            Self::Balance => wire::outbound::Forward::Balance(wire::Balance {}),
            Self::Direct { reason, endpoint } => wire::outbound::Forward::Direct(wire::Direct {
                reason: match reason {
                    DirectReason::UnknownAddress => wire::DirectReason::UnknownAddress,
                    DirectReason::Pod => wire::DirectReason::Pod,
                    DirectReason::LeftToKubeProxy => wire::DirectReason::LeftToKubeProxy,
                }
                .into(),
                endpoint: endpoint.as_ref().map(Endpoint::to_wire),
            }),
        }
    }

    fn from_wire(message: wire::outbound::Forward) -> Result<Self, WireError> {
        Ok(match message {
            wire::outbound::Forward::Balance(_) => Self::Balance,
            wire::outbound::Forward::Direct(direct) => Self::Direct {
                reason: match wire::DirectReason::try_from(direct.reason) {
                    Ok(wire::DirectReason::UnknownAddress) => DirectReason::UnknownAddress,
                    Ok(wire::DirectReason::Pod) => DirectReason::Pod,
                    Ok(wire::DirectReason::LeftToKubeProxy) => DirectReason::LeftToKubeProxy,
                    Ok(wire::DirectReason::Unspecified) | Err(_) => {
                        let found = direct.reason;
                        return Err(WireError::new("direct.reason", format!("must be a reason, was {found}")));
                    }
                },
                endpoint: direct
                    .endpoint
                    .map(Endpoint::from_wire)
                    .transpose()
                    .map_err(|e| e.within("direct.endpoint"))?,
            },
        })
    }
}

impl Outbound {
    /// What a proxy does with an address of which it was told nothing: bytes pass through to where they were going, if
    /// `tls` lets what cannot be authenticated pass.
    pub fn unknown(tls: OutboundTlsMode) -> Self {
        Self {
            protocol: Protocol::Opaque,
            service: None,
            routes: Vec::new(),
            forward: Forward::Direct { reason: DirectReason::UnknownAddress, endpoint: None },
            tls: OutboundTls { mode: tls, source: None },
        }
    }

    /// Writes the configuration as a message.
    pub fn to_wire(&self) -> wire::Outbound {
        wire::Outbound {
            protocol: self.protocol.to_wire().into(),
            service: self.service.as_ref().map(ServicePort::to_wire),
            routes: self.routes.iter().map(Route::to_wire).collect(),
            forward: Some(self.forward.to_wire()),
            tls: Some(self.tls.to_wire()),
        }
    }

    /// Reads a configuration.
    pub fn from_wire(message: wire::Outbound) -> Result<Self, WireError> {
        Ok(Self {
            protocol: Protocol::from_wire("protocol", message.protocol)?,
            service: message.service.map(ServicePort::from_wire).transpose().map_err(|e| e.within("service"))?,
            routes: each("routes", message.routes, Route::from_wire)?,
            forward: Forward::from_wire(required("forward", message.forward)?)?,
            tls: OutboundTls::from_wire("tls", message.tls)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_the_wire() {
        let service = ServicePort {
            namespace: "shop".into(),
            name: "web".into(),
            port: 80,
            fqdn: "web.shop.svc.cluster.local".into(),
        };
        let balanced = Outbound {
            protocol: Protocol::Http1,
            service: Some(service),
            routes: Vec::new(),
            forward: Forward::Balance,
            tls: OutboundTls::DEFAULT,
        };
        for outbound in [balanced, Outbound::unknown(OutboundTlsMode::Require)] {
            assert_eq!(Outbound::from_wire(outbound.to_wire()), Ok(outbound));
        }
    }

    #[test]
    fn a_protocol_of_a_later_version_is_refused_with_its_field() {
        let mut message = Outbound::unknown(OutboundTlsMode::Prefer).to_wire();
        message.protocol = 99;
        assert_eq!(Outbound::from_wire(message).unwrap_err().to_string(), "protocol: must be a protocol, was 99");
    }
}
