//! What is kept of a Pod, and which workload it belongs to.

use super::{
    name::ObjectName,
    ports::{AnnotatedPorts, PortSet},
    probe::{self, PortProbe},
    service::TargetPort,
};
use conduit_model::{Workload, WorkloadKind, settings::ADMIN_PORT};
use k8s_openapi::api::core::v1;
use std::{collections::BTreeMap, net::IpAddr};

/// Name of the container that makes a pod a part of the mesh.
const PROXY_CONTAINER: &str = "conduit-proxy";
/// Name of the container that redirects the pod's connections to the proxy.
const INIT_CONTAINER: &str = "conduit-init";
/// Its argument that says which of the pod's ports it leaves out.
const SKIP_INBOUND_PORTS: &str = "--skip-inbound-ports=";
/// Label by which a Deployment tells its ReplicaSets apart.
const TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
/// How long after its scheduled time a CronJob's pod can be created and still be recognised by its name, in minutes.
const CRON_DELAY_MAX: i64 = 24 * 60;

/// A Pod, as far as compilation asks about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Tells it from an earlier pod of the same name.
    pub uid: String,
    /// Every label, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Who it is in metrics.
    pub workload: Workload,
    /// Its addresses, of one or both families.
    pub ips: Vec<IpAddr>,
    /// The node that it runs on; none until it has one.
    pub node: Option<String>,
    /// Its addresses are its node's, and other pods'.
    pub host_network: bool,
    /// The TCP ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// What the kubelet asks of its containers over the network.
    pub probes: Vec<PortProbe>,
    /// Ports of the pod that are opaque.
    pub opaque_ports: AnnotatedPorts,
    /// A proxy serves its connections.
    pub meshed: bool,
    /// Its ports whose incoming connections bypass the proxy all the same.
    pub skipped_ports: PortSet,
    /// It has been told to stop.
    pub terminating: bool,
    /// It has run to its end, and its addresses may belong to another pod.
    pub finished: bool,
}

/// A TCP port that a container declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name; empty where it has none.
    pub name: String,
    /// The port.
    pub port: u16,
}

impl Pod {
    /// Keeps what is needed of a Pod.
    pub fn from_object(pod: &v1::Pod) -> Self {
        let metadata = &pod.metadata;
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let name =
            ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let (kind, owner) = owner(pod).unwrap_or((WorkloadKind::Pod, name.name.clone()));
        let init = spec.init_containers.unwrap_or_default();
        let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        let mut ips: Vec<IpAddr> = ips.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
        ips.sort_unstable();
        ips.dedup();
        let running = || spec.containers.iter().chain(init.iter().filter(|container| serves(container)));
        Self {
            workload: Workload {
                namespace: name.namespace.clone(),
                service_account: spec.service_account_name.unwrap_or_else(|| "default".into()),
                kind,
                name: owner,
                pod: name.name.clone(),
            },
            name,
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            ips,
            node: spec.node_name.filter(|name| !name.is_empty()),
            host_network: spec.host_network == Some(true),
            opaque_ports: PortSet::opaque(metadata.annotations.as_ref()),
            meshed: init.iter().any(|container| container.name == PROXY_CONTAINER),
            skipped_ports: skipped_ports(&init),
            terminating: metadata.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            ports: running().flat_map(ports).collect(),
            probes: running().flat_map(probe::of_container).collect(),
        }
    }

    /// Whether a proxy takes the connections to this port of it. Not those to its own admin server, which speaks plaintext:
    /// whoever scrapes its metrics may be meshed.
    pub fn is_meshed_at(&self, port: u16) -> bool {
        self.meshed && port != ADMIN_PORT && !self.skipped_ports.contains(port)
    }

    /// Its port that a Service's port leads to; none where that is the name of a port that it has not.
    pub fn target(&self, target: &TargetPort) -> Option<u16> {
        match target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => self.named_port(name),
        }
    }

    /// The container port of this name.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|port| port.name == name).map(|port| port.port)
    }
}

/// The ports that the pod's redirection leaves out: as it was set up when the pod was made, whatever annotations and
/// defaults say now. A list that cannot be read may hold any port.
fn skipped_ports(init: &[v1::Container]) -> PortSet {
    let args = init.iter().filter(|container| container.name == INIT_CONTAINER).flat_map(|init| &init.args).flatten();
    let list = args.filter_map(|arg| arg.strip_prefix(SKIP_INBOUND_PORTS)).next_back();
    PortSet::parse(list.unwrap_or_default()).unwrap_or_else(|_| PortSet::all())
}

/// Whether an init container is a sidecar of the application's own, which runs as long as the pod.
fn serves(container: &v1::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always") && container.name != PROXY_CONTAINER
}

fn ports(container: &v1::Container) -> impl Iterator<Item = ContainerPort> + '_ {
    let ports = container.ports.iter().flatten().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    ports.filter_map(|port| {
        let number = u16::try_from(port.container_port).ok().filter(|port| *port != 0)?;
        Some(ContainerPort { name: port.name.clone().unwrap_or_default(), port: number })
    })
}

/// What controls a pod. The chain to a Deployment or CronJob is read from names, without a look at the object between.
fn owner(pod: &v1::Pod) -> Option<(WorkloadKind, String)> {
    let metadata = &pod.metadata;
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let name = owner.name.clone();
    let core = owner.api_version == "v1";
    let apps = owner.api_version.starts_with("apps/");
    let batch = owner.api_version.starts_with("batch/");
    Some(match owner.kind.as_str() {
        "ReplicaSet" if apps => {
            let hash = metadata.labels.iter().flatten().find(|(key, _)| *key == TEMPLATE_HASH_LABEL);
            let deployment = hash.and_then(|(_, hash)| name.strip_suffix(hash)?.strip_suffix('-'));
            match deployment {
                Some(deployment) => (WorkloadKind::Deployment, deployment.to_owned()),
                None => (WorkloadKind::ReplicaSet, name),
            }
        }
        "Job" if batch => match cron_job(&name, super::created(metadata)) {
            Some(cron_job) => (WorkloadKind::CronJob, cron_job.to_owned()),
            None => (WorkloadKind::Job, name),
        },
        "StatefulSet" if apps => (WorkloadKind::StatefulSet, name),
        "DaemonSet" if apps => (WorkloadKind::DaemonSet, name),
        "ReplicationController" if core => (WorkloadKind::ReplicationController, name),
        _ => return None,
    })
}

/// The CronJob that made a Job: its controller appends the scheduled time in minutes since the epoch. A number that is
/// not shortly before the pod's creation is somebody's own.
fn cron_job(job: &str, created: i64) -> Option<&str> {
    let (cron_job, minutes) = job.rsplit_once('-')?;
    let delay = created / 60 - minutes.parse::<i64>().ok()?;
    (0..=CRON_DELAY_MAX).contains(&delay).then_some(cron_job)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(manifest: serde_json::Value) -> Pod {
        Pod::from_object(&serde_json::from_value(manifest).unwrap())
    }

    fn owned_by(api_version: &str, kind: &str, name: &str) -> (WorkloadKind, String) {
        let pod = pod(serde_json::json!({"metadata": {
            "namespace": "shop", "name": "web-7d4b9-x2x2x",
            "labels": {"pod-template-hash": "7d4b9"},
            "creationTimestamp": "2026-01-01T00:10:00Z",
            "ownerReferences": [{
                "apiVersion": api_version, "kind": kind, "name": name, "uid": "1", "controller": true,
            }],
        }}));
        (pod.workload.kind, pod.workload.name)
    }

    #[test]
    fn the_workload_is_the_controller_that_people_know() {
        let scheduled = 1_767_225_600 / 60; // 2026-01-01T00:00:00Z
        let job = |minutes: i64| format!("report-{minutes}");
        for (api, kind, owner, expected, name) in [
            ("apps/v1", "ReplicaSet", "web-7d4b9".into(), WorkloadKind::Deployment, "web".to_owned()),
            ("apps/v1", "ReplicaSet", "web".into(), WorkloadKind::ReplicaSet, "web".into()),
            ("apps/v1", "StatefulSet", "db".into(), WorkloadKind::StatefulSet, "db".into()),
            ("apps/v1", "DaemonSet", "log".into(), WorkloadKind::DaemonSet, "log".into()),
            ("v1", "ReplicationController", "old".into(), WorkloadKind::ReplicationController, "old".into()),
            ("batch/v1", "Job", job(scheduled), WorkloadKind::CronJob, "report".into()),
            ("batch/v1", "Job", job(scheduled - 10_000), WorkloadKind::Job, job(scheduled - 10_000)),
            ("batch/v1", "Job", job(2026), WorkloadKind::Job, job(2026)),
            ("example.org/v1", "ReplicaSet", "web-7d4b9".into(), WorkloadKind::Pod, "web-7d4b9-x2x2x".into()),
        ] {
            assert_eq!(owned_by(api, kind, &owner), (expected, name), "{api} {kind} {owner}");
        }
    }

    #[test]
    fn a_port_that_the_redirection_leaves_out_is_not_meshed() {
        for (args, meshed) in [
            (serde_json::json!(["--inbound-port=4143"]), [true, true]),
            (serde_json::json!(["--skip-inbound-ports=25,8000-8010", "--skip-outbound-ports=9000"]), [false, true]),
            (serde_json::json!(["--skip-inbound-ports=all of them"]), [false, false]),
        ] {
            let pod = pod(serde_json::json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {
                "initContainers": [
                    {"name": "conduit-init", "args": args}, {"name": "conduit-proxy", "restartPolicy": "Always"},
                ],
                "containers": [{"name": "app"}],
            }}));
            assert_eq!([8005, 9000].map(|port| pod.is_meshed_at(port)), meshed, "{args}");
        }
    }

    #[test]
    fn ports_of_the_proxy_are_not_the_applications() {
        let pod = pod(serde_json::json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {
            "initContainers": [
                {"name": "conduit-proxy", "restartPolicy": "Always", "ports": [{"containerPort": 4191}]},
                {"name": "cache", "restartPolicy": "Always", "ports": [{"containerPort": 6380, "name": "cache"}]},
                {"name": "once", "ports": [{"containerPort": 1}]},
            ],
            "containers": [{"name": "app", "ports": [
                {"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"},
            ]}],
        }}));
        assert!(pod.meshed);
        assert_eq!([8080, 6380, 4191].map(|port| pod.is_meshed_at(port)), [true, true, false]);
        assert_eq!(pod.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [8080, 6380]);
        assert_eq!(pod.named_port("cache"), Some(6380));
    }
}
