//! What a proxy does with connections to an address.

use super::{
    Compiled, Trace, Unreadable,
    endpoints::endpoint,
    inbound::pod_protocol,
    policy,
    protocol::{self, Declaration},
    routes::routes,
};
use crate::index::{Fact, Pod, Service, View, service::ServicePort};
use conduit_model::{DirectReason, Forward, Outbound, OutboundTls, OutboundTlsMode, Protocol};
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
                Ok(Outbound::unknown(OutboundTlsMode::Prefer))
            }
        }
    } else if let Some(pod) = view.pod_at(address.ip()) {
        to_pod(view, pod, address, &mut trace)
    } else {
        Ok(Outbound::unknown(OutboundTlsMode::Prefer))
    };
    trace.give(config)
}

/// Whether kube-proxy gives this Service something that a balancer in the client's pod cannot: the client's own node,
/// one and the same endpoint for a client across its pods' restarts, or endpoints that are no pods.
pub(super) fn left_to_kube_proxy(view: &View, service: &Service) -> bool {
    service.local_traffic_only || service.client_ip_affinity || !backed_by_pods(view, service)
}

fn backed_by_pods(view: &View, service: &Service) -> bool {
    !service.selector.is_empty() && !view.slices(&service.name).any(|slice| slice.has_foreign_endpoint())
}

fn to_service(
    view: &View,
    client: &str,
    service: &Service,
    port: &ServicePort,
    trace: &mut Trace,
) -> Result<Outbound, Unreadable> {
    trace.depends_on(Fact::Service(service.name.clone()));
    let named = conduit_model::ServicePort {
        namespace: service.name.namespace.clone(),
        name: service.name.name.clone(),
        port: port.port,
        fqdn: view.fqdn(&service.name),
    };
    if !backed_by_pods(view, service) {
        // Nobody knows who answers, such as for the API server itself: not one byte is touched.
        let forward = Forward::Direct { reason: DirectReason::LeftToKubeProxy, endpoint: None };
        return Ok(Outbound {
            protocol: Protocol::Opaque,
            service: Some(named),
            routes: Vec::new(),
            forward,
            tls: OutboundTls::DEFAULT,
        });
    }
    // Both are looked at before either can fail, so that every object that has a say knows its subscribers.
    let policy = policy::outbound_protocol(view, client, service, port, trace);
    let routes = routes(view, client, &service.name, trace);
    let declared = Declaration {
        policy: policy?,
        opaque: opaque(view, service, port, trace)?,
        app_protocol: port.app_protocol.as_ref(),
        name: &port.name,
        port: port.port,
    };
    Ok(Outbound {
        protocol: declared.protocol(),
        service: Some(named),
        routes: routes?,
        forward: match left_to_kube_proxy(view, service) {
            true => Forward::Direct { reason: DirectReason::LeftToKubeProxy, endpoint: None },
            false => Forward::Balance,
        },
        tls: OutboundTls::DEFAULT,
    })
}

fn opaque(view: &View, service: &Service, port: &ServicePort, trace: &mut Trace) -> Result<bool, Unreadable> {
    let namespace = &service.name.namespace;
    trace.depends_on(Fact::Namespace(namespace.clone()));
    let of_namespace = view.namespace(namespace).map(|n| (format!("namespace/{namespace}"), &n.opaque_ports));
    let of_service = (format!("service/{}", service.name), &service.opaque_ports);
    protocol::listed([of_service].into_iter().chain(of_namespace), port.port)
}

fn to_pod(view: &View, pod: &Pod, address: SocketAddr, trace: &mut Trace) -> Result<Outbound, Unreadable> {
    Ok(Outbound {
        protocol: pod_protocol(view, pod, address.port(), trace)?,
        service: None,
        routes: Vec::new(),
        forward: Forward::Direct { reason: DirectReason::Pod, endpoint: Some(endpoint(view, pod, address)) },
        tls: OutboundTls::DEFAULT,
    })
}
