//! The objects that the operator of a bench reads: what a cluster would hold of these pods. Must not know how they run.

use super::Parts;
use crate::topology::Network;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Namespace of all pods.
pub(crate) const NAMESPACE: &str = "bench";
/// The Service that clients call.
pub(crate) const SERVICE: &str = "server";
/// Its address.
pub(crate) const SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Its name in DNS.
pub(crate) const SERVICE_NAME: &str = "server.bench.svc.cluster.local";

/// Endpoints in one EndpointSlice, as Kubernetes has them.
const SLICE: usize = 100;

/// Objects in one file, of which the operator reads no more than a size.
const IN_A_FILE: usize = 200;

/// A port of the Service, written as `name:port:target[:appProtocol]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    name: String,
    port: u16,
    target: u16,
    app_protocol: Option<String>,
}

impl Port {
    /// One that declares its protocol by its name, if at all.
    pub(crate) fn new(name: &str, port: u16, target: u16) -> Self {
        Self { name: name.to_owned(), port, target, app_protocol: None }
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = || format!("expected name:port:target or name:port:target:appProtocol, got {text:?}");
        let mut parts = text.split(':');
        let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(expected);
        let number = |part: &str| part.parse().ok().filter(|port| *port != 0).ok_or_else(expected);
        let (name, port, target) = (next()?.to_owned(), number(next()?)?, number(next()?)?);
        let app_protocol = parts.next().map(ToOwned::to_owned);
        match parts.next() {
            None => Ok(Self { name, port, target, app_protocol }),
            Some(_) => Err(expected()),
        }
    }
}

/// An endpoint of the Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The pod.
    pub(crate) pod: String,
    /// Its address.
    pub(crate) ip: Ipv4Addr,
}

/// The folder that the operator watches.
#[derive(Clone, Debug)]
pub(crate) struct Manifests {
    folder: PathBuf,
    ports: Vec<Port>,
}

impl Endpoint {
    /// One at a further address of the pod at this place in the network, named as a pod of the same workload.
    fn further(index: usize, number: u16) -> Self {
        Self { pod: format!("{SERVICE}-{index}{number:04}"), ip: Network::further(index, number) }
    }
}

impl Manifests {
    /// Writes into `folder` the pods of a network, of which all but the first serve.
    pub(crate) fn write(folder: &Path, network: &Network, parts: &Parts) -> Result<Self> {
        let manifests = Self { folder: folder.to_owned(), ports: parts.ports.clone() };
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"conduit.io/inject": "enabled"}},
        });
        manifests.replace("namespace", &namespace)?;
        for pod in &network.pods {
            manifests.replace(&format!("pod-{}", pod.name), &manifests.pod(&pod.name, pod.ip))?;
        }
        manifests.replace("service", &manifests.service(SERVICE, SERVICE_IP))?;
        manifests.replace("policy", &policy(parts.plaintext))?;
        manifests.replace("profile", &profile())?;
        let mut endpoints: Vec<_> =
            network.pods.iter().skip(1).map(|pod| Endpoint { pod: pod.name.clone(), ip: pod.ip }).collect();
        let servers = endpoints.clone();
        for index in 1..network.pods.len() {
            endpoints.extend((1..parts.addresses).map(|number| Endpoint::further(index, number)));
        }
        let further = endpoints[servers.len()..].iter().map(|endpoint| manifests.pod(&endpoint.pod, endpoint.ip));
        manifests.replace_many("further-pods", &further.collect::<Vec<_>>())?;
        manifests.endpoints(&endpoints)?;
        let others = (0..parts.services).flat_map(|number| {
            let name = format!("other-{number}");
            let service = manifests.service(&name, other_service(number));
            [service, manifests.slice(&name, 0, &servers[..1])]
        });
        manifests.replace_many("other-services", &others.collect::<Vec<_>>())?;
        Ok(manifests)
    }

    /// The ports of the pods that the Service leads to.
    pub(crate) fn targets(&self) -> impl Iterator<Item = u16> {
        self.ports.iter().map(|port| port.target)
    }

    /// Says anew which endpoints the Service has.
    pub(crate) fn endpoints(&self, endpoints: &[Endpoint]) -> Result<()> {
        let slices = endpoints.chunks(SLICE).enumerate().map(|(number, some)| self.slice(SERVICE, number, some));
        self.replace_all("endpoints", &slices.collect::<Vec<_>>())
    }

    fn slice(&self, service: &str, number: usize, endpoints: &[Endpoint]) -> Value {
        let endpoint = |Endpoint { pod, ip }: &Endpoint| {
            json!({
                "addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": pod},
            })
        };
        let ports = self.ports.iter().map(|port| json!({"name": port.name, "port": port.target, "protocol": "TCP"}));
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "namespace": NAMESPACE, "name": format!("{service}-{}", number + 1),
                "labels": {"kubernetes.io/service-name": service},
            },
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": ports.collect::<Vec<_>>(),
        })
    }

    fn replace(&self, name: &str, object: &Value) -> Result<()> {
        self.replace_all(name, std::slice::from_ref(object))
    }

    /// Writes so many objects in each file as the operator reads in one.
    fn replace_many(&self, name: &str, objects: &[Value]) -> Result<()> {
        let mut files = objects.chunks(IN_A_FILE).enumerate();
        files.try_for_each(|(number, some)| self.replace_all(&format!("{name}-{number}"), some))
    }

    /// Writes a file at once, so that nobody reads a half of it. JSON is YAML.
    fn replace_all(&self, name: &str, objects: &[Value]) -> Result<()> {
        let (hidden, path) = (self.folder.join(format!(".{name}")), self.folder.join(format!("{name}.yaml")));
        let texts = objects.iter().map(serde_json::to_string_pretty).collect::<Result<Vec<_>, _>>()?;
        fs::write(&hidden, texts.join("\n---\n"))?;
        fs::rename(&hidden, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn pod(&self, name: &str, ip: Ipv4Addr) -> Value {
        let ports = self.ports.iter().map(|port| json!({"name": port.name, "containerPort": port.target}));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": name, "uid": name, "labels": {"app": account(name)}},
            "spec": {
                "serviceAccountName": account(name),
                "initContainers": [{"name": "conduit-init"}, {"name": "conduit-proxy", "restartPolicy": "Always"}],
                "containers": [{"name": "app", "ports": ports.collect::<Vec<_>>()}],
            },
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
        })
    }

    fn service(&self, name: &str, ip: Ipv4Addr) -> Value {
        let port = |port: &Port| {
            let mut value = json!({"name": port.name, "port": port.port, "targetPort": port.target});
            if let Some(protocol) = &port.app_protocol {
                value["appProtocol"] = json!(protocol);
            }
            value
        };
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": NAMESPACE, "name": name},
            "spec": {
                "clusterIP": ip, "clusterIPs": [ip], "selector": {"app": SERVICE},
                "ports": self.ports.iter().map(port).collect::<Vec<_>>(),
            },
        })
    }
}

/// The address of another Service.
pub(crate) fn other_service(number: u16) -> Ipv4Addr {
    let [high, low] = (number + 256).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

/// The service account of a pod: pods that differ by a number alone share one.
pub(crate) fn account(pod: &str) -> &str {
    match pod.rsplit_once('-') {
        Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => pod,
    }
}

/// Nobody is served without mutual TLS, or nobody with it.
fn policy(plaintext: bool) -> Value {
    let (inbound, outbound) = if plaintext { ("PERMISSIVE", "Disable") } else { ("STRICT", "Require") };
    json!({
        "apiVersion": "conduit.io/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"namespace": NAMESPACE, "name": "tls"},
        "spec": {
            "targetRefs": [{"kind": "Namespace"}],
            "inbound": {"mtls": {"mode": inbound}}, "outbound": {"tls": {"mode": outbound}},
        },
    })
}

/// Routes, so that each request is matched and measured by its own.
fn profile() -> Value {
    json!({
        "apiVersion": "conduit.io/v1alpha1", "kind": "ServiceProfile",
        "metadata": {"namespace": NAMESPACE, "name": SERVICE_NAME},
        "spec": {"routes": [
            {"name": "items", "condition": {"method": "GET", "pathRegex": "/api/v1/items"}},
            {"name": "echo", "condition": {"pathRegex": "/bench\\.Echo/.*"}},
        ]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_with_and_without_its_protocol() {
        let port = |app_protocol: Option<&str>| Port {
            name: "http".into(),
            port: 80,
            target: 8080,
            app_protocol: app_protocol.map(Into::into),
        };
        assert_eq!("http:80:8080".parse(), Ok(port(None)));
        assert_eq!("http:80:8080:kubernetes.io/h2c".parse(), Ok(port(Some("kubernetes.io/h2c"))));
    }

    #[test]
    fn a_port_that_is_none_is_refused_with_what_was_expected() {
        for text in ["http", "http:80", "http:80:x", "http:0:8080", ":80:80", "a:1:2:c:d"] {
            let error = text.parse::<Port>().unwrap_err();
            assert!(error.starts_with("expected name:port:target") && error.ends_with(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn pods_of_one_name_share_an_account() {
        assert_eq!(
            ["client", "server-0", "server-11", "big-server"].map(account),
            ["client", "server", "server", "big-server"]
        );
    }
}
