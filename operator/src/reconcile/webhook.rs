//! Keeps `caBundle` in the webhook configurations, so that the API server trusts what the webhooks serve.
//!
//! The chart leaves the field out, since a template cannot know it. Each entry of a configuration gets it by its name,
//! in a strategic merge patch, which touches nothing else; what another writes there is put right.

use futures::StreamExt;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher::watch_object},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{fmt::Debug, future::pending, pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the MutatingWebhookConfiguration.
pub const INJECTOR: &str = "conduit-injector";
/// Name of the ValidatingWebhookConfiguration.
pub const VALIDATOR: &str = "conduit-validator";

const MANAGER: &str = "conduit-operator";
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// A configuration whose entries have a `caBundle`.
pub trait Configuration: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static {
    /// Each entry's name, and where the API server finds it.
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|entry| (entry.name.as_str(), &entry.client_config)).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn entries(&self) -> Vec<(&str, &WebhookClientConfig)> {
        self.webhooks.iter().flatten().map(|entry| (entry.name.as_str(), &entry.client_config)).collect()
    }
}

/// Keeps the bundle in the configuration of this name until `shutdown`. Sets `written` once it was there for the first
/// time; that stays, for a configuration that is taken away later (an uninstall) takes nothing from the proxies.
pub async fn run<C: Configuration>(
    client: Client,
    name: &'static str,
    mut bundle: watch::Receiver<Option<Arc<str>>>,
    written: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let api = Api::<C>::all(client);
    let changes = watch_object(api.clone(), name).default_backoff().take_until(shutdown.cancelled());
    let mut changes = pin!(changes);
    let mut current = None;
    loop {
        let trusted = bundle.borrow_and_update().clone();
        let retry = match (&current, trusted) {
            (Some(configuration), Some(trusted)) => keep(&api, name, configuration, &trusted, &written).await,
            _ => None,
        };
        tokio::select! {
            change = changes.next() => match change {
                None => return,
                Some(Ok(configuration)) => {
                    if configuration.is_none() {
                        tracing::warn!(name, "there is no such webhook configuration; nothing calls the webhook");
                    }
                    current = configuration;
                }
                Some(Err(error)) => tracing::warn!(name, %error, "cannot watch the webhook configuration"),
            },
            changed = bundle.changed() => if changed.is_err() { return },
            () = sleep(retry) => {}
        }
    }
}

/// Writes the bundle where it is missing. Gives the time after which to try again, if it failed.
async fn keep<C: Configuration>(
    api: &Api<C>,
    name: &str,
    configuration: &C,
    bundle: &str,
    written: &watch::Sender<bool>,
) -> Option<Duration> {
    if let Some(patch) = patch(configuration, bundle) {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        if let Err(error) = api.patch(name, &params, &Patch::Strategic(patch)).await {
            tracing::error!(name, %error, "caBundle could not be written; trying again");
            return Some(RETRY);
        }
        tracing::info!(name, "wrote caBundle to the webhook configuration");
    }
    written.send_if_modified(|written| !std::mem::replace(written, true));
    None
}

/// What makes every entry trust the bundle; none where all do.
fn patch(configuration: &impl Configuration, bundle: &str) -> Option<Value> {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let entries = configuration.entries();
    let stale = entries.iter().filter(|(_, config)| config.ca_bundle.as_ref() != Some(&bundle));
    let webhooks: Vec<_> =
        stale.map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": &bundle}})).collect();
    (!webhooks.is_empty()).then(|| json!({ "webhooks": webhooks }))
}

async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => pending().await,
    }
}
