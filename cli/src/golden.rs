//! The golden metrics of some requests: success, rate and latency, summed over proxies. Pure.
//!
//! What was not measured is absent, and shown as `-`; nothing is made up of nothing: without a request there is no success
//! rate and no latency, while the rate is known to be zero.

use serde::Serialize;

use crate::histogram::Histogram;

/// What some proxies counted; to be added to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    measured: bool,
    successes: f64,
    failures: f64,
    per_second: f64,
    latencies: Histogram,
}

/// What people look at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Golden {
    /// The part of responses that were no failure, 0 to 1.
    pub(crate) success_rate: Option<f64>,
    /// Responses per second.
    pub(crate) rps: Option<f64>,
    pub(crate) latency_ms_p50: Option<f64>,
    pub(crate) latency_ms_p95: Option<f64>,
    pub(crate) latency_ms_p99: Option<f64>,
}

impl Traffic {
    /// A proxy was looked at, whether or not it had traffic.
    pub(crate) fn measured(&mut self) {
        self.measured = true;
    }

    /// `count` responses of a class, as the label `classification` says it, within `seconds`.
    pub(crate) fn responses(&mut self, classification: Option<&str>, count: f64, seconds: f64) {
        match classification {
            Some("success") => self.successes += count,
            // Whatever is not known to have succeeded has not.
            _ => self.failures += count,
        }
        self.per_second += count / seconds;
    }

    /// The latencies of some responses.
    pub(crate) fn latencies(&mut self, counted: &Histogram) {
        self.latencies.add(counted);
    }

    /// The sum of it.
    pub(crate) fn golden(&self) -> Golden {
        let total = self.successes + self.failures;
        Golden {
            success_rate: (total > 0.0).then(|| self.successes / total),
            rps: self.measured.then_some(self.per_second),
            latency_ms_p50: self.latencies.quantile(0.50),
            latency_ms_p95: self.latencies.quantile(0.95),
            latency_ms_p99: self.latencies.quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_requests_only_the_rate_is_known() {
        let mut traffic = Traffic::default();
        assert_eq!(traffic.golden(), Golden::default());
        traffic.measured();
        assert_eq!(traffic.golden(), Golden { rps: Some(0.0), ..Golden::default() });
    }

    #[test]
    fn a_response_of_no_known_class_is_no_success() {
        let mut traffic = Traffic::default();
        traffic.responses(Some("success"), 3.0, 2.0);
        traffic.responses(None, 1.0, 2.0);
        assert_eq!(traffic.golden().success_rate, Some(0.75));
    }
}
