//! The JSON patch (RFC 6902) that makes a pod what was decided. It adds and replaces at exact places and never rewrites
//! what it does not know, so that a field that this build has no name for survives.

use super::{
    Config, VERSION_ANNOTATION,
    containers::{probe_ports, volume},
    probes::Rewrite,
};
use conduit_model::settings::TCP_PROBE_PORTS;
use json_patch::{
    AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation,
    jsonptr::{PointerBuf, Token},
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::Serialize;
use serde_json::{Value, json};

/// Makes a pod without a proxy one with it.
pub(super) fn first(
    pod: &Pod,
    spec: &PodSpec,
    containers: [Container; 2],
    probes: &[Rewrite],
    config: &Config,
) -> Patch {
    // Probes come first: their places are those in the pod as it was.
    let mut operations: Vec<_> = probes.iter().flat_map(rewrite).collect();
    if spec.init_containers.is_some() {
        for (index, container) in containers.iter().enumerate() {
            operations.push(add(["spec", "initContainers", &index.to_string()], container));
        }
    } else {
        operations.push(add(["spec", "initContainers"], containers));
    }
    if spec.volumes.is_some() {
        operations.push(add(["spec", "volumes", "-"], volume()));
    } else {
        operations.push(add(["spec", "volumes"], [volume()]));
    }
    if pod.metadata.annotations.is_some() {
        operations.push(add(["metadata", "annotations", VERSION_ANNOTATION], &config.version));
    } else {
        operations.push(add(["metadata", "annotations"], json!({ VERSION_ANNOTATION: config.version })));
    }
    Patch(operations)
}

/// Rewrites the probes that others added after the pod got its proxy; none where there are none.
pub(super) fn again((place, proxy): (usize, &Container), probes: &[Rewrite]) -> Option<Patch> {
    if probes.is_empty() {
        return None;
    }
    let mut operations: Vec<_> = probes.iter().flat_map(rewrite).collect();
    let allowed = proxy.env.iter().flatten().enumerate().find(|(_, variable)| variable.name == TCP_PROBE_PORTS.name);
    let (place, new) = (place.to_string(), probes.iter().map(|probe| &probe.port));
    match allowed {
        Some((index, variable)) => {
            let known: Vec<u16> =
                variable.value.iter().flat_map(|list| list.split(',')).filter_map(|port| port.parse().ok()).collect();
            let value = Value::String(probe_ports(known.iter().chain(new)));
            let path = pointer(["spec", "initContainers", &place, "env", &index.to_string(), "value"]);
            operations.push(PatchOperation::Replace(ReplaceOperation { path, value }));
        }
        None if proxy.env.is_some() => {
            let variable = json!({"name": TCP_PROBE_PORTS.name, "value": probe_ports(new)});
            operations.push(add(["spec", "initContainers", &place, "env", "-"], variable));
        }
        // Somebody took the whole environment away: that proxy cannot run, and a probe less does not help it.
        None => {}
    }
    Some(Patch(operations))
}

fn rewrite(rewrite: &Rewrite) -> [PatchOperation; 2] {
    let at = |field| pointer(rewrite.path.iter().map(String::as_str).chain([field]));
    [
        PatchOperation::Remove(RemoveOperation { path: at("tcpSocket") }),
        PatchOperation::Add(AddOperation { path: at("httpGet"), value: json!(rewrite.http_get()) }),
    ]
}

fn add<'a>(path: impl IntoIterator<Item = &'a str>, value: impl Serialize) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: pointer(path), value: json!(value) })
}

fn pointer<'a>(path: impl IntoIterator<Item = &'a str>) -> PointerBuf {
    PointerBuf::from_tokens(path.into_iter().map(Token::new))
}
