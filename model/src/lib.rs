//! What a proxy is told: the discovery contract, the typed configuration that both sides share, and the pure decisions
//! on it.
//!
//! The operator compiles Kubernetes objects to these types; the proxy acts on them. Nothing here knows Kubernetes'
//! API, does I/O or reads a clock.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod admission;
pub mod class;
pub mod endpoint;
mod endpoint_set;
pub mod inbound;
pub mod mtls;
pub mod outbound;
mod port_range;
pub mod protocol;
pub mod route;
pub mod settings;
pub mod spiffe;
pub mod target;
pub mod version;
pub mod wire;
pub mod workload;

pub use admission::Admission;
pub use class::{Classification, GrpcOutcome, ResponseClass, ResponseMatch, classify};
pub use endpoint::{Endpoint, EndpointProxy, EndpointUpdate};
pub use endpoint_set::{Difference, EndpointSet};
pub use inbound::{Inbound, InboundPort, InboundService, Network, Probe};
pub use mtls::{InboundMtls, InboundMtlsMode, OutboundTls, OutboundTlsMode, Transport};
pub use outbound::{DirectReason, Forward, Outbound, ServicePort};
pub use port_range::PortRange;
pub use protocol::Protocol;
pub use route::{ObjectRef, PathRegex, RequestMatch, Route};
pub use spiffe::{IdentityError, SpiffeId, TrustDomain};
pub use target::Target;
pub use version::Version;
pub use wire::WireError;
pub use workload::{Workload, WorkloadKind};
