//! Where a Service's connections can go.

use crate::{
    endpoint_set::{Difference, EndpointSet},
    target::{address_from_wire, address_to_wire},
    wire::{self, WireError, each, required},
    workload::Workload,
};
use std::{net::SocketAddr, sync::Arc};

/// One address that serves a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The pod's address and target port.
    pub address: SocketAddr,
    /// Who runs there.
    pub workload: Workload,
    /// What serves its inbound connections.
    pub proxy: EndpointProxy,
}

/// What serves an endpoint's inbound connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointProxy {
    /// The application itself.
    None,
    /// A proxy that is to get plaintext, because policy says so.
    Plaintext,
    /// A proxy that takes mutual TLS, and proves to be the endpoint's workload.
    Mtls,
}

impl EndpointProxy {
    /// Whether there is a proxy.
    pub fn is_meshed(self) -> bool {
        self != Self::None
    }

    fn to_wire(self) -> wire::EndpointProxy {
        match self {
            Self::None => wire::EndpointProxy::None,
            Self::Plaintext => wire::EndpointProxy::Plaintext,
            Self::Mtls => wire::EndpointProxy::Mtls,
        }
    }

    fn from_wire(value: i32) -> Result<Self, WireError> {
        match wire::EndpointProxy::try_from(value) {
            Ok(wire::EndpointProxy::None) => Ok(Self::None),
            Ok(wire::EndpointProxy::Plaintext) => Ok(Self::Plaintext),
            Ok(wire::EndpointProxy::Mtls) => Ok(Self::Mtls),
            Ok(wire::EndpointProxy::Unspecified) | Err(_) => {
                Err(WireError::new("proxy", format!("must be none, plaintext or mTLS, was {value}")))
            }
        }
    }
}

impl Endpoint {
    /// Writes the endpoint as a message.
    pub fn to_wire(&self) -> wire::Endpoint {
        wire::Endpoint {
            address: Some(address_to_wire(self.address)),
            workload: Some(self.workload.to_wire()),
            proxy: self.proxy.to_wire().into(),
        }
    }

    /// Reads an endpoint.
    pub fn from_wire(message: wire::Endpoint) -> Result<Self, WireError> {
        let address = required("address", message.address)?;
        let workload = required("workload", message.workload)?;
        Ok(Self {
            address: address_from_wire(address).map_err(|e| e.within("address"))?,
            workload: Workload::from_wire(workload).map_err(|e| e.within("workload"))?,
            proxy: EndpointProxy::from_wire(message.proxy)?,
        })
    }
}

/// A change to a set of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// The whole set.
    Whole(Vec<Endpoint>),
    /// Remove, then add or replace.
    Change {
        /// Endpoints that are new, or differ from what was sent before under their address.
        add: Vec<Endpoint>,
        /// Addresses that are gone.
        remove: Vec<SocketAddr>,
    },
}

impl EndpointUpdate {
    /// What turns `old` into `new`.
    pub fn between(old: &EndpointSet, new: &EndpointSet) -> Self {
        let Difference { add, remove } = old.difference(new);
        Self::Change { add: add.into_iter().cloned().map(Arc::unwrap_or_clone).collect(), remove }
    }

    /// Carries the change out. What stays as it was stays the same.
    pub fn apply(self, endpoints: &mut EndpointSet) {
        match self {
            Self::Whole(all) => endpoints.replace(all),
            Self::Change { add, remove } => {
                for address in remove {
                    endpoints.remove(address);
                }
                for endpoint in add {
                    endpoints.insert(endpoint);
                }
            }
        }
    }

    /// Writes the change as a message.
    pub fn to_wire(&self) -> wire::Endpoints {
        let (whole, add, remove): (bool, _, &[SocketAddr]) = match self {
            Self::Whole(all) => (true, all, &[]),
            Self::Change { add, remove } => (false, add, remove),
        };
        wire::Endpoints {
            whole,
            add: add.iter().map(Endpoint::to_wire).collect(),
            remove: remove.iter().copied().map(address_to_wire).collect(),
        }
    }

    /// Reads a change.
    pub fn from_wire(message: wire::Endpoints) -> Result<Self, WireError> {
        let add = each("add", message.add, Endpoint::from_wire)?;
        let remove = each("remove", message.remove, address_from_wire)?;
        match (message.whole, remove.is_empty()) {
            (true, true) => Ok(Self::Whole(add)),
            (true, false) => Err(WireError::new("remove", "must be empty where the whole set is sent")),
            (false, _) => Ok(Self::Change { add, remove }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    fn endpoint(address: &str, pod: &str) -> Endpoint {
        Endpoint {
            address: address.parse().unwrap(),
            workload: Workload {
                namespace: "shop".into(),
                service_account: "web".into(),
                kind: WorkloadKind::Deployment,
                name: "web".into(),
                pod: pod.into(),
            },
            proxy: EndpointProxy::Mtls,
        }
    }

    fn set(endpoints: &[Endpoint]) -> EndpointSet {
        endpoints.iter().cloned().collect()
    }

    #[test]
    fn a_change_between_two_sets_turns_the_one_into_the_other_over_the_wire() {
        let old = set(&[endpoint("10.0.0.1:80", "a"), endpoint("10.0.0.2:80", "b"), endpoint("10.0.0.3:80", "c")]);
        let new = set(&[endpoint("10.0.0.2:80", "b2"), endpoint("10.0.0.3:80", "c"), endpoint("10.0.0.4:80", "d")]);
        let change = EndpointUpdate::between(&old, &new);
        let EndpointUpdate::Change { add, remove } = &change else { panic!("{change:?}") };
        assert_eq!((add.len(), remove.len()), (2, 1), "an endpoint that did not change is not sent");
        let mut held = old;
        EndpointUpdate::from_wire(change.to_wire()).unwrap().apply(&mut held);
        assert_eq!(held, new);
    }

    #[test]
    fn a_whole_set_replaces_what_was_held() {
        let mut held = set(&[endpoint("10.0.0.1:80", "a")]);
        EndpointUpdate::Whole(vec![endpoint("10.0.0.2:80", "b")]).apply(&mut held);
        assert_eq!(held, set(&[endpoint("10.0.0.2:80", "b")]));
    }

    #[test]
    fn an_endpoint_without_its_workload_is_refused_with_its_place() {
        let mut message = EndpointUpdate::Whole(vec![endpoint("10.0.0.1:80", "a")]).to_wire();
        message.add[0].workload = None;
        assert_eq!(EndpointUpdate::from_wire(message).unwrap_err().to_string(), "add[0].workload: is required");
    }
}
