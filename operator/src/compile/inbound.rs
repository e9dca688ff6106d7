//! What a proxy does with connections to its own pod.

use super::{
    Compiled, Trace, policy,
    protocol::{self, Declaration},
    routes::routes,
};
use crate::index::{Fact, Pod, Service, View, service::ServicePort};
use conduit_model::{Inbound, InboundPort, InboundService, Network, OutboundTlsMode, PortRange, Probe, Protocol};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// The configuration of a pod's own proxy.
pub fn inbound(view: &View, pod: &Pod) -> Compiled<Inbound> {
    let mut trace = Trace::default();
    trace.depends_on(Fact::Pod(pod.name.clone()));
    trace.depends_on(Fact::Namespace(pod.name.namespace.clone()));
    trace.depends_on(Fact::TrustBundle);
    // A Service none of whose ports leads anywhere yet counts as well: its ports may change.
    let services = selecting(view, pod, &mut trace);
    let own = numbers(pod, &services);
    let listed = listed(view, pod, &own).into_iter().map(|ports| known_ports(view, pod, &[], ports, &mut trace));
    let mut ports: Vec<_> = listed.collect();
    ports.extend(own.into_iter().map(|port| known_ports(view, pod, &services, port.into(), &mut trace)));
    ports.sort_by_key(|known| known.ports);
    let config = Inbound {
        workload: pod.workload.clone(),
        ports,
        terminating: pod.terminating,
        mtls: policy::inbound_mtls(view, pod, None, &mut trace),
        probe_networks: probe_networks(view, pod, &mut trace),
        trust_bundle: view.trust_bundle().to_vec(),
        unknown_destinations: unknown_destinations(view, &mut trace),
    };
    trace.give(config)
}

/// The Services and their ports that lead to a port of the pod, oldest first.
pub(super) fn leading_to<'a>(
    view: &'a View,
    pod: &Pod,
    port: u16,
    trace: &mut Trace,
) -> Vec<(&'a Service, &'a ServicePort)> {
    trace.depends_on(Fact::Pod(pod.name.clone()));
    leading(pod, &selecting(view, pod, trace), port)
}

/// From where the kubelet of the pod's node asks for its containers' health.
fn probe_networks(view: &View, pod: &Pod, trace: &mut Trace) -> Vec<Network> {
    trace.depends_on(Fact::ProbeNetworks);
    pod.node.iter().for_each(|node| trace.depends_on(Fact::Node(node.clone())));
    let node = pod.node.as_ref().and_then(|node| view.node(node));
    let addresses = node.into_iter().flat_map(|node| &node.addresses).copied().map(IpNet::from);
    let networks: BTreeSet<_> = addresses.chain(view.probe_networks().iter().copied()).collect();
    networks.into_iter().filter_map(|network| Network::new(network.addr(), network.prefix_len())).collect()
}

/// A proxy that knows nothing of a destination cannot know that a policy requires TLS there, wherever in the cluster that
/// policy is: the destination may be any. So one such policy, or one that cannot be read and may be such, makes every proxy
/// wait for an answer rather than send plaintext without one. Where there is none, a mesh without its operator goes on to
/// serve what it always served.
pub(super) fn unknown_destinations(view: &View, trace: &mut Trace) -> OutboundTlsMode {
    trace.depends_on(Fact::RequiredTls);
    if view.requires_tls_anywhere() { OutboundTlsMode::Require } else { OutboundTlsMode::Prefer }
}

fn selecting<'a>(view: &'a View, pod: &Pod, trace: &mut Trace) -> Vec<&'a Service> {
    let services = view.services_selecting(pod);
    services.iter().for_each(|service| trace.depends_on(Fact::Service(service.name.clone())));
    services
}

/// The ports of which something is known for themselves: those that containers declare or are probed at, and those that
/// Services lead to.
fn numbers(pod: &Pod, services: &[&Service]) -> BTreeSet<u16> {
    let declared = pod.ports.iter().map(|port| port.port).chain(pod.probes.iter().map(|probe| probe.port));
    let targets = services.iter().flat_map(|service| &service.ports).filter_map(|port| pod.target(&port.target));
    declared.chain(targets).collect()
}

/// The other ports, which are listed as opaque, perhaps all that there are. All that is known of one is known of each: policies
/// tell ports apart by the Services that lead to them, and to these none does.
fn listed(view: &View, pod: &Pod, own: &BTreeSet<u16>) -> Vec<PortRange> {
    let namespace = view.namespace(&pod.name.namespace).and_then(|namespace| namespace.opaque_ports.as_ref());
    let listed = pod.opaque_ports.as_ref().or(namespace).and_then(|ports| ports.as_ref().ok());
    listed.map(|listed| listed.without(own)).unwrap_or_default()
}

fn leading<'a>(pod: &Pod, services: &[&'a Service], port: u16) -> Vec<(&'a Service, &'a ServicePort)> {
    let ports = services.iter().flat_map(|service| service.ports.iter().map(move |port| (*service, port)));
    ports.filter(|(_, known)| pod.target(&known.target) == Some(port)).collect()
}

/// What is known of a port, or of several that are alike.
fn known_ports(view: &View, pod: &Pod, services: &[&Service], ports: PortRange, trace: &mut Trace) -> InboundPort {
    let port = ports.first();
    let leading = leading(pod, services, port);
    let mut probes: Vec<Probe> = Vec::new();
    for declared in pod.probes.iter().filter(|declared| declared.port == port) {
        // The same for readiness and for liveness, as it often is.
        if !probes.contains(&declared.probe) {
            probes.push(declared.probe.clone());
        }
    }
    InboundPort {
        ports,
        protocol: port_protocol(view, pod, &leading, port, trace),
        services: leading.iter().map(|(service, port)| known_service(view, service, port, trace)).collect(),
        mtls: policy::inbound_mtls(view, pod, Some(port), trace),
        probes,
    }
}

fn known_service(view: &View, service: &Service, port: &ServicePort, trace: &mut Trace) -> InboundService {
    let name = &service.name;
    let fqdn = view.fqdn(name);
    InboundService {
        hosts: vec![
            name.name.to_lowercase(),
            format!("{}.{}", name.name, name.namespace).to_lowercase(),
            format!("{}.{}.svc", name.name, name.namespace).to_lowercase(),
            fqdn.to_lowercase(),
        ],
        // Who calls is not known beforehand: a profile in a client's namespace is for that client's proxy alone.
        routes: routes(view, &name.namespace, name, trace),
        service: conduit_model::ServicePort {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            port: port.port,
            fqdn,
        },
    }
}

/// What the pod and the Services that lead to its port, which may be any, declare to speak. One side is enough: a port that is opaque to any of
/// them is opaque; of several `appProtocol`s and names the oldest Service's says it, then the container's.
pub(super) fn port_protocol(
    view: &View,
    pod: &Pod,
    leading: &[(&Service, &ServicePort)],
    port: u16,
    trace: &mut Trace,
) -> Protocol {
    let policy = policy::inbound_protocol(view, pod, port, trace);
    let namespace = &pod.name.namespace;
    trace.depends_on(Fact::Namespace(namespace.clone()));
    let of_namespace = || view.namespace(namespace).map(|n| (format!("namespace/{namespace}"), &n.opaque_ports));
    let of_pod = (format!("pod/{}", pod.name), &pod.opaque_ports);
    let mut opaque = trace.read(protocol::listed([of_pod].into_iter().chain(of_namespace()), port), false);
    for (service, service_port) in leading {
        let of_service = (format!("service/{}", service.name), &service.opaque_ports);
        let listed = protocol::listed([of_service].into_iter().chain(of_namespace()), service_port.port);
        opaque |= trace.read(listed, false);
    }
    let container = pod.ports.iter().find(|known| known.port == port && !known.name.is_empty());
    let none = Declaration { policy, opaque, port, ..Declaration::default() };
    let by_services = leading.iter().map(|(_, service_port)| Declaration {
        app_protocol: service_port.app_protocol.as_ref(),
        name: &service_port.name,
        ..none
    });
    let by_container = container.map(|container| Declaration { name: &container.name, ..none });
    // The Service's own port may be well known where the pod's is not: both sides then agree that it is opaque.
    let by_number = leading.iter().map(|(_, service_port)| Declaration { port: service_port.port, ..none });
    let declarations = by_services.chain(by_container).chain(by_number).chain([none]);
    declarations.map(Declaration::protocol).find(|protocol| *protocol != Protocol::Detect).unwrap_or_default()
}
