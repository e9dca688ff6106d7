//! What the proxy exports of its certificate, under the names that Linkerd's proxy has for it.

use super::holder::Identity;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Exports what `identity` is at each scrape.
pub fn register(identity: &Arc<Identity>, registry: &mut Registry) {
    registry.register_collector(Box::new(Exported(identity.clone())));
}

#[derive(Debug)]
struct Exported(Arc<Identity>);

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (credentials, progress) = (self.0.credentials(), self.0.progress().borrow().clone());
        for (name, help, time) in [
            (
                "identity_cert_expiration_timestamp_seconds",
                "When the certificate of this proxy expires, since the Unix epoch.",
                credentials.map(|credentials| credentials.not_after()),
            ),
            (
                "identity_cert_refresh_timestamp_seconds",
                "When this proxy last got a certificate, since the Unix epoch.",
                progress.certified,
            ),
        ] {
            if let Some(time) = time {
                let metric = ConstGauge::new(seconds(time));
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
            }
        }
        for (name, help, count) in [
            ("identity_cert_refreshes", "Certificates that this proxy got.", progress.certificates),
            ("conduit_identity_certify_failures", "Attempts to get a certificate that failed.", progress.failures),
        ] {
            let metric = ConstCounter::new(count);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
