//! What the webhooks count. Must not know how an answer comes about.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{fmt, time::Duration};

/// Seconds; the API server waits for five.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Which webhook was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Webhook {
    Inject,
    Validate,
}

/// How it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// A pod got a proxy.
    Injected,
    /// A pod was left as it is.
    Skipped,
    /// An object is well written.
    Allowed,
    /// An object or a pod was refused, with what to change.
    Denied,
    /// What came was no review.
    Malformed,
    /// No decision could be made.
    Failed,
}

impl EncodeLabelValue for Webhook {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Inject => "inject",
            Self::Validate => "validate",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Injected => "injected",
            Self::Skipped => "skipped",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    webhook: Webhook,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LatencyLabels {
    webhook: Webhook,
}

/// The metrics of this room.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    latency: Family<LatencyLabels, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self { requests: Family::default(), latency: Family::new_with_constructor(histogram) }
    }
}

impl Metrics {
    /// Declares the metrics in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests of the API server to the webhooks, by how they were answered";
        registry.register("conduit_admission_requests", help, self.requests.clone());
        let help = "Time that an answer of a webhook took";
        registry.register_with_unit("conduit_admission_latency", help, Unit::Seconds, self.latency.clone());
    }

    pub(super) fn record(&self, webhook: Webhook, outcome: Outcome, took: Duration) {
        self.requests.get_or_create(&RequestLabels { webhook, outcome }).inc();
        self.latency.get_or_create(&LatencyLabels { webhook }).observe(took.as_secs_f64());
    }
}
