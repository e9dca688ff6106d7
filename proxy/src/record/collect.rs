//! The metrics as the registry encodes them.

use super::{
    Metrics,
    series::{Counter, Family, Gauge, Histogram, Metric},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use std::{collections::HashMap, fmt, sync::Arc, time::Instant};

/// A metric that knows how it is written.
trait Encode: Metric {
    const TYPE: MetricType;
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result;
}

impl Encode for Counter {
    const TYPE: MetricType = MetricType::Counter;
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_counter::<NoLabelSet, _, u64>(&self.value(), None)
    }
}

impl Encode for Gauge {
    const TYPE: MetricType = MetricType::Gauge;
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.value())
    }
}

impl Encode for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets: Vec<_> = self.buckets().collect();
        // From the same look as the buckets, so that the two agree.
        let count = buckets.iter().map(|(_, count)| count).sum();
        let no_exemplars: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(self.sum_ms(), count, &buckets, no_exemplars)
    }
}

/// The metrics as one collector.
#[derive(Debug)]
struct Families(Arc<Metrics>);

impl Metrics {
    /// Adds every family to `registry`.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Families(self.clone())));
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Metrics {
            http,
            route,
            tcp,
            refused,
            resent,
            handshakes,
            handshake_latency,
            detection,
            refused_requests,
            lines_lost,
            access: _,
        } = &*self.0;
        let to = &mut encoder;
        // Counters are written with the suffix `_total`.
        family(to, "request", "Requests, each attempt at an endpoint", &http.requests)?;
        family(to, "response", "Responses that came to their end", &http.responses)?;
        family(to, "response_latency_ms", "From the request's head to the response's end", &http.latency)?;
        family(to, "route_request", "Requests of a route", &route.requests)?;
        family(to, "route_response", "Responses of a route that came to their end", &route.responses)?;
        family(to, "route_response_latency_ms", "From the request's head to the response's end", &route.latency)?;
        family(to, "tcp_open", "Connections opened", &tcp.opened)?;
        family(to, "tcp_open_connections", "Connections open now", &tcp.open)?;
        family(to, "tcp_close", "Connections closed", &tcp.closed)?;
        family(to, "tcp_read_bytes", "Bytes read from peers", &tcp.read_bytes)?;
        family(to, "tcp_write_bytes", "Bytes written to peers", &tcp.write_bytes)?;
        family(to, "conduit_connections_refused", "Connections closed as soon as they were accepted", refused)?;
        family(to, "conduit_requests_resent", "Requests sent to another endpoint, none reached by the first", resent)?;
        let help = "Connections that are served, by what said what they carry";
        family(to, "conduit_connections_classified", help, &detection.connections)?;
        let help = "How long the first bytes of connections were looked for and at";
        family(to, "conduit_detection_latency_ms", help, &detection.latency)?;
        let help = "Requests refused before their heads were understood";
        family(to, "conduit_requests_refused", help, refused_requests)?;
        family(to, "conduit_access_log_lost_lines", "Lines of the access log that found no room", lines_lost)?;
        family(to, "conduit_tls_handshakes", "TLS handshakes with peers of the mesh", handshakes)?;
        let help = "From the start of a TLS handshake with a peer of the mesh to its end, if it succeeded";
        family(to, "conduit_tls_handshake_latency_ms", help, handshake_latency)
    }
}

fn family<M: Encode>(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, family: &Family<M>) -> fmt::Result {
    let mut encoder = to.encode_descriptor(name, help, None, M::TYPE)?;
    for (labels, metric) in family.scrape(Instant::now()) {
        metric.encode(encoder.encode_family(&labels.in_order().as_slice())?)?;
    }
    Ok(())
}
