//! Who runs behind an address, as metrics name it.

use crate::wire::{self, WireError};

/// A pod and the controller that owns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Namespace of the pod.
    pub namespace: String,
    /// Service account that the pod runs as.
    pub service_account: String,
    /// What kind of object owns the pod.
    pub kind: WorkloadKind,
    /// Name of the owner; of the pod itself where nothing owns it.
    pub name: String,
    /// Name of the pod.
    pub pod: String,
}

/// The kinds of controllers that metrics have a label for (`dst_deployment` and so on).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum WorkloadKind {
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    ReplicationController,
}

impl WorkloadKind {
    /// The label's name without its `dst_` prefix, as Linkerd's proxy exports it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::ReplicaSet => "replicaset",
            Self::Job => "job",
            Self::CronJob => "cronjob",
            Self::ReplicationController => "replicationcontroller",
        }
    }

    fn to_wire(self) -> wire::WorkloadKind {
        match self {
            Self::Pod => wire::WorkloadKind::Pod,
            Self::Deployment => wire::WorkloadKind::Deployment,
            Self::StatefulSet => wire::WorkloadKind::StatefulSet,
            Self::DaemonSet => wire::WorkloadKind::DaemonSet,
            Self::ReplicaSet => wire::WorkloadKind::ReplicaSet,
            Self::Job => wire::WorkloadKind::Job,
            Self::CronJob => wire::WorkloadKind::CronJob,
            Self::ReplicationController => wire::WorkloadKind::ReplicationController,
        }
    }

    fn from_wire(value: i32) -> Result<Self, WireError> {
        match wire::WorkloadKind::try_from(value) {
            Ok(wire::WorkloadKind::Pod) => Ok(Self::Pod),
            Ok(wire::WorkloadKind::Deployment) => Ok(Self::Deployment),
            Ok(wire::WorkloadKind::StatefulSet) => Ok(Self::StatefulSet),
            Ok(wire::WorkloadKind::DaemonSet) => Ok(Self::DaemonSet),
            Ok(wire::WorkloadKind::ReplicaSet) => Ok(Self::ReplicaSet),
            Ok(wire::WorkloadKind::Job) => Ok(Self::Job),
            Ok(wire::WorkloadKind::CronJob) => Ok(Self::CronJob),
            Ok(wire::WorkloadKind::ReplicationController) => Ok(Self::ReplicationController),
            Ok(wire::WorkloadKind::Unspecified) | Err(_) => {
                Err(WireError::new("kind", format!("must be a workload kind, was {value}")))
            }
        }
    }
}

impl Workload {
    /// Writes the workload as a message.
    pub fn to_wire(&self) -> wire::Workload {
        wire::Workload {
            namespace: self.namespace.clone(),
            service_account: self.service_account.clone(),
            kind: self.kind.to_wire().into(),
            name: self.name.clone(),
            pod: self.pod.clone(),
        }
    }

    /// Reads a workload.
    pub fn from_wire(message: wire::Workload) -> Result<Self, WireError> {
        Ok(Self {
            kind: WorkloadKind::from_wire(message.kind)?,
            namespace: message.namespace,
            service_account: message.service_account,
            name: message.name,
            pod: message.pod,
        })
    }
}
