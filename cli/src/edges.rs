//! The rows of `conduit edges`: who talks to whom, with which identities, and what is not secured and why. Pure; it must
//! not know how it is shown.
//!
//! An edge is told by the client's proxy, which knows the workload at its other end. What comes from pods that were not
//! looked at is told by the server's proxy, which knows a verified client by its identity and any other not at all.
//! Clients and servers of a connection are of one trust domain, so that either side's identity tells the other's.

use std::collections::{BTreeMap, BTreeSet};

use conduit_model::spiffe::SpiffeId;
use serde::Serialize;

use crate::change::Change;
use crate::exposition::Labels;
use crate::resource::{Kind, Resource};
use crate::scrape::Changes;
use crate::workload::{Member, Workload};

/// What stands for whoever showed no identity.
pub(crate) const OUTSIDE: &str = "(outside)";

/// Labels of outbound series that name the workload at the other end.
const DESTINATIONS: [(&str, Kind); 7] = [
    ("dst_deployment", Kind::Deployment),
    ("dst_statefulset", Kind::StatefulSet),
    ("dst_daemonset", Kind::DaemonSet),
    ("dst_replicaset", Kind::ReplicaSet),
    ("dst_replicationcontroller", Kind::ReplicationController),
    ("dst_job", Kind::Job),
    ("dst_pod", Kind::Pod),
];

/// What the values of the label `no_tls_reason` mean to a user.
const REASONS: [(&str, &str); 9] = [
    ("not_provided_by_service_discovery", "not meshed"),
    ("disabled_by_policy", "disabled by policy"),
    ("left_to_kube_proxy", "left to kube-proxy"),
    ("unknown_destination", "outside the mesh"),
    ("loopback", "within the pod"),
    ("no_tls_from_remote", "no TLS from the client"),
    ("handshake_failed", "the handshake failed"),
    ("not_mesh_tls", "the application's own TLS"),
    ("probe", "a probe of the kubelet"),
];

/// Connections and requests of one kind between two ends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Absent for what is outside the mesh.
    pub(crate) src_namespace: Option<String>,
    /// `deploy/web`; `sa/web` where only the service account is known; [`OUTSIDE`].
    pub(crate) src: String,
    pub(crate) dst_namespace: Option<String>,
    /// As `src`; `svc/web` where only the Service is known.
    pub(crate) dst: String,
    /// Of the server's pod, where the server's proxy tells the edge.
    pub(crate) port: Option<String>,
    /// The client's SPIFFE ID, where the connection is secured.
    pub(crate) client_id: Option<String>,
    pub(crate) server_id: Option<String>,
    pub(crate) secured: bool,
    /// Why not.
    pub(crate) reason: Option<String>,
    /// Connections that were opened.
    pub(crate) connections: u64,
    /// Those that are open now.
    pub(crate) open_connections: u64,
    pub(crate) requests: u64,
}

/// One end. The order is the order of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Party {
    Workload { namespace: String, workload: Workload },
    ServiceAccount { namespace: String, name: String },
    Service { namespace: String, name: String },
    Namespace { namespace: String },
    Outside,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Security {
    Mutual { client: SpiffeId, server: SpiffeId },
    None { reason: String },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    src: Party,
    dst: Party,
    port: Option<String>,
    security: Security,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    connections: f64,
    open: f64,
    requests: f64,
}

/// One row per edge that touches what `resource` selects, sorted by its ends; those without a connection and a request
/// are left out. `members` are all pods of the place that was looked at.
pub(crate) fn table(resource: &Resource, members: &[Member], changes: &Changes) -> Vec<Row> {
    let told = told_by_clients(members, changes);
    let mut edges = BTreeMap::<Edge, Count>::new();
    for member in members {
        let Some(change) = changes.get(&(member.namespace.clone(), member.pod.clone())) else { continue };
        for (labels, count) in counts(change) {
            let edge = match labels.get("direction") {
                Some("outbound") => outbound(resource, member, labels),
                Some("inbound") => inbound(resource, member, members, labels).filter(|edge| match &edge.security {
                    // A pod as such is named by its own proxy alone.
                    Security::Mutual { client, .. } if resource.kind != Some(Kind::Pod) => !told.contains(&of(client)),
                    Security::Mutual { .. } | Security::None { .. } => true,
                }),
                _ => None,
            };
            if let Some(edge) = edge.filter(|edge| edge.src.is_of(resource) || edge.dst.is_of(resource)) {
                edges.entry(edge).or_default().add(count);
            }
        }
    }
    edges.into_iter().filter(|(_, count)| count.any()).map(|(edge, count)| edge.row(count)).collect()
}

/// Namespaces and service accounts whose proxies answered: they tell their edges themselves.
fn told_by_clients(members: &[Member], changes: &Changes) -> BTreeSet<(String, String)> {
    let answered = |member: &&Member| changes.contains_key(&(member.namespace.clone(), member.pod.clone()));
    let accounts = members.iter().filter(answered);
    accounts.map(|member| (member.namespace.clone(), member.service_account.clone())).collect()
}

fn of(identity: &SpiffeId) -> (String, String) {
    (identity.namespace().to_owned(), identity.service_account().to_owned())
}

/// What a proxy counted at the end of a connection that is away from its own application.
fn counts(change: &Change) -> impl Iterator<Item = (&Labels, Count)> {
    let away = |(labels, _): &(&Labels, f64)| match labels.get("direction") {
        Some("outbound") => labels.get("peer") == Some("dst"),
        _ => labels.get("peer") == Some("src"),
    };
    let connections = change.increases("tcp_open_total").filter(away);
    let open = change.now("tcp_open_connections").filter(away);
    let requests = change.increases("request_total");
    connections
        .map(|(labels, connections)| (labels, Count { connections, ..Count::default() }))
        .chain(open.map(|(labels, open)| (labels, Count { open, ..Count::default() })))
        .chain(requests.map(|(labels, requests)| (labels, Count { requests, ..Count::default() })))
}

/// What a client's proxy tells.
fn outbound(resource: &Resource, member: &Member, labels: &Labels) -> Option<Edge> {
    let security = match identity(labels, "server_id") {
        Some(server) => Security::Mutual { client: own(member, &server)?, server },
        None => Security::None { reason: reason(labels) },
    };
    Some(Edge { src: Party::of(resource, member), dst: Party::destination(resource, labels), port: None, security })
}

/// What a server's proxy tells.
fn inbound(resource: &Resource, member: &Member, members: &[Member], labels: &Labels) -> Option<Edge> {
    let dst = Party::of(resource, member);
    let port = labels.get("target_port").map(str::to_owned);
    let (src, security) = match identity(labels, "client_id") {
        Some(client) => {
            let server = own(member, &client)?;
            (Party::client(resource, &client, members), Security::Mutual { client, server })
        }
        None => (Party::Outside, Security::None { reason: reason(labels) }),
    };
    Some(Edge { src, dst, port, security })
}

/// Who the peer proved to be. What does not read as an identity counts as none.
fn identity(labels: &Labels, name: &str) -> Option<SpiffeId> {
    let verified = labels.get("tls") == Some("true");
    labels.get(name).filter(|_| verified)?.parse().ok()
}

/// The identity of a pod whose peer has this one.
fn own(member: &Member, peer: &SpiffeId) -> Option<SpiffeId> {
    let domain = peer.trust_domain();
    format!("spiffe://{domain}/ns/{}/sa/{}", member.namespace, member.service_account).parse().ok()
}

fn reason(labels: &Labels) -> String {
    let Some(reason) = labels.get("no_tls_reason") else { return "not said by the proxy".to_owned() };
    let known = REASONS.iter().find(|(name, _)| *name == reason).map(|(_, words)| (*words).to_owned());
    known.unwrap_or_else(|| reason.replace('_', " "))
}

impl Party {
    fn of(resource: &Resource, member: &Member) -> Self {
        let (namespace, workload) = member.row(resource);
        Self::Workload { namespace, workload }
    }

    fn destination(resource: &Resource, labels: &Labels) -> Self {
        let Some(namespace) = labels.get("dst_namespace").map(str::to_owned) else { return Self::Outside };
        if resource.kind == Some(Kind::Namespace) {
            let workload = Workload { kind: Kind::Namespace, name: namespace.clone() };
            return Self::Workload { namespace, workload };
        }
        let workload = DESTINATIONS.iter().find_map(|(label, kind)| labels.get(label).map(|name| (*kind, name)));
        match (workload, labels.get("dst_service")) {
            (Some((kind, name)), _) => Self::Workload { namespace, workload: Workload { kind, name: name.to_owned() } },
            (None, Some(name)) => Self::Service { namespace, name: name.to_owned() },
            (None, None) => Self::Namespace { namespace },
        }
    }

    /// The workload of an identity, where only one is known to run under it.
    fn client(resource: &Resource, identity: &SpiffeId, members: &[Member]) -> Self {
        let (namespace, name) = of(identity);
        if resource.kind == Some(Kind::Namespace) {
            return Self::Workload { workload: Workload { kind: Kind::Namespace, name: namespace.clone() }, namespace };
        }
        let run = members.iter().filter(|member| member.namespace == namespace && member.service_account == name);
        let mut workloads: Vec<_> = run.map(|member| &member.workload).collect();
        workloads.sort_unstable();
        workloads.dedup();
        match workloads[..] {
            [only] => Self::Workload { namespace, workload: only.clone() },
            _ => Self::ServiceAccount { namespace, name },
        }
    }

    fn is_of(&self, resource: &Resource) -> bool {
        match (self, resource.kind) {
            (Self::Workload { namespace, workload }, _) => workload.is_of(resource, namespace),
            (_, None) => true,
            (
                Self::ServiceAccount { namespace, .. }
                | Self::Service { namespace, .. }
                | Self::Namespace { namespace },
                Some(Kind::Namespace),
            ) => resource.is_named(namespace),
            _ => false,
        }
    }

    fn namespace(&self) -> Option<String> {
        match self {
            Self::Workload { namespace, .. }
            | Self::ServiceAccount { namespace, .. }
            | Self::Service { namespace, .. }
            | Self::Namespace { namespace } => Some(namespace.clone()),
            Self::Outside => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Workload { workload, .. } => workload.to_string(),
            Self::ServiceAccount { name, .. } => format!("sa/{name}"),
            Self::Service { name, .. } => format!("svc/{name}"),
            Self::Namespace { namespace } => format!("ns/{namespace}"),
            Self::Outside => OUTSIDE.to_owned(),
        }
    }
}

impl Edge {
    fn row(self, count: Count) -> Row {
        let (client_id, server_id, reason) = match self.security {
            Security::Mutual { client, server } => (Some(client.to_string()), Some(server.to_string()), None),
            Security::None { reason } => (None, None, Some(reason)),
        };
        Row {
            src_namespace: self.src.namespace(),
            src: self.src.name(),
            dst_namespace: self.dst.namespace(),
            dst: self.dst.name(),
            port: self.port,
            client_id,
            server_id,
            secured: reason.is_none(),
            reason,
            connections: count.connections as u64,
            open_connections: count.open as u64,
            requests: count.requests as u64,
        }
    }
}

impl Count {
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.open += other.open;
        self.requests += other.requests;
    }

    fn any(self) -> bool {
        self.connections > 0.0 || self.open > 0.0 || self.requests > 0.0
    }
}

#[cfg(test)]
mod tests;
