//! From the objects of the API server, or of manifests, to what is kept of them.
//!
//! Objects of Conduit's own kinds come as they are, so that one that does not even have the shape that its schema asks
//! for becomes an unreadable value with its fault, like any other that slipped past admission.

use super::{
    created,
    declared::{Block, Declared, PolicyTarget, Profile, TargetedPolicy},
    fault::{Fault, FaultKind},
    name::ObjectName,
    namespace::Namespace,
    node::Node,
    object::{Kind, Object},
    pod::Pod,
    policy, profile,
    service::Service,
    slice::Slice,
};
use conduit_crds::{ServiceProfile, TrafficPolicy, traffic_policy::TargetRef};
use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The kind that an object's `apiVersion` and `kind` say; none where the index does not keep it.
pub(super) fn kind(api_version: &str, kind: &str) -> Option<Kind> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(Kind::Namespace),
        ("v1", "Node") => Some(Kind::Node),
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Pod") => Some(Kind::Pod),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        ("conduit.io/v1alpha1", "ServiceProfile") => Some(Kind::ServiceProfile),
        ("conduit.io/v1alpha1", "TrafficPolicy") => Some(Kind::TrafficPolicy),
        _ => None,
    }
}

/// What is kept of an object that was written down; none for an EndpointSlice of no Service.
pub(super) fn object(kind: Kind, value: Value, cluster_domain: &str) -> Result<Option<Object>, serde_json::Error> {
    Ok(match kind {
        Kind::Namespace => {
            let namespace: core::Namespace = serde_json::from_value(value)?;
            Some(Object::Namespace(Namespace::from_metadata(&namespace.metadata)))
        }
        Kind::Node => Some(Object::Node(Node::from_object(&from::<core::Node>(value)?))),
        Kind::Service => Some(Object::Service(Service::from_object(&from::<core::Service>(value)?))),
        Kind::EndpointSlice => Slice::from_object(&from::<discovery::EndpointSlice>(value)?).map(Object::EndpointSlice),
        Kind::Pod => Some(Object::Pod(Pod::from_object(&from::<core::Pod>(value)?))),
        Kind::ServiceProfile => Some(Object::ServiceProfile(service_profile(from(value)?, cluster_domain))),
        Kind::TrafficPolicy => Some(Object::TrafficPolicy(traffic_policy(from(value)?))),
    })
}

/// What a ServiceProfile declares, whatever its shape.
pub(super) fn service_profile(object: DynamicObject, cluster_domain: &str) -> Declared<Profile> {
    match typed::<ServiceProfile>(&object) {
        Ok(typed) => profile::parse(&typed, cluster_domain),
        Err(error) => misshapen(&object.metadata, &error),
    }
}

/// What a TrafficPolicy declares, whatever its shape. Targets that can be read are known even if nothing else can.
pub(super) fn traffic_policy(object: DynamicObject) -> TargetedPolicy {
    match typed::<TrafficPolicy>(&object) {
        Ok(typed) => policy::parse(&typed),
        Err(error) => {
            let spec = &object.data["spec"];
            let targets = match spec["targetRefs"].as_array() {
                Some(targets) => targets.iter().map(target).collect(),
                None => vec![PolicyTarget::Unreadable],
            };
            let blocks = Block::ALL.into_iter().filter(|(_, side, name)| may_have(spec, side, name));
            let sets = blocks.map(|(block, _, _)| block).collect();
            TargetedPolicy { targets, sets, policy: misshapen(&object.metadata, &error) }
        }
    }
}

fn target(value: &Value) -> PolicyTarget {
    from::<TargetRef>(value.clone()).map_or(PolicyTarget::Unreadable, |target| policy::target(&target))
}

/// Whether a policy's spec of the wrong shape has a block, as far as that can be told.
fn may_have(spec: &Value, side: &str, block: &str) -> bool {
    let in_side = |side: &Value| match side {
        Value::Null => false,
        Value::Object(blocks) => blocks.get(block).is_some_and(|block| !block.is_null()),
        _ => true,
    };
    spec.as_object().is_none_or(|spec| spec.get(side).is_some_and(in_side))
}

fn from<T: DeserializeOwned>(value: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(value)
}

fn typed<T: DeserializeOwned>(object: &DynamicObject) -> Result<T, serde_json::Error> {
    serde_json::to_value(object).and_then(from)
}

fn misshapen<T>(metadata: &ObjectMeta, error: &serde_json::Error) -> Declared<T> {
    let fault = Fault { path: "spec".into(), kind: FaultKind::Invalid, message: error.to_string() };
    Declared {
        name: ObjectName::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        ),
        generation: metadata.generation.unwrap_or_default(),
        created: created(metadata),
        value: None,
        faults: vec![fault],
    }
}
