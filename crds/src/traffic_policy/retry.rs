//! Retries of a TrafficPolicy: the names of HTTPRoute's `retry` and of Gateway API's `XBackendTrafficPolicy`.

use crate::scalar::{Duration, Percentage};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which requests are sent again.
///
/// Without `methods` only idempotent ones are, so that `attempts` alone never repeats what may not be repeated.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "!has(self.backoff) || !has(self.maxBackoff) || duration(self.backoff) <= duration(self.maxBackoff)",
    "maxBackoff must not be shorter than backoff"
))]
pub struct Retry {
    /// How often a request may be sent again, 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u8>,

    /// HTTP statuses that are worth another try, 400 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(range(min = 400, max = 599)))]
    pub codes: Option<Vec<u16>>,

    /// gRPC statuses that are worth another try.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub grpc_codes: Option<Vec<GrpcCode>>,

    /// How long the first retry waits; each further one waits longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,

    /// How long a retry waits at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Duration>,

    /// What else is worth another try. Not `on`: YAML 1.1, which kubectl reads, takes that for `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 3))]
    pub retry_on: Option<Vec<RetryOn>>,

    /// The methods that may be sent again; GET, HEAD, OPTIONS, PUT and DELETE if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 64), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
    )]
    pub methods: Option<Vec<String>>,

    /// Largest request that is kept to be sent again, in bytes, at most 1 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_048_576))]
    pub max_request_bytes: Option<u32>,
}

/// What else than a status is worth another try.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RetryOn {
    ConnectFailure,
    RefusedStream,
    Timeout,
}

/// The statuses of gRPC that are errors.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum GrpcCode {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// How much load retries may add.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryConstraint {
    /// The part of the requests that may be retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
    /// What is allowed whatever the budget says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_retry_rate: Option<RetryRate>,
}

/// The part of the requests that may be retries.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries as a share of the original requests; 20 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percentage>,
    /// Over which time they are counted, 1s to 60s; 10s if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = (
        "duration(self) >= duration('1s') && duration(self) <= duration('60s')",
        "must be a duration from 1s to 60s"
    ))]
    pub interval: Option<Duration>,
}

/// A number of retries over a time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryRate {
    /// How many, 1 to 1,000,000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub count: u32,
    /// Over which time.
    pub interval: Duration,
}
