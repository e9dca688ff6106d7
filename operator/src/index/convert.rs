//! From the objects of the API server, or of manifests, to what is kept of them.
//!
//! Objects of Conduit's own kinds come as they are, so that one that does not even have the shape that its schema asks
//! for becomes an unreadable value with its fault, like any other that slipped past admission.

use super::{
    created,
    declared::{Declared, Profile, TargetedPolicy},
    fault::{Fault, FaultKind},
    name::ObjectName,
    namespace::Namespace,
    object::{Kind, Object},
    pod::Pod,
    policy, profile,
    service::Service,
    slice::Slice,
};
use conduit_crds::{ServiceProfile, TrafficPolicy, TrafficPolicySpec, traffic_policy::TargetRef};
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
            let targets = object.data["spec"]["targetRefs"].as_array().into_iter().flatten();
            let target_refs = targets.filter_map(|target| from::<TargetRef>(target.clone()).ok()).collect();
            let metadata = object.metadata;
            let policy = misshapen(&metadata, &error);
            let spec = TrafficPolicySpec { target_refs, ..TrafficPolicySpec::default() };
            let targets = policy::parse(&TrafficPolicy { metadata, spec, status: None }).targets;
            TargetedPolicy { targets, policy }
        }
    }
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
