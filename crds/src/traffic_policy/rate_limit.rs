//! Rate limits of a TrafficPolicy that each proxy keeps on its own.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests a client may send.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundRateLimit {
    /// Counted by each client's proxy on its own.
    pub local: Rate,
}

/// How many requests the targets' pods take.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundRateLimit {
    /// Counted by each pod's proxy on its own; a request must be within every one that it counts for.
    #[schemars(length(min = 1, max = 16))]
    pub local: Vec<LocalRateLimit>,
}

/// A number of requests over a time.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// Requests per unit, 1 to 1,000,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u32,
    /// The time that they are counted over.
    pub unit: RateUnit,
    /// Requests that may come at once beyond the even rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub burst: Option<u32>,
}

/// The time that requests are counted over.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RateUnit {
    #[default]
    Second,
    Minute,
    Hour,
}

/// A rate, and what it is counted by.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalRateLimit {
    /// Name of the limit, for metrics and for the error that a refused client gets.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Requests per unit, 1 to 1,000,000,000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u32,
    /// The time that they are counted over.
    pub unit: RateUnit,
    /// Requests that may come at once beyond the even rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub burst: Option<u32>,
    /// Requests are counted apart for each combination of these; together if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub key: Option<Vec<RateKey>>,
}

/// Something that requests are told apart by.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(self.type == 'Header') == has(self.name)", "name must be set for type Header, and for no other"))]
pub struct RateKey {
    /// What it is.
    #[serde(rename = "type")]
    pub source: RateKeySource,
    /// Name of the header, for type `Header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))]
    pub name: Option<String>,
}

/// What requests are told apart by.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum RateKeySource {
    #[default]
    Principal,
    Header,
    Path,
    Method,
}
