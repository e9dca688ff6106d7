//! Who may call the pods of a TrafficPolicy's targets.

use crate::scalar::Cidr;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may call. A request that meets a rule with action `Deny` is refused, whatever else it meets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.defaultAction) || has(self.rules)",
    "defaultAction must be set only together with rules"
))]
pub struct Authorization {
    /// What happens to a request that meets no rule; `Deny` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,

    /// In no order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub rules: Option<Vec<AccessRule>>,

    /// Whether the kubelet's probes pass whatever the rules say; `Allow` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Action>,
}

/// What happens to a request.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Action {
    Allow,
    Deny,
}

/// Some requests, and what happens to them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.from) || has(self.to)", "must set at least one of from, to"))]
pub struct AccessRule {
    /// What happens to them.
    pub action: Action,
    /// Who calls: any of these; anyone if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub from: Option<Vec<Caller>>,
    /// What is called: any of these; anything if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub to: Option<Vec<Callee>>,
}

/// Who calls. Several fields together must all be met; at least one is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Caller {
    /// One of these service accounts, proven by mTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub service_accounts: Option<Vec<ServiceAccount>>,
    /// One of these SPIFFE identities, proven by mTLS; `*` stands for the last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 2048), regex(pattern = "^spiffe://[^*/]+(/[^*/]+)*(/\\*)?$"))
    )]
    pub spiffe: Option<Vec<String>>,
    /// One of these namespaces, proven by mTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    pub namespaces: Option<Vec<String>>,
    /// An address in one of these blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub ip_blocks: Option<Vec<IpBlock>>,
}

/// A service account.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Its namespace; the policy's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A block of addresses with holes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpBlock {
    /// Such as `10.0.0.0/8` or `fd00::/8`.
    pub cidr: Cidr,
    /// Blocks within it that do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub except: Option<Vec<Cidr>>,
}

/// What is called. Several fields together must all be met; at least one is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Callee {
    /// One of these ports of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Option<Vec<u16>>,
    /// One of these methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 64), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    pub methods: Option<Vec<String>>,
    /// One of these paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub paths: Option<Vec<PathMatch>>,
    /// One of these hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub hosts: Option<Vec<String>>,
    /// A gRPC service, or one of its methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcMatch>,
}

/// A path of a request, without its query.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// Whether `value` is the whole path or its first parts.
    #[serde(rename = "type")]
    pub kind: PathMatchKind,
    /// The path.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub value: String,
}

/// How a path is compared.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PathMatchKind {
    Exact,
    PathPrefix,
}

/// A gRPC service, or one of its methods.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMatch {
    /// Full name of the service, such as `shop.v1.Cart`.
    #[schemars(length(min = 1, max = 1024))]
    pub service: String,
    /// Name of the method; all of them if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub method: Option<String>,
}
