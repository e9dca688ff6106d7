//! Endpoints of a TrafficPolicy: which one a request goes to, how much may be open to them, which are left out.

use crate::scalar::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which endpoint a request goes to.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.consistentHash) == (has(self.type) && self.type == 'ConsistentHash')",
    "consistentHash must be set for type ConsistentHash, and for no other"
))]
pub struct LoadBalancer {
    /// `PeakEWMA` if absent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// What decides, for type `ConsistentHash`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// Whether a new endpoint gets its share little by little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Whether near endpoints come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
}

/// How an endpoint is chosen.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Algorithm {
    #[default]
    PeakEWMA,
    LeastRequest,
    RoundRobin,
    Random,
    ConsistentHash,
}

/// What decides which endpoint requests go to together.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(self.type == 'Header') == has(self.header)", "header must be set for type Header, and for no other"),
    validation = ("(self.type == 'Cookie') == has(self.cookie)", "cookie must be set for type Cookie, and for no other")
)]
pub struct ConsistentHash {
    /// What is hashed.
    #[serde(rename = "type")]
    pub source: HashSource,
    /// The header that is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Named>,
    /// The cookie that is hashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Named>,
}

/// What is hashed.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum HashSource {
    Header,
    Cookie,
    SourceIP,
}

/// A header or a cookie.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// Its name.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
}

/// How a new endpoint gets its share.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowStart {
    /// How long until it has all of it.
    pub window: Duration,
}

/// Whether near endpoints come first.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Locality {
    /// Which ones come first.
    pub mode: LocalityMode,
    /// Load of the near endpoints, in percent of an even share, from which the others are used too; 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub spill_at_load: Option<u8>,
}

/// Which endpoints come first.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum LocalityMode {
    Disabled,
    PreferSameZone,
}

/// Whether a client's session stays at one endpoint, as Gateway API's `SessionPersistence`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.cookie) || self.type == 'Cookie'", "cookie must be set for type Cookie only"),
    validation = (
        "!has(self.cookie) || self.cookie.lifetimeType != 'Permanent' || has(self.absoluteTimeout)",
        "absoluteTimeout must be set where the cookie's lifetimeType is Permanent"
    )
)]
pub struct SessionPersistence {
    /// What names the session.
    #[serde(rename = "type")]
    pub carrier: SessionCarrier,
    /// The cookie, for type `Cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<SessionCookie>,
    /// How long a session stays at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<Duration>,
    /// How long a session stays without a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}

/// What names a session.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SessionCarrier {
    Cookie,
    Header,
}

/// The cookie of a session.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCookie {
    /// Whether the browser keeps it past its own end.
    pub lifetime_type: CookieLifetime,
}

/// How long a browser keeps a cookie.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CookieLifetime {
    Session,
    Permanent,
}

/// How much one proxy may have open to the targets at once; no limit where absent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_parallel_requests: Option<u32>,
    /// Retries in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_parallel_retries: Option<u32>,
}

/// Which endpoints are left out for a while.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.baseEjectionTime) || !has(self.maxEjectionTime) || \
     duration(self.baseEjectionTime) <= duration(self.maxEjectionTime)",
    "maxEjectionTime must not be shorter than baseEjectionTime"
))]
pub struct OutlierDetection {
    /// Failures in a row after which an endpoint is left out, 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_errors: Option<u32>,
    /// The success rate under which an endpoint is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// How long it is left out the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Duration>,
    /// How long it is left out at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ejection_time: Option<Duration>,
    /// How many of the endpoints may be left out, in percent, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<u8>,
    /// Whether a failure makes an endpoint look slow to the balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_penalty: Option<FailurePenalty>,
}

/// The success rate under which an endpoint is left out.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// From `"0"` to `"1"`.
    #[schemars(length(min = 1, max = 6), regex(pattern = "^(0(\\.[0-9]{1,4})?|1(\\.0{1,4})?)$"))]
    pub threshold: String,
    /// Over which time.
    pub window: Duration,
    /// Below how many requests in that time nothing is concluded, 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: Option<u32>,
}

/// Whether a failure makes an endpoint look slow.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailurePenalty {
    /// Whether it does.
    pub enabled: bool,
    /// Whether a response's `Retry-After` says for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub honor_retry_after: Option<bool>,
    /// The longest `Retry-After` that is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retry_after: Option<Duration>,
}
