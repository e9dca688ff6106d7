//! Counts and quantiles, kept exactly and rendered for people and for programs. It must not know what was sent.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// Latencies beyond this many are thinned: every second one is dropped, and half as many are kept from then on.
const MAX_SAMPLES: usize = 1 << 20;

/// What became of some requests.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) took: Duration,
    pub(crate) sent: u64,
    pub(crate) failed: u64,
    /// Failures by kind, such as `status_500`, `connect`, `reset`, `timeout`, `body`.
    pub(crate) failures: BTreeMap<String, u64>,
    latencies: Latencies,
}

#[derive(Debug)]
struct Latencies {
    /// In microseconds, from when the request was due.
    samples: Vec<u32>,
    keep_each: u64,
    seen: u64,
}

impl Default for Summary {
    fn default() -> Self {
        let latencies = Latencies { samples: Vec::new(), keep_each: 1, seen: 0 };
        Self { took: Duration::ZERO, sent: 0, failed: 0, failures: BTreeMap::new(), latencies }
    }
}

impl Summary {
    /// A request ended as it should.
    pub(crate) fn succeeded(&mut self, latency: Duration) {
        self.sent += 1;
        self.latencies.add(latency);
    }

    /// A request ended otherwise. Its latency counts too: users waited for it.
    pub(crate) fn failed(&mut self, kind: &str, latency: Duration) {
        self.sent += 1;
        self.failed += 1;
        *self.failures.entry(kind.to_owned()).or_default() += 1;
        self.latencies.add(latency);
    }

    /// A latency in milliseconds that `quantile` (0 to 1) of the requests did not exceed; 0 with no request.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let mut samples = self.latencies.samples.clone();
        if samples.is_empty() {
            return 0.0;
        }
        let rank = ((samples.len() as f64 * quantile).ceil() as usize).clamp(1, samples.len()) - 1;
        f64::from(*samples.select_nth_unstable(rank).1) / 1e3
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.took.is_zero() { 0.0 } else { self.sent as f64 / self.took.as_secs_f64() }
    }

    /// The whole as one object, for programs.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "seconds": self.took.as_secs_f64(),
            "requests": self.sent,
            "succeeded": self.sent - self.failed,
            "failed": self.failed,
            "failures": self.failures,
            "rps": self.rate(),
            "p50_ms": self.quantile(0.50),
            "p95_ms": self.quantile(0.95),
            "p99_ms": self.quantile(0.99),
            "max_ms": self.quantile(1.0),
        })
    }
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        self.seen += 1;
        if !self.seen.is_multiple_of(self.keep_each) {
            return;
        }
        self.samples.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        if self.samples.len() >= MAX_SAMPLES {
            let mut odd = false;
            self.samples.retain(|_| {
                odd = !odd;
                odd
            });
            self.keep_each *= 2;
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let succeeded =
            if self.sent == 0 { 100.0 } else { 100.0 * (self.sent - self.failed) as f64 / self.sent as f64 };
        write!(
            f,
            "{:.1} requests/s, {succeeded:.2}% succeeded, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms",
            self.rate(),
            self.quantile(0.50),
            self.quantile(0.95),
            self.quantile(0.99),
        )?;
        for (kind, count) in &self.failures {
            write!(f, ", {kind} {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_samples_themselves() {
        let mut summary = Summary::default();
        for milliseconds in 1..=100 {
            summary.succeeded(Duration::from_millis(milliseconds));
        }
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|q| summary.quantile(q)), [50.0, 95.0, 99.0, 100.0]);
    }

    #[test]
    fn every_failure_is_counted_by_its_kind() {
        let mut summary = Summary { took: Duration::from_secs(2), ..Summary::default() };
        summary.succeeded(Duration::from_millis(2));
        summary.failed("status_500", Duration::from_millis(2));
        summary.failed("status_500", Duration::from_millis(2));
        summary.failed("connect", Duration::from_millis(2));
        let expected = "2.0 requests/s, 25.00% succeeded, p50 2.0 ms, p95 2.0 ms, p99 2.0 ms, connect 1, status_500 2";
        assert_eq!(summary.to_string(), expected);
        assert_eq!(summary.to_json()["failures"], json!({"connect": 1, "status_500": 2}));
    }

    #[test]
    fn memory_has_a_bound_and_the_quantiles_stay_near() {
        let mut summary = Summary::default();
        for index in 0..3_000_000_u64 {
            summary.succeeded(Duration::from_micros(index % 1000));
        }
        assert!(summary.latencies.samples.len() < MAX_SAMPLES);
        assert!((summary.quantile(0.5) - 0.5).abs() < 0.01);
    }
}
