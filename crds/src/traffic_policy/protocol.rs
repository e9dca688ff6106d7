//! What a target speaks.

use crate::scalar::Duration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The protocol of a target's ports, in place of what their Service says or their bytes show.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProtocolBlock {
    /// `TLS` and `Opaque` pass through unread; `Detect` looks at the first bytes.
    #[serde(rename = "type")]
    pub protocol: ProtocolType,

    /// How long the first bytes are waited for before the server may speak first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_timeout: Option<Duration>,
}

/// The protocols that can be declared.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ProtocolType {
    HTTP1,
    HTTP2,
    GRPC,
    TLS,
    Opaque,
    #[default]
    Detect,
}
