//! What the discovery server counts.

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
    }

    pub(super) fn update(&self, resource: UpdateKind) {
        self.updates.get_or_create(&UpdateLabels { resource }).inc();
    }
}
