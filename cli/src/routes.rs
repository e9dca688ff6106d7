//! The rows of `conduit routes`: per route what the proxies of a workload saw, as server or as client. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::golden::{Golden, Traffic};
use crate::resource::{Resource, Service};
use crate::scrape::Changes;
use crate::workload::Member;

/// The route of requests that no route of a profile matches.
pub(crate) const DEFAULT_ROUTE: &str = "[DEFAULT]";

/// Whose view is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// What comes to the workload.
    Server,
    /// What the workload sends to this Service; without a namespace in the name, of the workload's own.
    Client(Service),
}

/// One route of one Service. The order of the fields is the order of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) namespace: String,
    pub(crate) workload: String,
    /// Name, namespace, `svc`, cluster domain, and port; `-` for what came to the pod by no Service.
    pub(crate) service: String,
    pub(crate) route: String,
    #[serde(flatten)]
    pub(crate) golden: Golden,
}

/// Sorted as [`Row`] is read, the default route last.
type Key = (String, String, String, bool, String);

/// One row per workload, Service and route that the proxies know.
pub(crate) fn table(resource: &Resource, view: &View, members: &[Member], changes: &Changes) -> Vec<Row> {
    let mut sums = BTreeMap::<Key, Traffic>::new();
    for member in members.iter().filter(|member| member.is_of(resource)) {
        let Some(change) = changes.get(&(member.namespace.clone(), member.pod.clone())) else { continue };
        let (namespace, workload) = member.row(resource);
        let workload = format!("{}/{}", workload.kind.short(), workload.name);
        let key = |service: &str, route: &str| {
            let default = route == DEFAULT_ROUTE;
            (namespace.clone(), workload.clone(), service.to_owned(), default, route.to_owned())
        };
        for (labels, count) in change.increases("route_response_total") {
            let service = labels.get("dst").unwrap_or("-");
            if view.shows(labels.get("direction"), service, &member.namespace) {
                let sum = sums.entry(key(service, labels.get("rt_route").unwrap_or(DEFAULT_ROUTE))).or_default();
                sum.measured();
                sum.responses(labels.get("classification"), count, change.seconds());
            }
        }
        for (labels, counted) in change.histograms("route_response_latency_ms_bucket") {
            let service = labels.get("dst").unwrap_or("-");
            if view.shows(labels.get("direction"), service, &member.namespace) {
                let sum = sums.entry(key(service, labels.get("rt_route").unwrap_or(DEFAULT_ROUTE))).or_default();
                sum.measured();
                sum.latencies(&counted);
            }
        }
    }
    let rows = sums.into_iter().map(|((namespace, workload, service, _, route), traffic)| Row {
        namespace,
        workload,
        service,
        route,
        golden: traffic.golden(),
    });
    rows.collect()
}

impl View {
    fn shows(&self, direction: Option<&str>, service: &str, own_namespace: &str) -> bool {
        match self {
            Self::Server => direction == Some("inbound"),
            Self::Client(wanted) => direction == Some("outbound") && wanted.is(service, own_namespace),
        }
    }
}

impl Service {
    /// Whether this is the Service of a full name: `cart` is `cart.<own namespace>.svc…`, `cart.shop` is `cart.shop.svc…`.
    fn is(&self, full: &str, own_namespace: &str) -> bool {
        let (name, namespace) = self.name.split_once('.').unwrap_or((&self.name, own_namespace));
        let mut parts = full.split('.');
        parts.next() == Some(name) && parts.next() == Some(namespace)
    }
}

#[cfg(test)]
mod tests;
