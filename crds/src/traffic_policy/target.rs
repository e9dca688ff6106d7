//! What a TrafficPolicy is for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{borrow::Cow, fmt};

/// An object, or a set of pods, in the policy's own namespace.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "self.kind in ['HTTPRoute', 'GRPCRoute'] ? has(self.group) && self.group == 'gateway.networking.k8s.io' : \
         self.kind == 'ServiceProfile' ? has(self.group) && self.group == 'conduit.io' : !has(self.group) || self.group == ''",
        "group must be the kind's: empty for Service, Pod and Namespace, gateway.networking.k8s.io for HTTPRoute and \
         GRPCRoute, conduit.io for ServiceProfile"
    ),
    validation = ("(self.kind in ['Pod', 'Namespace']) != has(self.name)", "name must be set, but for Pod and Namespace"),
    validation = ("(self.kind == 'Pod') == has(self.selector)", "selector must be set for Pod, and for no other kind"),
    validation = (
        "!has(self.sectionName) || !(self.kind in ['Pod', 'Namespace'])",
        "sectionName must not be set for Pod and Namespace"
    )
)]
pub struct TargetRef {
    /// API group of the kind; empty for Kubernetes' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,

    /// Kind of the object. `Namespace` is the policy's own.
    pub kind: TargetKind,

    /// Name of the object; absent for `Pod` and `Namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// A part of the object: the name of a Service's port, the name of a route's rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,

    /// Which pods, for kind `Pod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<PodSelector>")]
    pub selector: Option<LabelSelector>,
}

/// The kinds that a policy can be for.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum TargetKind {
    Namespace,
    #[default]
    Service,
    Pod,
    HTTPRoute,
    GRPCRoute,
    ServiceProfile,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The schema of a label selector with maxima, which Kubernetes' own has not.
struct PodSelector;

impl JsonSchema for PodSelector {
    fn schema_name() -> Cow<'static, str> {
        "PodSelector".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |max: u32| json!({"type": "string", "maxLength": max});
        crate::schema::schema(json!({
            "description": "A label selector, of which every requirement must be met.",
            "type": "object",
            "minProperties": 1,
            "properties": {
                "matchLabels": {
                    "description": "Labels with their values.",
                    "type": "object", "minProperties": 1, "maxProperties": 16, "additionalProperties": text(63),
                },
                "matchExpressions": {
                    "description": "Requirements on labels.",
                    "type": "array", "minItems": 1, "maxItems": 16,
                    "items": {
                        "type": "object",
                        "required": ["key", "operator"],
                        "properties": {
                            "key": text(317),
                            "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                            "values": {"type": "array", "maxItems": 32, "items": text(63)},
                        },
                    },
                },
            },
        }))
    }
}
