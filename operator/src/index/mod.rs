//! What the cluster holds, as small values kept up to date by watches or from manifests.
//!
//! Objects are converted on arrival and never kept whole. This room knows what objects say; what a proxy is to do about
//! it is decided by `compile`. Readers take the view for the time of one decision and never hold it over an `await`.

pub mod change;
mod convert;
pub mod declared;
pub mod fault;
mod lookup;
pub mod manifests;
pub mod name;
pub mod namespace;
pub mod node;
pub mod object;
pub mod pod;
pub mod policy;
pub mod ports;
pub mod probe;
pub mod profile;
pub mod service;
pub mod slice;
pub mod view;
pub mod watch;

#[cfg(test)]
mod tests;

pub use change::{Changes, Fact, Facts};
pub use name::ObjectName;
pub use namespace::Namespace;
pub use node::Node;
pub use object::{Key, Kind, Object};
pub use pod::Pod;
pub use service::Service;
pub use view::View;

use bytes::Bytes;
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak},
};
use tokio::sync::watch::Sender;

/// The one index of a process. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct Index(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: RwLock<View>,
    readers: Mutex<Vec<Weak<Changes>>>,
    /// Kinds whose objects have not all been seen yet.
    missing: Sender<BTreeSet<Kind>>,
}

impl Index {
    /// An empty index of a cluster with this DNS domain, such as `cluster.local`.
    pub fn new(cluster_domain: &str) -> Self {
        Self(Arc::new(Inner {
            view: RwLock::new(View::new(cluster_domain.into())),
            readers: Mutex::default(),
            missing: Sender::new(Kind::ALL.into()),
        }))
    }

    /// What is known now. Holding it keeps changes waiting.
    pub fn view(&self) -> RwLockReadGuard<'_, View> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<Namespace> {
        self.view().namespace(name).cloned()
    }

    /// Whether every kind has been seen whole.
    pub fn synced(&self) -> bool {
        self.0.missing.borrow().is_empty()
    }

    /// Waits until every kind has been seen whole.
    pub async fn wait_synced(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.0.missing.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// A new reader of changes, which hears of all that come from now on.
    pub fn changes(&self) -> Arc<Changes> {
        let changes = Arc::new(Changes::default());
        let mut readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&changes));
        changes
    }

    /// Takes an object in, new or changed.
    pub fn apply(&self, object: Object) {
        self.change(|view, facts| view.apply(object, facts));
    }

    /// Forgets an object.
    pub fn delete(&self, key: Key) {
        self.change(|view, facts| view.delete(key, facts));
    }

    /// Takes in all objects of a kind, and forgets those of before that are not among them. The kind counts as synced
    /// from then on.
    pub fn reset(&self, kind: Kind, objects: Vec<Object>) {
        self.change(|view, facts| {
            let mut gone: BTreeSet<_> = view.names(kind).into_iter().collect();
            for object in objects {
                gone.remove(&object.key().name);
                view.apply(object, facts);
            }
            for name in gone {
                view.delete(Key { kind, name }, facts);
            }
        });
        self.0.missing.send_if_modified(|missing| missing.remove(&kind));
    }

    /// Takes in the roots of the mesh, X.509 in DER; the one that signs now is the first. They come from the operator's own
    /// Secret, not from an object that users write.
    pub fn set_trust_bundle(&self, roots: Vec<Bytes>) {
        self.change(|view, facts| view.set_trust_bundle(roots, facts));
    }

    /// Takes in where the kubelet's probes come from beside the nodes' own addresses, as whoever runs the mesh says.
    pub fn set_probe_networks(&self, networks: Vec<IpNet>) {
        self.change(|view, facts| view.set_probe_networks(networks, facts));
    }

    /// Readers hear of a change while nobody can yet see it, so that who looks at the view and then finds no news knows
    /// that what it saw is the newest.
    fn change(&self, make: impl FnOnce(&mut View, &mut Facts)) {
        let mut facts = Facts::new();
        let mut view = self.0.view.write().unwrap_or_else(PoisonError::into_inner);
        make(&mut view, &mut facts);
        if facts.is_empty() {
            return;
        }
        let readers = self.0.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter().filter_map(Weak::upgrade) {
            reader.add(&facts);
        }
    }
}

/// When an object was created, in seconds since the epoch.
pub(crate) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
