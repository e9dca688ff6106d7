//! The effective configuration as JSON, for people and the CLI: what the proxy acts on now, under which version, since
//! when. A view: nothing reads it back.

use crate::{
    discovery::{Snapshot, Versions},
    upstream::{
        directory::{Destination, Directory},
        own::Own,
    },
};
use conduit_model::{
    DirectReason, Endpoint, Forward, Inbound, InboundPort, InboundService, Outbound, Route, Version, Workload,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the proxy acts on now. `snapshot` is none where discovery has ended.
pub(super) fn view(directory: &Directory, own: &Own, snapshot: Option<&Snapshot>) -> Value {
    let versions: BTreeMap<_, _> = snapshot.iter().flat_map(|s| &s.outbound).map(|(a, v)| (*a, *v)).collect();
    let mut destinations = directory.all();
    destinations.sort_by_key(|destination| destination.address());
    json!({
        "discovery": {
            "connected": snapshot.is_some_and(|s| s.connected),
            "failure": snapshot.and_then(|s| s.failure.clone()),
        },
        "inbound": {
            "versions": snapshot.map(|s| of_versions(&s.inbound)),
            "config": own.config().as_deref().map(inbound),
        },
        "outbound": destinations.iter().map(|d| destination(d, versions.get(&d.address()))).collect::<Vec<_>>(),
    })
}

fn destination(destination: &Destination, versions: Option<&Versions>) -> Value {
    json!({
        "address": destination.address(),
        "uses": destination.uses(),
        "versions": versions.map(of_versions),
        "config": destination.config().as_deref().map(outbound),
        "endpoints": destination.endpoints().map(|set| set.iter().map(|e| endpoint(e)).collect::<Vec<_>>()),
    })
}

fn of_versions(versions: &Versions) -> Value {
    let text = |version: Option<Version>| version.map(|version| version.to_string());
    json!({
        "config": text(versions.config),
        "endpoints": text(versions.endpoints),
        "changedSecondsAgo": versions.age.map(|age| age.as_secs()),
    })
}

fn outbound(outbound: &Outbound) -> Value {
    let Outbound { protocol, service, routes, forward, .. } = outbound;
    json!({
        "protocol": protocol.to_string(),
        "service": service.as_ref().map(ToString::to_string),
        "routes": routes.iter().map(route).collect::<Vec<_>>(),
        "forward": match forward {
            Forward::Balance => json!("Balance"),
            Forward::Direct { reason, endpoint: pod } => json!({
                "direct": match reason {
                    DirectReason::UnknownAddress => "UnknownAddress",
                    DirectReason::Pod => "Pod",
                    DirectReason::LeftToKubeProxy => "LeftToKubeProxy",
                },
                "endpoint": pod.as_ref().map(endpoint),
            }),
        },
    })
}

fn inbound(inbound: &Inbound) -> Value {
    let Inbound { workload: own, ports, terminating, .. } = inbound;
    json!({
        "workload": workload(own),
        "ports": ports.iter().map(inbound_port).collect::<Vec<_>>(),
        "terminating": terminating,
    })
}

fn inbound_port(port: &InboundPort) -> Value {
    let InboundPort { ports, protocol, services, .. } = port;
    json!({
        "port": ports.to_string(),
        "protocol": protocol.to_string(),
        "services": services.iter().map(inbound_service).collect::<Vec<_>>(),
    })
}

fn inbound_service(service: &InboundService) -> Value {
    let InboundService { service, hosts, routes } = service;
    json!({
        "service": service.to_string(),
        "hosts": hosts,
        "routes": routes.iter().map(route).collect::<Vec<_>>(),
    })
}

fn route(route: &Route) -> Value {
    let Route { name, condition, response_classes, source } = route;
    json!({
        "name": name,
        "condition": format!("{condition:?}"),
        "responseClasses": response_classes.iter().map(|class| format!("{class:?}")).collect::<Vec<_>>(),
        "source": format!("{}/{}/{}", source.kind, source.namespace, source.name),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let Endpoint { address, workload: who, proxy } = endpoint;
    json!({ "address": address, "workload": workload(who), "meshed": proxy.is_meshed() })
}

fn workload(workload: &Workload) -> Value {
    let Workload { namespace, service_account, kind, name, pod } = workload;
    json!({
        "namespace": namespace,
        "serviceAccount": service_account,
        "kind": kind.label(),
        "name": name,
        "pod": pod,
    })
}
