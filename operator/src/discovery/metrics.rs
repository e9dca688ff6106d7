//! What the discovery server counts.

use crate::credential::HandshakeRefusal;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// The metrics of the discovery server. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) streams: Gauge,
    pub(super) subscriptions: Gauge,
    pub(super) updates: Family<UpdateLabels, Counter>,
    pub(super) acks: Counter,
    pub(super) nacks: Counter,
    pub(super) recompiles: Counter,
    connections_refused: Family<ConnectionLabels, Counter>,
    requests_refused: Family<RequestLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UpdateLabels {
    pub resource: UpdateKind,
}

/// What an update was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub(super) enum UpdateKind {
    inbound,
    outbound,
    endpoints,
    invalid,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    reason: ConnectionRefusal,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
enum ConnectionRefusal {
    no_roots,
    no_certificate,
    not_valid_now,
    untrusted,
    no_workload,
    handshake,
    timeout,
    too_many,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    reason: RequestRefusal,
}

/// Why a proxy's stream was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
pub(super) enum RequestRefusal {
    expired,
    unreadable,
    incomplete,
    too_many,
}

impl Metrics {
    /// Puts the metrics into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("conduit_discovery_streams", "Open discovery streams", self.streams.clone());
        registry.register(
            "conduit_discovery_subscriptions",
            "Targets that the open streams subscribe to",
            self.subscriptions.clone(),
        );
        registry.register("conduit_discovery_updates", "Updates sent to proxies", self.updates.clone());
        registry.register("conduit_discovery_acks", "Updates that proxies applied", self.acks.clone());
        registry.register("conduit_discovery_nacks", "Updates that proxies refused", self.nacks.clone());
        registry.register(
            "conduit_discovery_recompiles",
            "Compilations of a configuration or a set of endpoints",
            self.recompiles.clone(),
        );
        registry.register(
            "conduit_discovery_connections_refused",
            "Connections of clients that did not prove a workload of the mesh",
            self.connections_refused.clone(),
        );
        registry.register(
            "conduit_discovery_requests_refused",
            "Streams that were refused, or ended for what the proxy sent",
            self.requests_refused.clone(),
        );
    }

    /// A connection was not taken, and why.
    pub fn connection_refused(&self, refusal: &HandshakeRefusal) {
        let reason = match refusal {
            HandshakeRefusal::NoRoots => ConnectionRefusal::no_roots,
            HandshakeRefusal::NoCertificate => ConnectionRefusal::no_certificate,
            HandshakeRefusal::NotValidNow(_) => ConnectionRefusal::not_valid_now,
            HandshakeRefusal::Untrusted(_) => ConnectionRefusal::untrusted,
            HandshakeRefusal::NoWorkload(_) => ConnectionRefusal::no_workload,
            HandshakeRefusal::Handshake(_) => ConnectionRefusal::handshake,
            HandshakeRefusal::Timeout => ConnectionRefusal::timeout,
            HandshakeRefusal::TooMany => ConnectionRefusal::too_many,
        };
        self.connections_refused.get_or_create(&ConnectionLabels { reason }).inc();
    }

    pub(super) fn refused(&self, reason: RequestRefusal) {
        self.requests_refused.get_or_create(&RequestLabels { reason }).inc();
    }

    pub(super) fn update(&self, resource: UpdateKind) {
        self.updates.get_or_create(&UpdateLabels { resource }).inc();
    }
}
