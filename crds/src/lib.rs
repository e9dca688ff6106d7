//! What users write: the types of `ServiceProfile` and `TrafficPolicy`, the rules that the API server enforces on them,
//! and the CustomResourceDefinitions that carry both.
//!
//! The Rust types are the only truth; the YAML of the chart is generated from them. Nothing here talks to a cluster, and
//! nothing here knows what a proxy makes of an object: values are kept as users wrote them and parsed by the operator.
// The derive of `KubeSchema` copies each type into a function to read its schema from.
#![allow(unreachable_pub)]
// Its printer columns are told apart by their names; clippy looks at what else they have in common.
#![allow(clippy::duplicated_attributes)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod definitions;
pub mod scalar;
mod schema;
pub mod service_profile;
pub mod traffic_policy;

pub use definitions::definitions;
pub use service_profile::{ServiceProfile, ServiceProfileSpec, ServiceProfileStatus};
pub use traffic_policy::{TrafficPolicy, TrafficPolicySpec, TrafficPolicyStatus};

/// The API group of both kinds.
pub const GROUP: &str = "conduit.io";
/// Their only version so far.
pub const VERSION: &str = "v1alpha1";
