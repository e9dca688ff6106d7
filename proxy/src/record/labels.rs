//! Labels of series, from what is known of destinations and endpoints.
//!
//! A called Service has a dozen series, whose labels say the same of it and differ in the last one or two. So labels are a
//! chain from the last to the first, and those that have a beginning in common share it, texts and all: a further series
//! costs a link for each label that it adds.

use conduit_model::{PortRange, ServicePort, SpiffeId, Workload, WorkloadKind};
use std::{borrow::Cow, cmp::Ordering, fmt, iter, sync::Arc};

/// The side of the pod that a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the pod.
    Outbound,
    /// To the pod.
    Inbound,
}

/// Which end of the proxy a connection is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The one that connected to the proxy.
    Source,
    /// The one that the proxy connected to.
    Destination,
}

/// Whether a connection is secured by the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls<'a> {
    /// It is, and the other end has proved to be this.
    Peer(&'a SpiffeId),
    /// It is not.
    None(NoTls),
}

/// Why a connection is not secured by the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoTls {
    /// Outbound: the endpoint has no proxy.
    NotProvidedByServiceDiscovery,
    /// Outbound: policy of either side says so.
    DisabledByPolicy,
    /// Outbound: whom kube-proxy chooses is not known beforehand.
    LeftToKubeProxy,
    /// Outbound: nothing is known of the destination.
    UnknownDestination,
    /// It does not leave the pod.
    Loopback,
    /// Inbound: the client spoke plaintext.
    NotFromRemote,
    /// Inbound: the client spoke TLS with the application.
    NotMeshTls,
    /// One of the two could not prove who it is.
    HandshakeFailed,
}

/// An ordered set of labels. A clone is a count more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Option<Arc<Label>>);

/// The last label of a set.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Label {
    name: &'static str,
    value: Cow<'static, str>,
    before: Labels,
}

/// Value of `rt_route` of a request that no route matches.
pub const DEFAULT_ROUTE: &str = "[DEFAULT]";

impl Direction {
    /// Value of the label `direction`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }

    /// The label that says who the other end is.
    fn peer_label(self) -> &'static str {
        match self {
            Self::Outbound => "server_id",
            Self::Inbound => "client_id",
        }
    }
}

impl NoTls {
    /// Value of the label `no_tls_reason`; Linkerd's where it has the case.
    fn reason(self) -> &'static str {
        match self {
            Self::NotProvidedByServiceDiscovery => "not_provided_by_service_discovery",
            Self::DisabledByPolicy => "disabled_by_policy",
            Self::LeftToKubeProxy => "left_to_kube_proxy",
            Self::UnknownDestination => "unknown_destination",
            Self::Loopback => "loopback",
            Self::NotFromRemote => "no_tls_from_remote",
            Self::NotMeshTls => "not_mesh_tls",
            Self::HandshakeFailed => "handshake_failed",
        }
    }
}

impl Labels {
    /// These labels and one more.
    pub fn and(&self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        Self(Some(Arc::new(Label { name, value: value.into(), before: self.clone() })))
    }

    /// From the first to the last, as the encoder takes them.
    pub(crate) fn in_order(&self) -> Vec<(&'static str, &str)> {
        let mut labels: Vec<_> = self.backwards().map(|label| (label.name, &*label.value)).collect();
        labels.reverse();
        labels
    }

    fn backwards(&self) -> impl Iterator<Item = &Label> {
        iter::successors(self.0.as_deref(), |label| label.before.0.as_deref())
    }

    /// Of the series that counts what there was no room for.
    pub(crate) fn overflow() -> Self {
        Self::default().and("overflow", "true")
    }

    /// Of everything in one direction.
    pub(crate) fn direction(direction: Direction) -> Self {
        Self::default().and("direction", direction.name())
    }

    /// Of requests and connections to endpoints that are alike in all that metrics tell apart: those of one workload, by
    /// one Service. No label names a single endpoint, so that the number of series does not grow with replicas.
    pub(crate) fn endpoint(service: Option<&ServicePort>, workload: Option<&Workload>, tls: Tls<'_>) -> Self {
        let mut labels = Self::direction(Direction::Outbound).authority(service);
        if let Some(workload) = workload {
            labels = labels.and("dst_namespace", workload.namespace.clone());
            // A pod that nothing owns is named by itself.
            labels = labels.and(workload_label(workload.kind), workload.name.clone());
            labels = labels.and("dst_serviceaccount", workload.service_account.clone());
        } else if let Some(service) = service {
            labels = labels.and("dst_namespace", service.namespace.clone());
        }
        if let Some(service) = service {
            labels = labels.and("dst_service", service.name.clone());
        }
        labels.secured(Direction::Outbound, tls)
    }

    /// Of requests and connections to a port of the pod that the operator knows, or to any of several that it knows alike, by
    /// a Service where one is known.
    pub(crate) fn own(ports: Option<PortRange>, service: Option<&ServicePort>, tls: Tls<'_>) -> Self {
        let mut labels = Self::direction(Direction::Inbound).authority(service);
        if let Some(ports) = ports {
            labels = labels.and("target_port", ports.to_string());
        }
        labels.secured(Direction::Inbound, tls)
    }

    /// Of a route of a Service; of all requests together where there is no Service.
    pub(crate) fn route(direction: Direction, service: Option<&ServicePort>, route: Option<&str>) -> Self {
        let mut labels = Self::direction(direction);
        if let Some(service) = service {
            labels = labels.and("dst", service.to_string());
        }
        labels.and("rt_route", route.map_or(Cow::Borrowed(DEFAULT_ROUTE), |route| route.to_owned().into()))
    }

    fn authority(self, service: Option<&ServicePort>) -> Self {
        service.map_or_else(|| self.clone(), |service| self.and("authority", service.to_string()))
    }

    fn secured(self, direction: Direction, tls: Tls<'_>) -> Self {
        match tls {
            Tls::Peer(id) => self.and("tls", "true").and(direction.peer_label(), id.to_string()),
            Tls::None(why) => self.and("tls", "no_identity").and("no_tls_reason", why.reason()),
        }
    }
}

/// By the first label that differs; a beginning of another set comes before it.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        /// `left` and `right` are as long as said.
        fn compare(left: (&Labels, usize), right: (&Labels, usize)) -> Ordering {
            let ((Labels(Some(one)), length), (Labels(Some(two)), of_other)) = (left, right) else {
                return left.1.cmp(&right.1);
            };
            match length.cmp(&of_other) {
                Ordering::Greater => compare((&one.before, length - 1), right).then(Ordering::Greater),
                Ordering::Less => compare(left, (&two.before, of_other - 1)).then(Ordering::Less),
                Ordering::Equal if Arc::ptr_eq(one, two) => Ordering::Equal,
                Ordering::Equal => compare((&one.before, length - 1), (&two.before, length - 1))
                    .then_with(|| (one.name, &one.value).cmp(&(two.name, &two.value))),
            }
        }
        compare((self, self.backwards().count()), (other, other.backwards().count()))
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As in the exposition format.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "{";
        for (name, value) in self.in_order() {
            write!(f, "{separator}{name}={value:?}")?;
            separator = ",";
        }
        f.write_str(if separator == "{" { "{}" } else { "}" })
    }
}

impl Peer {
    /// Value of the label `peer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::Destination => "dst",
        }
    }
}

fn workload_label(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Pod => "dst_pod",
        WorkloadKind::Deployment => "dst_deployment",
        WorkloadKind::StatefulSet => "dst_statefulset",
        WorkloadKind::DaemonSet => "dst_daemonset",
        WorkloadKind::ReplicaSet => "dst_replicaset",
        WorkloadKind::Job => "dst_job",
        WorkloadKind::CronJob => "dst_cronjob",
        WorkloadKind::ReplicationController => "dst_replicationcontroller",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<const N: usize>(labels: [(&'static str, &'static str); N]) -> Labels {
        labels.into_iter().fold(Labels::default(), |set, (name, value)| set.and(name, value))
    }

    #[test]
    fn labels_are_what_they_say_wherever_they_come_from() {
        let shared = labels([("a", "1"), ("b", "2")]);
        let one = shared.and("c", "3");
        assert_eq!(one, labels([("a", "1"), ("b", "2"), ("c", "3")]));
        assert_ne!(one, shared);
        assert_eq!(one.in_order(), [("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(one.to_string(), r#"{a="1",b="2",c="3"}"#);
        assert_eq!(Labels::default().to_string(), "{}");
    }

    #[test]
    fn the_first_label_that_differs_says_which_labels_come_first() {
        let base = labels([("a", "1"), ("b", "2")]);
        let ordered = [
            Labels::default(),
            labels([("a", "0"), ("b", "9"), ("c", "9")]),
            labels([("a", "1")]),
            base.clone(),
            base.and("c", "3"),
            base.and("c", "4"),
            labels([("a", "1"), ("c", "0")]),
            labels([("b", "0")]),
        ];
        for (left, one) in ordered.iter().enumerate() {
            for (right, other) in ordered.iter().enumerate() {
                assert_eq!(one.cmp(other), left.cmp(&right), "{one} and {other}");
            }
        }
    }

    #[test]
    fn workload_labels_are_those_that_the_contract_names() {
        for kind in [
            WorkloadKind::Pod,
            WorkloadKind::Deployment,
            WorkloadKind::StatefulSet,
            WorkloadKind::DaemonSet,
            WorkloadKind::ReplicaSet,
            WorkloadKind::Job,
            WorkloadKind::CronJob,
            WorkloadKind::ReplicationController,
        ] {
            assert_eq!(workload_label(kind), format!("dst_{}", kind.label()));
        }
    }
}
