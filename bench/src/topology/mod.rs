//! Pods without a cluster: network namespaces, each wired to every other, and a node beside them. Must not know what a
//! proxy is.
//!
//! Each two are joined by a virtual cable of their own and a route to the other's address, so that no bridge adds its cost
//! to what is measured between them. The node's place is this network's first address; what serves all pods listens there.

mod inside;
mod namespace;
mod process;

pub(crate) use inside::{Inside, enter_and_run};
pub(crate) use namespace::Namespace;
pub(crate) use process::{Cpu, Process, Spawn};

use anyhow::{Context, Result};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// Subnet of the addresses of Services: routed, so that a connection to one can be made and redirected.
const SERVICES: &str = "10.96.0.0/16";

/// A name that resolves, and to what.
pub(crate) type Host = (String, IpAddr);

/// One pod, or the node.
#[derive(Debug)]
pub(crate) struct Pod {
    /// What it is called.
    pub(crate) name: String,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
    /// Where its processes run.
    pub(crate) namespace: Namespace,
}

/// Pods that reach each other, and the node that all of them reach.
#[derive(Debug)]
pub(crate) struct Network {
    /// The node.
    pub(crate) node: Pod,
    /// The pods, in the order in which they were named.
    pub(crate) pods: Vec<Pod>,
}

impl Network {
    /// Address of the node.
    pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

    /// Makes a node and a pod of each name, which resolve `hosts`. `folder` keeps their file of names.
    pub(crate) fn new(names: &[String], hosts: &[Host], folder: &Path) -> Result<Self> {
        let file = folder.join("hosts");
        let lines: String = hosts.iter().map(|(name, ip)| format!("{ip} {name}\n")).collect();
        fs::write(&file, format!("127.0.0.1 localhost\n{lines}")).context("cannot write the file of names")?;
        let node = Pod::new("node", Self::NODE, &file)?;
        let pods = names.iter().enumerate().map(|(index, name)| Pod::new(name, Self::address(index), &file));
        let network = Self { node, pods: pods.collect::<Result<_>>()? };
        network.wire()?;
        Ok(network)
    }

    /// Address of the pod at this place in the list; room is for 200.
    pub(crate) fn address(index: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 10 + u8::try_from(index).unwrap_or(u8::MAX - 10))
    }

    /// Further addresses of the pod at this place in the list, from 0; room is for 16,000, once [`Network::widen`] was called.
    pub(crate) fn further(index: usize, number: u16) -> Ipv4Addr {
        let [high, low] = (number + 1).to_be_bytes();
        Ipv4Addr::new(10, 100 + u8::try_from(index).unwrap_or(100), high, low)
    }

    /// Gives each pod its further addresses, without a device's list of them: all of a subnet.
    pub(crate) fn widen(&self) -> Result<()> {
        for (index, pod) in self.pods.iter().enumerate() {
            let [first, second, ..] = Self::further(index, 0).octets();
            let subnet = format!("{first}.{second}.0.0/16");
            pod.namespace.ip(&format!("route add local {subnet} dev lo"))?;
            for other in self.pods.iter().filter(|other| other.ip != pod.ip) {
                // By way of the pod's first address, so that one neighbour has to be known and not a thousand.
                let device = format!("to{}", index + 1);
                other
                    .namespace
                    .ip(&format!("route add {subnet} via {} dev {device} onlink src {}", pod.ip, other.ip))?;
            }
        }
        Ok(())
    }

    fn wire(&self) -> Result<()> {
        let all: Vec<&Pod> = std::iter::once(&self.node).chain(&self.pods).collect();
        for (index, one) in all.iter().enumerate() {
            for (other_index, other) in all.iter().enumerate().skip(index + 1) {
                let there = other.namespace.net();
                let (here, there_name) = (format!("to{other_index}"), format!("to{index}"));
                one.namespace
                    .ip(&format!("link add {here} type veth peer name {there_name} netns {}", there.display()))?;
                for (from, to, device) in [(one, other, &here), (other, one, &there_name)] {
                    // On each cable: a redirected connection goes to the address of where it came in.
                    from.namespace.ip(&format!("addr add {}/32 dev {device}", from.ip))?;
                    from.namespace.ip(&format!("link set {device} up"))?;
                    from.namespace.ip(&format!("route add {}/32 dev {device} src {}", to.ip, from.ip))?;
                }
            }
        }
        // Where an address of a Service leads does not matter: what is sent there is redirected before it leaves.
        for pod in &self.pods {
            pod.namespace.ip(&format!("route add {SERVICES} dev to0 src {}", pod.ip))?;
        }
        Ok(())
    }
}

impl Pod {
    fn new(name: &str, ip: Ipv4Addr, hosts: &Path) -> Result<Self> {
        let namespace = Namespace::new(hosts)?;
        // Loads open and close many connections between two addresses.
        namespace.sysctl("net.ipv4.ip_local_port_range", "16384 65535")?;
        namespace.sysctl("net.ipv4.tcp_tw_reuse", "1")?;
        Ok(Self { name: name.to_owned(), ip, namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{SocketAddr, TcpListener},
        time::Duration,
    };

    #[test]
    fn each_pod_reaches_every_other_and_the_node_by_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new(&["a".into(), "b".into(), "c".into()], &[], folder.path()).unwrap();
        let all: Vec<&Pod> = std::iter::once(&network.node).chain(&network.pods).collect();
        for to in &all {
            let listener = to.namespace.run(|| Ok(TcpListener::bind((to.ip, 0))?)).unwrap();
            let address = listener.local_addr().unwrap();
            for from in &all {
                let stream = from.namespace.connect(address, Duration::from_secs(5)).unwrap();
                let SocketAddr::V4(local) = stream.local_addr().unwrap() else { panic!("IPv4") };
                assert_eq!(*local.ip(), from.ip, "{} to {}", from.name, to.name);
            }
        }
    }
}
