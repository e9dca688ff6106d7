//! `tcpSocket` probes that would lie, and what they become.
//!
//! Behind a redirect the proxy accepts every connection, whether the application listens or not, so a `tcpSocket` probe
//! would always pass. It becomes an HTTP probe of the proxy's admin port, which dials the application. HTTP, HTTPS and
//! gRPC probes reach the application through the proxy and tell the truth as they are.

use super::containers::theirs;
use conduit_model::settings::{ADMIN_PORT, TCP_PROBE_PATH};
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, PodSpec, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// One probe to be rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewrite {
    /// Where it stands: tokens of a JSON pointer.
    pub(super) path: [String; 4],
    /// The application's port.
    pub(super) port: u16,
}

impl Rewrite {
    /// What the probe asks instead.
    pub(super) fn http_get(&self) -> HTTPGetAction {
        HTTPGetAction {
            path: Some(format!("{TCP_PROBE_PATH}?port={}", self.port)),
            port: IntOrString::Int(ADMIN_PORT.into()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }
    }
}

/// The `tcpSocket` probes of every container but Conduit's own. Left alone are those of another host, which the proxy does
/// not stand before, and those of a port that does not exist, which fail as they should.
pub(super) fn rewrites(spec: &PodSpec) -> Vec<Rewrite> {
    let each = theirs(spec).flat_map(|(list, index, container)| {
        let probes = [
            ("startupProbe", &container.startup_probe),
            ("livenessProbe", &container.liveness_probe),
            ("readinessProbe", &container.readiness_probe),
        ];
        probes.into_iter().filter_map(move |(kind, probe)| {
            let port = tcp_port(container, probe.as_ref()?)?;
            Some(Rewrite { path: ["spec".to_owned(), list.to_owned(), index.to_string(), kind.to_owned()], port })
        })
    });
    each.collect()
}

fn tcp_port(container: &Container, probe: &Probe) -> Option<u16> {
    let TCPSocketAction { host, port } = probe.tcp_socket.as_ref()?;
    if host.as_deref().is_some_and(|host| !host.is_empty()) {
        return None;
    }
    let number = match port {
        IntOrString::Int(number) => *number,
        // As the kubelet does: a port of that name, or else a number in a string.
        IntOrString::String(name) => {
            match container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name)) {
                Some(port) => port.container_port,
                None => name.parse().ok()?,
            }
        }
    };
    u16::try_from(number).ok().filter(|port| *port != 0)
}
