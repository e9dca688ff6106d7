//! `caBundle` in the webhook configurations.

use super::{api_server::ApiServer, eventually};
use crate::reconcile::webhook::{INJECTOR, run};
use k8s_openapi::{ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const RESOURCE: &str = "mutatingwebhookconfigurations";

struct Running {
    server: ApiServer,
    bundle: watch::Sender<Option<Arc<str>>>,
    written: watch::Receiver<bool>,
    _stop: DropGuard,
}

fn start(server: ApiServer, bundle: Option<&str>) -> Running {
    let (sender, receiver) = watch::channel(bundle.map(Arc::from));
    let (tell, written) = watch::channel(false);
    let stop = CancellationToken::new();
    tokio::spawn(run::<MutatingWebhookConfiguration>(server.client(), INJECTOR, receiver, tell, stop.clone()));
    Running { server, bundle: sender, written, _stop: stop.drop_guard() }
}

fn configuration(bundles: [Option<&str>; 2]) -> Value {
    let entry = |name: &str, bundle: Option<&str>| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "NoneOnDryRun",
            "clientConfig": {"service": {"name": "conduit-operator", "namespace": "conduit"}, "caBundle": bundle.map(encoded)},
        })
    };
    let webhooks = [entry("by-namespace", bundles[0]), entry("by-pod", bundles[1])];
    json!({"metadata": {"name": INJECTOR}, "webhooks": webhooks})
}

fn encoded(bundle: &str) -> Value {
    json!(ByteString(bundle.as_bytes().to_vec()))
}

impl Running {
    fn held(&self) -> Vec<Value> {
        let configuration = self.server.get(RESOURCE, "", INJECTOR).unwrap_or_default();
        let entries = configuration["webhooks"].as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["clientConfig"]["caBundle"].clone()).collect()
    }

    async fn until_held(&self, bundle: &str) {
        let expected = [encoded(bundle), encoded(bundle)];
        eventually("every entry has the bundle", || self.held() == expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_entry_gets_the_bundle_and_keeps_the_rest() {
    let server = ApiServer::new();
    server.put(RESOURCE, configuration([None, Some("old")]));
    let running = start(server, Some("bundle"));
    running.until_held("bundle").await;
    eventually("that is told", || *running.written.borrow()).await;
    let entry = &running.server.get(RESOURCE, "", INJECTOR).unwrap()["webhooks"][0];
    assert_eq!(entry["clientConfig"]["service"]["name"], "conduit-operator");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_the_bundle_is_there_already() {
    let server = ApiServer::new();
    server.put(RESOURCE, configuration([Some("bundle"), Some("bundle")]));
    let running = start(server, Some("bundle"));
    eventually("it is told that the bundle is there", || *running.written.borrow()).await;
    assert_eq!(running.server.writes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn drift_is_put_right_and_a_rotated_bundle_follows() {
    let server = ApiServer::new();
    server.put(RESOURCE, configuration([None, None]));
    let running = start(server, Some("bundle"));
    running.until_held("bundle").await;
    running.server.put(RESOURCE, configuration([Some("bundle"), None]));
    running.until_held("bundle").await;
    running.bundle.send(Some("rotated".into())).unwrap();
    running.until_held("rotated").await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_comes_later_is_waited_for() {
    let running = start(ApiServer::new(), None);
    running.bundle.send(Some("bundle".into())).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(!*running.written.borrow());
    running.server.put(RESOURCE, configuration([None, None]));
    running.until_held("bundle").await;
    eventually("that is told", || *running.written.borrow()).await;
    running.server.delete(RESOURCE, "", INJECTOR);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert!(*running.written.borrow(), "an uninstall takes readiness from nobody");
}
