//! What the discovery client counts, and how old what it holds is.

use super::ledger::Verdict;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The metrics of the discovery client; clones count into the same cells.
#[derive(Clone, Debug)]
pub struct Metrics {
    connected: Gauge,
    connects: Counter,
    failures: Counter,
    destinations: Gauge,
    updates: Family<UpdateLabels, Counter>,
    age: Age,
}

/// The label `result`.
type UpdateLabels = [(&'static str, &'static str); 1];

/// Since when the operator has not answered; none while it does.
#[derive(Clone, Debug)]
struct Age(Arc<Mutex<Option<Instant>>>);

impl Metrics {
    /// Counts from nothing; nothing has been heard of the operator since `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            connected: Gauge::default(),
            connects: Counter::default(),
            failures: Counter::default(),
            destinations: Gauge::default(),
            updates: Family::default(),
            age: Age(Arc::new(Mutex::new(Some(start)))),
        }
    }

    /// Exports the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("conduit_discovery_connected", "1 while the operator's stream is open, else 0", m.connected);
        registry.register("conduit_discovery_connects", "Streams that the operator accepted", m.connects);
        registry.register("conduit_discovery_connect_failures", "Attempts to open a stream that failed", m.failures);
        registry.register("conduit_discovery_destinations", "Destinations that are subscribed to", m.destinations);
        registry.register("conduit_discovery_updates", "Messages of the operator, by what became of them", m.updates);
        registry.register_collector(Box::new(m.age));
    }

    /// A stream was opened.
    pub(super) fn connected(&self) {
        self.connects.inc();
        self.connected.set(1);
        self.age.set(None);
    }

    /// The stream is gone.
    pub(super) fn disconnected(&self, now: Instant) {
        self.connected.set(0);
        self.age.set(Some(now));
    }

    /// No stream could be opened.
    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    /// How many destinations are subscribed to.
    pub(super) fn destinations(&self, count: usize) {
        self.destinations.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A message was dealt with.
    pub(super) fn update(&self, verdict: &Verdict) {
        let result = match verdict {
            Verdict::Applied => "applied",
            Verdict::Rejected(_) => "rejected",
            Verdict::Invalid(_) => "invalid",
            Verdict::Stale => "stale",
        };
        self.updates.get_or_create(&[("result", result)]).inc();
    }
}

impl Age {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = ConstGauge::new(since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        let help = "How long ago the configuration in force was last known to be the newest, 0 while it is.";
        age.encode(encoder.encode_descriptor("conduit_config_age_seconds", help, None, age.metric_type())?)
    }
}
