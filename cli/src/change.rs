//! What one proxy counted between two scrapes. Pure; it must not know what the tables show.
//!
//! Counters begin anew when a proxy restarts, and a series that was idle for long may be forgotten and begin anew alone.
//! The first shows in the start time of the process and voids the whole earlier scrape; the second shows in a count that
//! is lower than before. In both cases what is there now was counted since.

use std::collections::BTreeMap;

use crate::exposition::{Exposition, Labels};
use crate::histogram::Histogram;

/// The start of the proxy's process, in seconds since 1970.
const PROCESS_START: &str = "process_start_time_seconds";

/// Everything that the tables are made of: the names that a scrape keeps.
pub(crate) const METRICS: &[&str] = &[
    PROCESS_START,
    "process_resident_memory_bytes",
    "request_total",
    "response_total",
    "response_latency_ms_bucket",
    "route_response_total",
    "route_response_latency_ms_bucket",
    "tcp_open_total",
    "tcp_open_connections",
    "tcp_read_bytes_total",
    "tcp_write_bytes_total",
];

/// Two scrapes of one proxy, and the time between them.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    before: Exposition,
    after: Exposition,
    /// Above zero.
    seconds: f64,
}

impl Change {
    /// All that a proxy has counted since it started, as far as it still shows it.
    pub(crate) fn since_start(now: Exposition) -> Self {
        Self::new(Exposition::default(), now, 0.0)
    }

    /// `seconds` is the time between the scrapes.
    pub(crate) fn new(before: Exposition, after: Exposition, seconds: f64) -> Self {
        let start = |scrape: &Exposition| scrape.value(PROCESS_START, &Labels::default());
        let before = if start(&before) == start(&after) { before } else { Exposition::default() };
        Self { before, after, seconds: seconds.max(f64::MIN_POSITIVE) }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds
    }

    /// How much each series of a counter grew; those that did not grow are among them.
    pub(crate) fn increases(&self, name: &'static str) -> impl Iterator<Item = (&Labels, f64)> {
        self.after.series(name).map(move |(labels, now)| {
            let then = self.before.value(name, labels).unwrap_or(0.0);
            (labels, if now >= then { now - then } else { now })
        })
    }

    /// What each histogram counted, by its labels without the bound. `name` ends with `_bucket`.
    pub(crate) fn histograms(&self, name: &'static str) -> BTreeMap<Labels, Histogram> {
        let before = cumulative(&self.before, name);
        let since = |(labels, now): (Labels, Histogram)| {
            let counted = before.get(&labels).map_or_else(|| now.clone(), |then| now.since(then));
            (labels, counted)
        };
        cumulative(&self.after, name).into_iter().map(since).collect()
    }

    /// The value of each of a gauge's series at the later scrape.
    pub(crate) fn now(&self, name: &'static str) -> impl Iterator<Item = (&Labels, f64)> {
        self.after.series(name)
    }

    /// The sum of a gauge's series that have these labels, at the later scrape; `None` where there is no such series.
    pub(crate) fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.after.series(name).filter(|(own, _)| own.has(labels)).map(|(_, value)| value).peekable();
        values.peek()?;
        Some(values.sum())
    }
}

fn cumulative(scrape: &Exposition, name: &str) -> BTreeMap<Labels, Histogram> {
    let mut counts = BTreeMap::<_, Vec<_>>::new();
    for (labels, count) in scrape.series(name) {
        if let Some(bound) = labels.get("le").and_then(|bound| bound.parse().ok()) {
            counts.entry(labels.without("le")).or_default().push((bound, count));
        }
    }
    counts.into_iter().map(|(labels, counts)| (labels, Histogram::from_cumulative(counts))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(before: &str, after: &str) -> Change {
        let parse = |text| Exposition::parse(text, METRICS).unwrap();
        Change::new(parse(before), parse(after), 5.0)
    }

    fn increase(before: &str, after: &str) -> f64 {
        change(before, after).increases("response_total").map(|(_, increase)| increase).sum()
    }

    #[test]
    fn a_counter_grows_by_the_difference() {
        assert_eq!(increase("response_total 10\n", "response_total 25\n"), 15.0);
    }

    #[test]
    fn a_series_that_is_new_grew_by_all_it_holds() {
        assert_eq!(increase("", "response_total{a=\"1\"} 7\n"), 7.0);
    }

    #[test]
    fn a_series_that_began_anew_grew_by_all_it_holds() {
        assert_eq!(increase("response_total 10\n", "response_total 4\n"), 4.0);
    }

    #[test]
    fn after_a_restart_even_a_higher_count_is_all_new() {
        let before = "process_start_time_seconds 100\nresponse_total 10\n";
        assert_eq!(increase(before, "process_start_time_seconds 200\nresponse_total 12\n"), 12.0);
        assert_eq!(increase(before, "process_start_time_seconds 100\nresponse_total 12\n"), 2.0);
    }

    #[test]
    fn histograms_are_told_apart_by_their_other_labels() {
        let text = |a, b| {
            format!(
                "response_latency_ms_bucket{{direction=\"inbound\",le=\"1.0\"}} {a}\n\
                 response_latency_ms_bucket{{direction=\"inbound\",le=\"+Inf\"}} {a}\n\
                 response_latency_ms_bucket{{direction=\"outbound\",le=\"1.0\"}} 0\n\
                 response_latency_ms_bucket{{direction=\"outbound\",le=\"+Inf\"}} {b}\n"
            )
        };
        let histograms = change(&text(1, 2), &text(5, 2)).histograms("response_latency_ms_bucket");
        let quantiles: Vec<_> = histograms
            .iter()
            .map(|(labels, histogram)| (labels.get("direction").unwrap(), histogram.quantile(0.5)))
            .collect();
        assert_eq!(quantiles, [("inbound", Some(0.5)), ("outbound", None)]);
    }

    #[test]
    fn a_gauge_is_the_sum_of_now_or_nothing() {
        let text = "tcp_open_connections{peer=\"src\",a=\"1\"} 2\ntcp_open_connections{peer=\"src\",a=\"2\"} 3\n";
        assert_eq!(change("", text).gauge("tcp_open_connections", &[("peer", "src")]), Some(5.0));
        assert_eq!(change("", text).gauge("tcp_open_connections", &[("peer", "dst")]), None);
    }
}
