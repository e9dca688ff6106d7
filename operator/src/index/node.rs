//! What is kept of a Node: from where on it the kubelet's probes come, and which addresses its pods have.
//!
//! A node's object changes every few seconds, with nothing in it that is kept here: then nothing is compiled again.

use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A Node, as far as compilation asks about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its own addresses, and the first ones of its pods' ranges, which network plug-ins with a bridge give to that.
    pub addresses: BTreeSet<IpAddr>,
    /// Its pods' addresses, as far as the network plug-in takes them from there; none where it has ranges of its own.
    pub pod_ranges: BTreeSet<IpNet>,
}

impl Node {
    /// Keeps what is needed of a Node.
    pub fn from_object(node: &v1::Node) -> Self {
        let own = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let own = own.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"));
        let own = own.filter_map(|address| address.address.parse().ok());
        let ranges = node.spec.iter().flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
        let pod_ranges: BTreeSet<IpNet> = ranges.filter_map(|range| range.parse().ok()).collect();
        let gateways = pod_ranges.iter().filter_map(|range| gateway(*range));
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            addresses: own.chain(gateways).collect(),
            pod_ranges,
        }
    }
}

/// The address after a range's own.
fn gateway(range: IpNet) -> Option<IpAddr> {
    let next: IpAddr = match range.network() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits().checked_add(1)?).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits().checked_add(1)?).into(),
    };
    range.contains(&next).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_come_from_a_nodes_addresses_and_the_bridges_of_its_pods() {
        let node = |ranges: serde_json::Value| {
            let node = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "one"},
                "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ranges},
                "status": {"addresses": [
                    {"type": "Hostname", "address": "192.0.2.9"},
                    {"type": "InternalIP", "address": "192.0.2.1"},
                    {"type": "ExternalIP", "address": "2001:db8::1"},
                ]},
            }));
            Node::from_object(&node.unwrap()).addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let expected = ["10.244.1.1", "192.0.2.1", "2001:db8::1", "fd00:1::1"];
        assert_eq!(node(serde_json::json!(["10.244.1.0/24", "fd00:1::/64"])), expected);
        assert_eq!(node(serde_json::json!(["nonsense", "10.9.9.9/32"])), ["10.244.1.1", "192.0.2.1", "2001:db8::1"]);
    }
}
