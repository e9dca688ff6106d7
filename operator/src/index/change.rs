//! What changed in the index, named finely enough that only what depends on it is compiled again.

use super::name::ObjectName;
use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};
use tokio::sync::Notify;

/// Something that a configuration is compiled from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// Who has an address.
    Address(IpAddr),
    /// A Service itself, and what profiles and policies say of it.
    Service(ObjectName),
    /// A Service's endpoints and the pods behind them.
    Endpoints(ObjectName),
    /// A pod, and which Services select it.
    Pod(ObjectName),
    /// A Namespace's own settings, policies on it or on its pods, and whom its pods serve by any policy.
    Namespace(String),
    /// A Node's addresses.
    Node(String),
    /// Which addresses are pods', known or not.
    PodRanges,
    /// Where the kubelet's probes come from on every node.
    ProbeNetworks,
    /// Whether any policy makes clients refuse plaintext.
    RequiredTls,
    /// The roots that every certificate of the mesh is verified with.
    TrustBundle,
}

/// Facts that changed at one time.
pub type Facts = HashSet<Fact>;

/// What changed since its one reader last asked. Facts that change again before they are read are there once, so that
/// a slow reader costs no more memory than the cluster has facts.
#[derive(Debug, Default)]
pub struct Changes {
    pending: Mutex<Facts>,
    added: Notify,
}

impl Changes {
    /// Waits until something has changed. For one reader at a time.
    pub async fn changed(&self) {
        while self.pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            self.added.notified().await;
        }
    }

    /// Takes all that has changed.
    pub fn take(&self) -> Facts {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, facts: &Facts) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).extend(facts.iter().cloned());
        self.added.notify_one();
    }
}
