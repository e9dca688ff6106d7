//! What the kubelet asks of a container over the network.
//!
//! What is read here is what the kubelet then sends: it is compared with requests that come without an identity. A probe
//! that cannot be followed is left out, and is refused where only identities are served.

use conduit_model::{Probe, settings::ADMIN_PORT};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe as Declared},
    apimachinery::pkg::util::intstr::IntOrString,
};
use std::fmt::Write;

/// The path of the standard health check (gRPC Health Checking Protocol).
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";

/// A probe of a pod's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortProbe {
    /// The port.
    pub port: u16,
    /// What is asked there.
    pub probe: Probe,
}

/// The probes of a container that come over the network and are for the application: not those of another host, nor
/// those that injection has turned to the proxy.
pub(super) fn of_container(container: &Container) -> impl Iterator<Item = PortProbe> + '_ {
    let all = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
    let probes = all.into_iter().flatten().filter_map(|declared| read(container, declared));
    probes.filter(|probe| probe.port != ADMIN_PORT)
}

fn read(container: &Container, declared: &Declared) -> Option<PortProbe> {
    if let Some(HTTPGetAction { host, path, port, scheme, .. }) = &declared.http_get {
        if host.as_deref().is_some_and(|host| !host.is_empty()) {
            return None;
        }
        let probe = match scheme.as_deref() {
            None | Some("" | "HTTP") => Probe::Path(sent(path.as_deref().unwrap_or("/"))),
            Some("HTTPS") => Probe::Tls,
            Some(_) => return None,
        };
        return Some(PortProbe { port: resolved(container, port)?, probe });
    }
    let grpc = declared.grpc.as_ref()?;
    Some(PortProbe { port: number(grpc.port)?, probe: Probe::Path(GRPC_PATH.into()) })
}

/// As the kubelet does: the container's port of that name, or else a number in a string.
fn resolved(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(port) => number(*port),
        IntOrString::String(name) => {
            match container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name)) {
                Some(port) => number(port.container_port),
                None => number(name.parse().ok()?),
            }
        }
    }
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port != 0)
}

/// The path that a request for a declared one has: without query and fragment, and with what no path can hold escaped.
fn sent(declared: &str) -> String {
    let path = declared.split(['?', '#']).next().unwrap_or_default();
    let mut sent = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        sent.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => sent.push(byte.into()),
            _ if b"-._~!$&'()*+,;=:@[]/%".contains(&byte) => sent.push(byte.into()),
            _ => write!(sent, "%{byte:02X}").expect("a string takes all that is written"),
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_is_what_the_kubelet_sends_and_where() {
        let path = |port, path: &str| Some(PortProbe { port, probe: Probe::Path(path.into()) });
        for (probe, expected) in [
            (json!({"httpGet": {"path": "/ready?full=1#x", "port": 8080}}), path(8080, "/ready")),
            (json!({"httpGet": {"path": "live", "port": "http"}}), path(8081, "/live")),
            (json!({"httpGet": {"port": "8082", "scheme": "HTTP"}}), path(8082, "/")),
            (json!({"httpGet": {"path": "/a b/%41;x=ä", "port": 1}}), path(1, "/a%20b/%41;x=%C3%A4")),
            (
                json!({"httpGet": {"path": "/x", "port": 8443, "scheme": "HTTPS"}}),
                Some(PortProbe { port: 8443, probe: Probe::Tls }),
            ),
            (json!({"grpc": {"port": 9000, "service": "a"}}), path(9000, "/grpc.health.v1.Health/Check")),
            (json!({"httpGet": {"path": "/x", "port": 80, "host": "192.0.2.1"}}), None),
            (json!({"httpGet": {"path": "/x", "port": "none"}}), None),
            (json!({"httpGet": {"path": "/x", "port": 4191}}), None),
            (json!({"grpc": {"port": 0}}), None),
            (json!({"exec": {"command": ["true"]}}), None),
            (json!({"tcpSocket": {"port": 80}}), None),
        ] {
            for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let container = json!({"name": "app", "ports": [{"name": "http", "containerPort": 8081}], kind: probe});
                let container = serde_json::from_value(container).unwrap();
                assert_eq!(of_container(&container).collect::<Vec<_>>(), Vec::from_iter(expected.clone()), "{probe}");
            }
        }
    }
}
