//! The rows of `conduit stat`: per workload what its own proxies saw come in. Pure; it must not know how it is shown.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::change::Change;
use crate::golden::{Golden, Traffic};
use crate::resource::{Kind, Resource};
use crate::scrape::Changes;
use crate::workload::Member;

/// What comes to a pod.
const INBOUND: (&str, &str) = ("direction", "inbound");

/// The end of a connection that the caller is at, so that none is counted twice.
const CALLER: (&str, &str) = ("peer", "src");

/// One workload, pod or namespace.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) namespace: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    /// Pods with a proxy.
    pub(crate) meshed: usize,
    /// All pods that live.
    pub(crate) pods: usize,
    #[serde(flatten)]
    pub(crate) golden: Golden,
    /// Connections that are open now, as the callers opened them.
    pub(crate) tcp_connections: Option<u64>,
    /// Bytes per second from the callers.
    pub(crate) read_bytes_per_second: Option<f64>,
    /// Bytes per second to the callers.
    pub(crate) write_bytes_per_second: Option<f64>,
    /// The largest resident memory of a proxy.
    pub(crate) proxy_rss_bytes: Option<u64>,
}

#[derive(Default)]
struct Sum {
    meshed: usize,
    pods: usize,
    traffic: Traffic,
    connections: Option<f64>,
    read: Option<f64>,
    written: Option<f64>,
    rss: Option<f64>,
}

/// One row per workload of the pods that `resource` selects, sorted by namespace, kind and name. Pods whose proxy did not
/// answer count as pods and add nothing else.
pub(crate) fn table(resource: &Resource, members: &[Member], changes: &Changes) -> Vec<Row> {
    let mut sums = BTreeMap::<_, Sum>::new();
    for member in members.iter().filter(|member| member.is_of(resource)) {
        let sum = sums.entry(member.row(resource)).or_default();
        sum.pods += 1;
        sum.meshed += usize::from(member.meshed);
        if let Some(change) = changes.get(&(member.namespace.clone(), member.pod.clone())) {
            sum.add(change);
        }
    }
    let rows = sums.into_iter().map(|((namespace, workload), sum)| Row {
        namespace,
        kind: workload.kind,
        name: workload.name,
        meshed: sum.meshed,
        pods: sum.pods,
        golden: sum.traffic.golden(),
        tcp_connections: sum.connections.map(|connections| connections as u64),
        read_bytes_per_second: sum.read,
        write_bytes_per_second: sum.written,
        proxy_rss_bytes: sum.rss.map(|bytes| bytes as u64),
    });
    rows.collect()
}

impl Sum {
    fn add(&mut self, change: &Change) {
        self.traffic.measured();
        for (labels, count) in change.increases("response_total").filter(|(labels, _)| labels.has(&[INBOUND])) {
            self.traffic.responses(labels.get("classification"), count, change.seconds());
        }
        for (labels, counted) in change.histograms("response_latency_ms_bucket") {
            if labels.has(&[INBOUND]) {
                self.traffic.latencies(&counted);
            }
        }
        let per_second = |name| {
            let counted = change.increases(name).filter(|(labels, _)| labels.has(&[INBOUND, CALLER]));
            counted.map(|(_, bytes)| bytes).sum::<f64>() / change.seconds()
        };
        *self.connections.get_or_insert(0.0) += change.gauge("tcp_open_connections", &[INBOUND, CALLER]).unwrap_or(0.0);
        *self.read.get_or_insert(0.0) += per_second("tcp_read_bytes_total");
        *self.written.get_or_insert(0.0) += per_second("tcp_write_bytes_total");
        if let Some(rss) = change.gauge("process_resident_memory_bytes", &[]) {
            self.rss = Some(self.rss.unwrap_or(0.0).max(rss));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
