//! What clients do when they call the targets of a TrafficPolicy. The producer's policy; a consumer may override it in
//! its own namespace.

use super::{
    balance::{CircuitBreaker, LoadBalancer, OutlierDetection, SessionPersistence},
    protocol::ProtocolBlock,
    rate_limit::OutboundRateLimit,
    retry::{Retry, RetryConstraint},
};
use crate::scalar::{Duration, Percentage};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What clients do when they call the targets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// What the targets speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolBlock>,

    /// Whether connections are encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<OutboundTls>,

    /// How long things may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,

    /// Which requests are sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// How much load retries may add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_constraint: Option<RetryConstraint>,

    /// Which endpoint a request goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,

    /// Whether a client's session stays at one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,

    /// How much may be open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,

    /// Which endpoints are left out for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,

    /// Faults to inject on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault_injection: Option<FaultInjection>,

    /// How many requests may be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<OutboundRateLimit>,

    /// Ordered: the first that matches a response says whether it is a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub response_classification: Option<Vec<ResponseClassification>>,
}

/// Whether connections are encrypted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundTls {
    /// `Require` refuses what cannot be encrypted, `Prefer` lets it pass in plaintext, `Disable` never encrypts.
    pub mode: OutboundTlsMode,
}

/// When connections are encrypted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum OutboundTlsMode {
    Require,
    #[default]
    Prefer,
    Disable,
}

/// How long things may take; no limit where absent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.request) || !has(self.backendRequest) || duration(self.backendRequest) <= duration(self.request)",
    "backendRequest must not be longer than request"
))]
pub struct Timeouts {
    /// A request with all its retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One try of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
    /// A connection on which no byte moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// Until a connection is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
}

/// Faults to inject on purpose.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.delay) || has(self.abort)", "must set at least one of delay, abort"))]
pub struct FaultInjection {
    /// Which requests; all if absent.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<FaultMatch>,
    /// Hold the request for a while.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answer in place of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
}

/// Which requests get a fault.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultMatch {
    /// Headers that the request must have, every one.
    #[schemars(length(min = 1, max = 16))]
    pub headers: Vec<HeaderMatch>,
}

/// A header with its value.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Name, in any case.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: String,
    /// Value, exactly.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// Hold a request for a while.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultDelay {
    /// How long.
    pub fixed_delay: Duration,
    /// Share of the requests.
    pub percentage: Percentage,
}

/// Answer in place of the target.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "has(self.httpStatus) || has(self.grpcStatus)",
    "must set at least one of httpStatus, grpcStatus"
))]
pub struct FaultAbort {
    /// Status for HTTP requests, 200 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 599))]
    pub http_status: Option<u16>,
    /// Status for gRPC requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<super::retry::GrpcCode>,
    /// Share of the requests.
    pub percentage: Percentage,
}

/// Whether responses with some statuses are failures.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseClassification {
    /// HTTP statuses, 100 to 599.
    #[schemars(length(min = 1, max = 32), inner(range(min = 100, max = 599)))]
    pub codes: Vec<u16>,
    /// Whether they are failures.
    pub is_failure: bool,
}
