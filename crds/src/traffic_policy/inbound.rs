//! What the pods of a TrafficPolicy's targets do when they are called.

use super::{authorization::Authorization, protocol::ProtocolBlock, rate_limit::InboundRateLimit};
use crate::scalar::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the targets' own pods do when they are called.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// Whether connections must be encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,

    /// What the pods speak.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolBlock>,

    /// Who may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,

    /// How many requests are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<InboundRateLimit>,

    /// How much may be open at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Whether connections must be encrypted.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mtls {
    /// `STRICT` serves verified peers alone, `PERMISSIVE` others too, `DISABLE` has peers send plaintext.
    pub mode: MtlsMode,
}

/// When connections must be encrypted, in Istio's words.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum MtlsMode {
    Strict,
    #[default]
    Permissive,
    Disable,
}

/// How much may be open to one pod at once; no limit where absent.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Bytes of a request's headers, 1024 to 1 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_request_header_bytes: Option<u32>,
    /// Streams of one HTTP/2 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_concurrent_streams: Option<u32>,
    /// How long a connection stays on which no byte moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}
