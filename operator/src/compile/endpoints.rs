//! Where a Service's connections can go.

use super::{Compiled, Trace, outbound::left_to_kube_proxy, policy};
use crate::index::{Fact, Pod, Service, View, service::ServicePort, slice::SliceEndpoint};
use conduit_model::{Endpoint, EndpointProxy};
use std::{collections::BTreeMap, net::SocketAddr};

/// Endpoints by their address.
pub type Endpoints = BTreeMap<SocketAddr, Endpoint>;

/// The endpoints of the Service port at an address; none where the address is not balanced.
pub fn endpoints(view: &View, address: SocketAddr) -> Compiled<Option<Endpoints>> {
    let mut trace = Trace::default();
    trace.depends_on(Fact::Address(address.ip()));
    let endpoints = view.service_at(address.ip()).and_then(|service| {
        trace.depends_on(Fact::Service(service.name.clone()));
        trace.depends_on(Fact::Endpoints(service.name.clone()));
        let port = service.port(address.port()).filter(|_| !left_to_kube_proxy(view, service))?;
        // Its policies may say whom its pods serve.
        trace.depends_on(Fact::Namespace(service.name.namespace.clone()));
        Some(of_port(view, service, port, address.is_ipv4(), &mut trace))
    });
    trace.give(endpoints)
}

/// A pod at one of its addresses. It takes mutual TLS where its proxy answers for the port, whatever the port carries: what
/// the two proxies' ALPN says counts, not what either was told that the port speaks.
pub(super) fn endpoint(view: &View, pod: &Pod, address: SocketAddr, trace: &mut Trace) -> Endpoint {
    let proxy = match pod.is_meshed_at(address.port()) {
        true if policy::wants_plaintext(view, pod, address.port(), trace) => EndpointProxy::Plaintext,
        true => EndpointProxy::Mtls,
        false => EndpointProxy::None,
    };
    Endpoint { address, workload: pod.workload.clone(), proxy }
}

/// The endpoints that are ready; where none is, those that are about to stop but still serve, as kube-proxy does
/// (KEP-1669). An endpoint whose pod is not known, not yet or no longer, is left out until it is.
fn of_port(view: &View, service: &Service, port: &ServicePort, ipv4: bool, trace: &mut Trace) -> Endpoints {
    let known: Vec<(&SliceEndpoint, &Pod, u16)> = view
        .slices(&service.name)
        .flat_map(|slice| {
            let targets = slice.ports.iter().filter(|target| target.name == port.name);
            targets.flat_map(move |target| slice.endpoints.iter().map(move |endpoint| (endpoint, target.port)))
        })
        .filter(|(endpoint, _)| endpoint.address.is_ipv4() == ipv4)
        .filter_map(|(endpoint, target)| {
            let pod = view.pod(endpoint.pod.as_ref()?)?;
            // A pod made anew under its name has another address, and may have another identity.
            pod.ips.contains(&endpoint.address).then_some((endpoint, pod, target))
        })
        .collect();
    let mut those = |wanted: &dyn Fn(&SliceEndpoint) -> bool| -> Endpoints {
        let chosen = known.iter().filter(|(endpoint, _, _)| wanted(endpoint));
        let addressed = chosen.map(|(e, pod, target)| (SocketAddr::new(e.address, *target), pod));
        addressed.map(|(address, pod)| (address, endpoint(view, pod, address, trace))).collect()
    };
    let ready = those(&|endpoint| endpoint.ready || service.publish_not_ready);
    if ready.is_empty() { those(&|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}
