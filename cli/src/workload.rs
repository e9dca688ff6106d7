//! What a pod belongs to and whether it is meshed, from the pod alone. Pure; it must not ask the cluster.

use std::fmt;

use conduit_operator::inject::PROXY_CONTAINER;
use k8s_openapi::api::core::v1::Pod;

use crate::resource::{Kind, Resource};

/// A pod that lives, as the tables see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The workload that people know: the Deployment rather than its ReplicaSet.
    pub(crate) workload: Workload,
    /// What its identity is made of.
    pub(crate) service_account: String,
    pub(crate) meshed: bool,
    /// Its proxy should answer: the pod is not only starting.
    pub(crate) running: bool,
}

/// What owns a pod; the pod itself where nothing does. The order is the order of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl Member {
    /// `None` for a pod that has ended or is about to: its numbers are the past.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let name = pod.metadata.name.clone()?;
        let workload = owner(pod).unwrap_or_else(|| Workload { kind: Kind::Pod, name: name.clone() });
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let service_account = spec.and_then(|spec| spec.service_account_name.clone());
        Some(Self {
            namespace: pod.metadata.namespace.clone()?,
            pod: name,
            workload,
            service_account: service_account.unwrap_or_else(|| "default".to_owned()),
            meshed: init.iter().any(|container| container.name == PROXY_CONTAINER),
            running: phase == Some("Running"),
        })
    }

    /// Whether the pod is one of those that the user asked about.
    pub(crate) fn is_of(&self, resource: &Resource) -> bool {
        match resource.kind {
            Some(Kind::Pod) => resource.is_named(&self.pod),
            _ => self.workload.is_of(resource, &self.namespace),
        }
    }

    /// The row that the pod counts into.
    pub(crate) fn row(&self, resource: &Resource) -> (String, Workload) {
        let workload = match resource.kind {
            Some(kind @ Kind::Namespace) => Workload { kind, name: self.namespace.clone() },
            Some(kind @ Kind::Pod) => Workload { kind, name: self.pod.clone() },
            _ => self.workload.clone(),
        };
        (self.namespace.clone(), workload)
    }
}

impl Workload {
    /// Whether this workload of a namespace is one of those that the user asked about.
    pub(crate) fn is_of(&self, resource: &Resource, namespace: &str) -> bool {
        match resource.kind {
            None => true,
            Some(Kind::Namespace) => resource.is_named(namespace),
            Some(kind) => self.kind == kind && resource.is_named(&self.name),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.short(), self.name)
    }
}

fn owner(pod: &Pod) -> Option<Workload> {
    let owner = pod.metadata.owner_references.as_deref()?.iter().find(|owner| owner.controller == Some(true))?;
    let workload = |kind, name: &str| Some(Workload { kind, name: name.to_owned() });
    match owner.kind.as_str() {
        "ReplicaSet" => {
            // A Deployment names its ReplicaSets <its name>-<hash>, and labels the pods with the hash.
            let hash = pod.metadata.labels.as_ref().and_then(|labels| labels.get("pod-template-hash"));
            let deployment = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
            match deployment {
                Some(name) => workload(Kind::Deployment, name),
                None => workload(Kind::ReplicaSet, &owner.name),
            }
        }
        "StatefulSet" => workload(Kind::StatefulSet, &owner.name),
        "DaemonSet" => workload(Kind::DaemonSet, &owner.name),
        "Job" => workload(Kind::Job, &owner.name),
        "ReplicationController" => workload(Kind::ReplicationController, &owner.name),
        // Owned by something that is not Kubernetes' own: the pod stands for itself.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn member(owner: Value, labels: Value) -> Member {
        let metadata = json!({"name": "web-6c9f-x1", "namespace": "shop", "labels": labels, "ownerReferences": owner});
        let spec = json!({"containers": [], "initContainers": [{"name": "conduit-init"}, {"name": "conduit-proxy"}]});
        let pod = json!({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}});
        Member::of(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    fn owned(kind: &str, name: &str) -> Value {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": true}])
    }

    #[test]
    fn a_pod_of_a_replicaset_of_a_deployment_is_the_deployments() {
        let member = member(owned("ReplicaSet", "web-6c9f"), json!({"pod-template-hash": "6c9f"}));
        assert_eq!(member.workload, Workload { kind: Kind::Deployment, name: "web".into() });
        assert!(member.meshed);
    }

    #[test]
    fn a_replicaset_of_its_own_keeps_its_name() {
        let member = member(owned("ReplicaSet", "web-6c9f"), json!({}));
        assert_eq!(member.workload, Workload { kind: Kind::ReplicaSet, name: "web-6c9f".into() });
    }

    #[test]
    fn a_pod_that_nothing_owns_is_its_own_workload() {
        assert_eq!(member(json!([]), json!({})).workload, Workload { kind: Kind::Pod, name: "web-6c9f-x1".into() });
        let foreign = member(owned("Rollout", "web"), json!({}));
        assert_eq!(foreign.workload.kind, Kind::Pod);
    }

    #[test]
    fn resources_select_by_workload_pod_and_namespace() {
        let member = member(owned("StatefulSet", "web"), json!({}));
        let chosen = |text: &str| member.is_of(&text.parse().unwrap());
        assert!(["sts", "sts/web", "pod", "pod/web-6c9f-x1", "ns", "ns/shop"].into_iter().all(chosen));
        assert!(!["deploy", "sts/other", "pod/web", "ns/other"].into_iter().any(chosen));
        assert!(member.is_of(&Resource::default()));
    }

    #[test]
    fn a_pod_that_has_ended_is_not_counted() {
        let pod = json!({"metadata": {"name": "a", "namespace": "b"}, "status": {"phase": "Succeeded"}});
        assert_eq!(Member::of(&serde_json::from_value(pod).unwrap()), None);
    }
}
