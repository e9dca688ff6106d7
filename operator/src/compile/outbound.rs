//! What a proxy does with connections to an address.

use super::{
    Compiled, Trace,
    endpoints::endpoint,
    inbound::{leading_to, port_protocol, unknown_destinations},
    policy::{self, Call},
    protocol::{self, Declaration},
    routes::routes,
};
use crate::index::{Fact, Pod, Service, View, service::ServicePort};
use conduit_model::{DirectReason, Forward, Outbound, OutboundTlsMode, Protocol};
use std::net::SocketAddr;

/// The configuration of an address for clients in the namespace `client`.
pub fn outbound(view: &View, client: &str, address: SocketAddr) -> Compiled<Outbound> {
    let mut trace = Trace::default();
    trace.depends_on(Fact::Address(address.ip()));
    let config = if let Some(service) = view.service_at(address.ip()) {
        match service.port(address.port()) {
            Some(port) => to_service(view, client, service, port, &mut trace),
            None => {
                trace.depends_on(Fact::Service(service.name.clone()));
                Outbound::unknown(OutboundTlsMode::Prefer)
            }
        }
    } else if let Some(pod) = view.pod_at(address.ip()) {
        to_pod(view, client, pod, address, &mut trace)
    } else {
        no_ones(view, address, &mut trace)
    };
    trace.give(config)
}

/// An address that is no Service's and no known pod's. Outside the cluster no policy has it as a target. Inside, a pod may
/// be so new that it is not known yet, nor what policies say of it.
fn no_ones(view: &View, address: SocketAddr, trace: &mut Trace) -> Outbound {
    trace.depends_on(Fact::PodRanges);
    match view.is_pods(address.ip()) {
        true => Outbound::unknown(unknown_destinations(view, trace)),
        false => Outbound::unknown(OutboundTlsMode::Prefer),
    }
}

/// Whether kube-proxy gives this Service something that a balancer in the client's pod cannot: the client's own node,
/// one and the same endpoint for a client across its pods' restarts, or endpoints that are no pods.
pub(super) fn left_to_kube_proxy(view: &View, service: &Service) -> bool {
    service.local_traffic_only || service.client_ip_affinity || !backed_by_pods(view, service)
}

fn backed_by_pods(view: &View, service: &Service) -> bool {
    !service.selector.is_empty() && !view.slices(&service.name).any(|slice| slice.has_foreign_endpoint())
}

fn to_service(view: &View, client: &str, service: &Service, port: &ServicePort, trace: &mut Trace) -> Outbound {
    trace.depends_on(Fact::Service(service.name.clone()));
    let call = Call { client, producer: &service.name.namespace, services: &[(service, port)] };
    let tls = match service.selector.is_empty() {
        true => policy::outbound_tls_outside(view, call, trace),
        false => policy::outbound_tls(view, call, trace),
    };
    let named = conduit_model::ServicePort {
        namespace: service.name.namespace.clone(),
        name: service.name.name.clone(),
        port: port.port,
        fqdn: view.fqdn(&service.name),
    };
    let left = Forward::Direct { reason: DirectReason::LeftToKubeProxy, endpoint: None };
    if !backed_by_pods(view, service) {
        // Nobody knows who answers, such as for the API server itself: not one byte is touched.
        let protocol = Protocol::Opaque;
        return Outbound { protocol, service: Some(named), routes: Vec::new(), forward: left, tls };
    }
    let declared = Declaration {
        policy: policy::outbound_protocol(view, call, trace),
        opaque: opaque(view, service, port, trace),
        app_protocol: port.app_protocol.as_ref(),
        name: &port.name,
        port: port.port,
    };
    Outbound {
        protocol: declared.protocol(),
        service: Some(named),
        routes: routes(view, client, &service.name, trace),
        forward: if left_to_kube_proxy(view, service) { left } else { Forward::Balance },
        tls,
    }
}

fn opaque(view: &View, service: &Service, port: &ServicePort, trace: &mut Trace) -> bool {
    let namespace = &service.name.namespace;
    trace.depends_on(Fact::Namespace(namespace.clone()));
    let of_namespace = view.namespace(namespace).map(|n| (format!("namespace/{namespace}"), &n.opaque_ports));
    let of_service = (format!("service/{}", service.name), &service.opaque_ports);
    trace.read(protocol::listed([of_service].into_iter().chain(of_namespace), port.port), false)
}

/// A pod's own address, which is how a headless Service is called, too: what policies say of the Services that lead to the
/// port holds here as well.
fn to_pod(view: &View, client: &str, pod: &Pod, address: SocketAddr, trace: &mut Trace) -> Outbound {
    let services = leading_to(view, pod, address.port(), trace);
    let call = Call { client, producer: &pod.name.namespace, services: &services };
    Outbound {
        protocol: port_protocol(view, pod, &services, address.port(), trace),
        service: None,
        routes: Vec::new(),
        forward: Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint(view, pod, address, trace)) },
        tls: policy::outbound_tls(view, call, trace),
    }
}
