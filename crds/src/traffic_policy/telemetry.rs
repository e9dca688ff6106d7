//! What proxies tell of the traffic of a TrafficPolicy's targets.

use crate::scalar::{Duration, Percentage};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What proxies tell of the targets' traffic. At least one field is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Telemetry {
    /// A line per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Spans of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Which labels metrics have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

/// A line per request.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Whether lines are written.
    pub enabled: bool,
    /// How; `JSON` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<AccessLogFormat>,
    /// Which requests; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<AccessLogFilter>,
}

/// How a line is written.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum AccessLogFormat {
    #[default]
    JSON,
    Apache,
}

/// Which requests get a line: those that meet one of the fields; at least one is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct AccessLogFilter {
    /// An HTTP status of at least this, 100 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 599))]
    pub min_status: Option<u16>,
    /// At least this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_duration: Option<Duration>,
}

/// Spans of requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Share of the requests that start a trace; one that the caller started is followed.
    pub sampling_percent: Percentage,
}

/// Which labels metrics have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// The labels to keep.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63), regex(pattern = "^[a-z_][a-z0-9_]*$")))]
    pub labels: Vec<String>,
}
