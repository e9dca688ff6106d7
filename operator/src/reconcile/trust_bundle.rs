//! Keeps the authorities that proxies trust in a ConfigMap of every namespace that has pods with a proxy, or may get them:
//! those that are labelled, those that hold a pod that opted in, and those that have the ConfigMap already.
//!
//! Pods mount it, so it is there as soon as a namespace is labelled. It is never deleted: a namespace that is no longer
//! labelled still has its old pods, and so has a cluster that Conduit was uninstalled from. All replicas write it, each
//! the same; there is nothing to lose in that race.

use crate::inject::{ENABLED, INJECT_LABEL, TRUST_BUNDLE, TRUST_BUNDLE_KEY};
use futures::{FutureExt, Stream, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams},
    runtime::{
        WatchStreamExt,
        reflector::{Store, store},
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    future::pending,
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const MANAGER: &str = "conduit-operator";
const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const PART_OF_LABEL: &str = "app.kubernetes.io/part-of";
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// ConfigMaps written at once.
const WRITERS: usize = 16;

/// Keeps the ConfigMaps until `shutdown`.
pub async fn run(client: Client, mut bundle: watch::Receiver<Option<Arc<str>>>, shutdown: CancellationToken) {
    let opted_in = watcher::Config::default().labels(&format!("{INJECT_LABEL}={ENABLED}"));
    let ours = watcher::Config::default().fields(&format!("metadata.name={TRUST_BUNDLE}"));
    let (namespaces, namespace_changes) =
        reflected(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), opted_in.clone());
    let (pods, pod_changes) = reflected(Api::<PartialObjectMeta<Pod>>::all(client.clone()), opted_in);
    let (config_maps, config_map_changes) = reflected(Api::<ConfigMap>::all(client.clone()), ours);
    let changes = stream::select_all([namespace_changes.boxed(), pod_changes.boxed(), config_map_changes.boxed()]);
    let mut changes = pin!(changes.take_until(shutdown.cancelled()).ready_chunks(1024));
    loop {
        let trusted = bundle.borrow_and_update().clone();
        let failed = match trusted {
            // Before all is listed, what is there already looks as if it were missing.
            Some(trusted) if listed(&namespaces) && listed(&pods) && listed(&config_maps) => {
                let wanted = wanted(&namespaces.state(), &pods.state());
                write(&client, stale(wanted, &config_maps.state(), &trusted), &trusted).await
            }
            _ => false,
        };
        tokio::select! {
            change = changes.next() => if change.is_none() { return },
            changed = bundle.changed() => if changed.is_err() { return },
            () = retry(failed) => {}
        }
    }
}

/// What is known of a kind of object, and a stream that ticks when it changed. Failures of the watch are logged, and it
/// goes on by itself.
fn reflected<K>(api: Api<K>, config: watcher::Config) -> (Store<K>, impl Stream<Item = ()> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let changes = watcher(api, config).default_backoff().reflect(writer).filter_map(async |event| match event {
        // The objects of a listing count once they are all there.
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(()),
        Err(error) => {
            tracing::warn!(%error, "a watch for the trust bundle failed; it goes on");
            None
        }
    });
    (reader, changes)
}

fn listed<K>(store: &Store<K>) -> bool
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store.wait_until_ready().now_or_never().is_some()
}

/// The namespaces that should have the bundle because of what they are or hold. One that is being deleted takes nothing
/// new.
fn wanted(namespaces: &[Arc<PartialObjectMeta<Namespace>>], pods: &[Arc<PartialObjectMeta<Pod>>]) -> BTreeSet<String> {
    let labelled = namespaces.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    let labelled = labelled.filter_map(|namespace| namespace.metadata.name.clone());
    let holding = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    labelled.chain(holding.filter_map(|pod| pod.metadata.namespace.clone())).collect()
}

/// The namespaces whose ConfigMap has to be written: it should be there, or it is there, and it says something else.
fn stale(wanted: BTreeSet<String>, present: &[Arc<ConfigMap>], bundle: &str) -> Vec<String> {
    let current = |config_map: &ConfigMap| {
        let data = config_map.data.as_ref().and_then(|data| data.get(TRUST_BUNDLE_KEY));
        data.map(String::as_str) == Some(bundle)
    };
    let held: BTreeMap<_, _> = present
        .iter()
        .filter_map(|config_map| Some((config_map.metadata.namespace.clone()?, current(config_map))))
        .collect();
    let missing = wanted.into_iter().filter(|namespace| !held.contains_key(namespace));
    let outdated = held.iter().filter(|(_, current)| !**current).map(|(namespace, _)| namespace.clone());
    missing.chain(outdated).collect()
}

/// Writes the ConfigMap of each namespace; gives whether one failed that has to be tried again.
async fn write(client: &Client, namespaces: Vec<String>, bundle: &str) -> bool {
    let writes = namespaces.into_iter().map(|namespace| async move {
        let api = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
        let params = PatchParams::apply(MANAGER).force();
        match api.patch(TRUST_BUNDLE, &params, &Patch::Apply(config_map(bundle))).await {
            Ok(_) => {
                tracing::debug!(namespace, "wrote the trust bundle");
                false
            }
            // It is gone, or about to go (403, "because it is being terminated").
            Err(kube::Error::Api(status)) if status.code == 404 || status.message.contains("being terminated") => false,
            Err(error) => {
                tracing::error!(namespace, %error, "the trust bundle could not be written; trying again");
                true
            }
        }
    });
    stream::iter(writes).buffer_unordered(WRITERS).fold(false, async |failed, this| failed || this).await
}

fn config_map(bundle: &str) -> ConfigMap {
    let labels = [(MANAGED_BY_LABEL, MANAGER), (PART_OF_LABEL, "conduit")];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(TRUST_BUNDLE.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        data: Some([(TRUST_BUNDLE_KEY.to_owned(), bundle.to_owned())].into()),
        ..ConfigMap::default()
    }
}

async fn retry(failed: bool) {
    if failed { tokio::time::sleep(RETRY).await } else { pending().await }
}
