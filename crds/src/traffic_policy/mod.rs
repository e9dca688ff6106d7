//! `TrafficPolicy`: what proxies do with the traffic of the objects that a policy targets.
//!
//! An inherited policy in the sense of GEP-713. From the widest target to the narrowest: `Namespace`, `Service`, a port of
//! a Service, `HTTPRoute`, `GRPCRoute` or `ServiceProfile`, one of their rules; `Pod` for inbound alone. Each block directly
//! under `outbound`, `inbound` and `telemetry` is taken whole from the narrowest policy that has it; among equals the oldest
//! policy wins, then the first by namespace and name.

pub mod authorization;
pub mod balance;
pub mod inbound;
pub mod outbound;
pub mod protocol;
pub mod rate_limit;
pub mod retry;
pub mod status;
pub mod target;
pub mod telemetry;

pub use inbound::Inbound;
pub use outbound::Outbound;
pub use protocol::{ProtocolBlock, ProtocolType};
pub use status::{ParentReference, PolicyAncestorStatus, TrafficPolicyStatus};
pub use target::{TargetKind, TargetRef};
pub use telemetry::Telemetry;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most targets of one policy.
pub const MAX_TARGETS: usize = 16;

/// What proxies do with the traffic of the objects in `targetRefs`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "conduit.io",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    shortname = "tp",
    namespaced,
    status = "TrafficPolicyStatus",
    derive = "PartialEq",
    cel,
    doc = "What proxies do with the traffic of the objects that the policy targets.",
    label("gateway.networking.k8s.io/policy", "Inherited"),
    printcolumn(
        name = "Target",
        type_ = "string",
        json_path = ".spec.targetRefs[0].kind",
        description = "Kind of the first target"
    ),
    printcolumn(
        name = "Name",
        type_ = "string",
        json_path = ".spec.targetRefs[0].name",
        description = "Name of the first target"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="Accepted")].status"#,
        description = "Whether the policy is understood in full"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.ancestors[0].conditions[?(@.type=="Programmed")].message"#,
        description = "How many of the proxies that it is for have taken it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.outbound) || has(self.inbound) || has(self.telemetry)",
        "must set at least one of outbound, inbound, telemetry"
    ),
    validation = (
        "!self.targetRefs.exists(t, t.kind == 'Pod') || (has(self.inbound) && !has(self.outbound))",
        "a target of kind Pod is for inbound only: must set inbound and not outbound"
    )
)]
pub struct TrafficPolicySpec {
    /// What the policy is for, in its own namespace.
    #[schemars(length(min = 1, max = MAX_TARGETS))]
    pub target_refs: Vec<TargetRef>,

    /// `Enforce` if absent. `Audit` counts and logs what the policy would do, and changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// What clients do when they call the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,

    /// What the targets' own pods do when they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,

    /// What proxies tell of the targets' traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Telemetry>,
}

/// Whether a policy acts.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Mode {
    #[default]
    Enforce,
    Audit,
}
