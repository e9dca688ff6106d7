//! What a proxy does with connections to its own pod.

use super::{
    Compiled, Trace, Unreadable, policy,
    protocol::{self, Declaration},
    routes::routes,
};
use crate::index::{
    Fact, Pod, Service, View,
    service::{ServicePort, TargetPort},
};
use conduit_model::{Inbound, InboundMtls, InboundPort, InboundService, Protocol};
use std::collections::BTreeSet;

/// The configuration of a pod's own proxy.
pub fn inbound(view: &View, pod: &Pod) -> Compiled<Inbound> {
    let mut trace = Trace::default();
    trace.depends_on(Fact::Pod(pod.name.clone()));
    trace.depends_on(Fact::Namespace(pod.name.namespace.clone()));
    // A Service none of whose ports leads anywhere yet counts as well: its ports may change.
    let services = selecting(view, pod, &mut trace);
    let ports =
        numbers(view, pod, &services).into_iter().map(|port| known_port(view, pod, &services, port, &mut trace));
    // Every port is looked at even where one fails, so that all that depends on it is known.
    let ports: Vec<_> = ports.collect();
    let ports = ports.into_iter().collect::<Result<_, _>>();
    let config =
        ports.map(|ports| Inbound { ports, terminating: pod.terminating, ..Inbound::of(pod.workload.clone()) });
    trace.give(config)
}

/// What a pod's port declares to speak; any port can be asked for.
pub(super) fn pod_protocol(view: &View, pod: &Pod, port: u16, trace: &mut Trace) -> Result<Protocol, Unreadable> {
    trace.depends_on(Fact::Pod(pod.name.clone()));
    let services = selecting(view, pod, trace);
    declared(view, pod, &leading(pod, &services, port), port, trace)
}

fn selecting<'a>(view: &'a View, pod: &Pod, trace: &mut Trace) -> Vec<&'a Service> {
    let services = view.services_selecting(pod);
    services.iter().for_each(|service| trace.depends_on(Fact::Service(service.name.clone())));
    services
}

/// The ports of which something is known: those that containers declare, those that Services lead to, and those that
/// are listed as opaque.
fn numbers(view: &View, pod: &Pod, services: &[&Service]) -> BTreeSet<u16> {
    let namespace = view.namespace(&pod.name.namespace).and_then(|namespace| namespace.opaque_ports.as_ref());
    let listed = pod.opaque_ports.as_ref().or(namespace).and_then(|ports| ports.as_ref().ok());
    let declared = pod.ports.iter().map(|port| port.port);
    let targets = services.iter().flat_map(|service| &service.ports).filter_map(|port| target(pod, port));
    declared.chain(targets).chain(listed.into_iter().flat_map(|ports| ports.iter())).collect()
}

fn target(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod.named_port(name),
    }
}

/// The Services and their ports that lead to a port of the pod, oldest first.
fn leading<'a>(pod: &Pod, services: &[&'a Service], port: u16) -> Vec<(&'a Service, &'a ServicePort)> {
    let ports = services.iter().flat_map(|service| service.ports.iter().map(move |port| (*service, port)));
    ports.filter(|(_, known)| target(pod, known) == Some(port)).collect()
}

fn known_port(
    view: &View,
    pod: &Pod,
    services: &[&Service],
    port: u16,
    trace: &mut Trace,
) -> Result<InboundPort, Unreadable> {
    let leading = leading(pod, services, port);
    let protocol = declared(view, pod, &leading, port, trace);
    let services: Vec<_> = leading.iter().map(|(service, port)| known_service(view, service, port, trace)).collect();
    Ok(InboundPort {
        port,
        protocol: protocol?,
        services: services.into_iter().collect::<Result<_, _>>()?,
        mtls: InboundMtls::DEFAULT,
        probes: Vec::new(),
    })
}

fn known_service(
    view: &View,
    service: &Service,
    port: &ServicePort,
    trace: &mut Trace,
) -> Result<InboundService, Unreadable> {
    let name = &service.name;
    let fqdn = view.fqdn(name);
    Ok(InboundService {
        hosts: vec![
            name.name.to_lowercase(),
            format!("{}.{}", name.name, name.namespace).to_lowercase(),
            format!("{}.{}.svc", name.name, name.namespace).to_lowercase(),
            fqdn.to_lowercase(),
        ],
        // Who calls is not known beforehand: a profile in a client's namespace is for that client's proxy alone.
        routes: routes(view, &name.namespace, name, trace)?,
        service: conduit_model::ServicePort {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            port: port.port,
            fqdn,
        },
    })
}

/// What the pod and the Services that lead to its port declare. One side is enough: a port that is opaque to any of
/// them is opaque; of several `appProtocol`s and names the oldest Service's says it, then the container's.
fn declared(
    view: &View,
    pod: &Pod,
    leading: &[(&Service, &ServicePort)],
    port: u16,
    trace: &mut Trace,
) -> Result<Protocol, Unreadable> {
    let policy = policy::inbound_protocol(view, pod, leading, trace)?;
    let namespace = &pod.name.namespace;
    trace.depends_on(Fact::Namespace(namespace.clone()));
    let of_namespace = || view.namespace(namespace).map(|n| (format!("namespace/{namespace}"), &n.opaque_ports));
    let of_pod = (format!("pod/{}", pod.name), &pod.opaque_ports);
    let mut opaque = protocol::listed([of_pod].into_iter().chain(of_namespace()), port)?;
    for (service, service_port) in leading {
        let of_service = (format!("service/{}", service.name), &service.opaque_ports);
        opaque |= protocol::listed([of_service].into_iter().chain(of_namespace()), service_port.port)?;
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
    Ok(declarations.map(Declaration::protocol).find(|protocol| *protocol != Protocol::Detect).unwrap_or_default())
}
