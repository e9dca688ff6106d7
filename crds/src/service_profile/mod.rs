//! `ServiceProfile`: the routes of one Service, by name. Field for field the one that Linkerd's users know.

pub mod condition;

pub use condition::{RequestMatch, ResponseMatch, StatusRange};

use crate::scalar::Weight;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// Most routes of one profile.
pub const MAX_ROUTES: usize = 256;
/// Most response classes of one route.
pub const MAX_RESPONSE_CLASSES: usize = 16;
/// Longest name of a route, in characters.
pub const MAX_ROUTE_NAME: usize = 253;
/// Longest duration as text, in characters.
pub const MAX_DURATION: usize = 32;
/// Most destinations that traffic is split over.
pub const MAX_DST_OVERRIDES: usize = 32;
/// Longest `authority`, in characters: a DNS name, a colon and a port.
pub const MAX_AUTHORITY: usize = 259;
/// Most items of `opaquePorts`.
pub const MAX_OPAQUE_PORTS: usize = 64;

/// A duration as Go writes it: `1h30m`, `1.5s`, `250ms`.
const GO_DURATION: &str = "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$";
/// The same, or nothing.
const OPTIONAL_GO_DURATION: &str = "^(([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)?$";

/// What clients of one Service should know of it: its routes, which of their responses are failures, which may be
/// retried.
///
/// Its name is the Service's: `<service>.<namespace>.svc.<cluster domain>`. In the Service's own namespace it is for all
/// clients; in another namespace it is for the clients there, and taken whole in place of the former.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "conduit.io",
    version = "v1alpha1",
    kind = "ServiceProfile",
    plural = "serviceprofiles",
    shortname = "sp",
    namespaced,
    status = "ServiceProfileStatus",
    derive = "PartialEq",
    cel,
    doc = "The routes of one Service, by name.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Accepted")].status"#,
        description = "Whether the profile is understood in full"
    ),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="ResolvedRefs")].status"#,
        description = "Whether the Service exists"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Programmed")].message"#,
        description = "How many of the proxies that subscribe to it have taken it"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProfileSpec {
    /// Ordered: a request takes the first route whose condition it meets; one that meets none counts for `[DEFAULT]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_ROUTES))]
    pub routes: Option<Vec<RouteSpec>>,

    /// How many retries may be added to the original requests. Without one nothing is retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,

    /// Where the traffic goes in place of the Service, by weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_DST_OVERRIDES))]
    pub dst_overrides: Option<Vec<WeightedDst>>,

    /// Ports of the Service whose bytes pass through unread: numbers, and ranges such as `4000-4010`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = MAX_OPAQUE_PORTS),
        inner(length(max = 11), regex(pattern = "^[0-9]{1,5}(-[0-9]{1,5})?$"))
    )]
    pub opaque_ports: Option<Vec<String>>,
}

/// One named route.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteSpec {
    /// Value of the metric label `rt_route`; no two routes of a profile have the same.
    #[schemars(length(min = 1, max = MAX_ROUTE_NAME))]
    pub name: String,

    /// Which requests take the route.
    pub condition: RequestMatch,

    /// Ordered: the first class whose condition a response meets says whether it is a failure. A response that meets
    /// none is judged by its gRPC status, then as a failure if its status is 5xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_RESPONSE_CLASSES))]
    pub response_classes: Option<Vec<ResponseClass>>,

    /// Whether a request that failed may be sent again, within `retryBudget`. False if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_retryable: Option<bool>,

    /// How long a request may take, all its retries included, such as `300ms`. No timeout if empty or absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_DURATION), regex(pattern = OPTIONAL_GO_DURATION))]
    pub timeout: Option<String>,
}

/// Whether a kind of response is a failure.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseClass {
    /// Which responses it is about.
    pub condition: ResponseMatch,

    /// Whether they are failures. False if absent: they are successes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_failure: Option<bool>,
}

/// How many retries a client may add.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries per original request, 0 to 1000: 0.2 adds at most a fifth to the load.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub retry_ratio: f64,

    /// Retries per second that are allowed on top of the ratio.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub min_retries_per_second: u32,

    /// How long an original request counts towards the ratio, 1s to 60s.
    #[schemars(length(min = 1, max = MAX_DURATION), regex(pattern = GO_DURATION))]
    #[x_kube(validation = (
        "duration(self) >= duration('1s') && duration(self) <= duration('60s')",
        "must be a duration from 1s to 60s"
    ))]
    pub ttl: String,
}

/// A destination and its share of the traffic.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedDst {
    /// `host` or `host:port`; the port is the request's where it is absent.
    #[schemars(
        length(min = 1, max = MAX_AUTHORITY),
        regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?\\.?(:[0-9]{1,5})?$")
    )]
    pub authority: String,

    /// The share, relative to the sum of all.
    pub weight: Weight,
}

/// What became of the profile.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProfileStatus {
    /// `Accepted`: understood in full. `ResolvedRefs`: the Service exists. `Programmed`: the proxies that subscribe to
    /// it have taken it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
