//! The ConfigMap that pods mount.

use super::{api_server::ApiServer, eventually};
use crate::reconcile::trust_bundle::run;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Running {
    server: ApiServer,
    bundle: watch::Sender<Option<Arc<str>>>,
    _stop: DropGuard,
}

fn start(server: ApiServer) -> Running {
    let (bundle, receiver) = watch::channel(Some("bundle".into()));
    let stop = CancellationToken::new();
    tokio::spawn(run(server.client(), receiver, stop.clone()));
    Running { server, bundle, _stop: stop.drop_guard() }
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn opted_in() -> Value {
    json!({"conduit.io/inject": "enabled"})
}

impl Running {
    fn held(&self, namespace: &str) -> Option<Value> {
        let config_map = self.server.get("configmaps", namespace, "conduit-trust-bundle")?;
        Some(config_map["data"]["ca.crt"].clone())
    }

    async fn until_held(&self, namespace: &str, bundle: &str) {
        eventually("the namespace has the bundle", || self.held(namespace) == Some(json!(bundle))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_gets_the_bundle_when_it_is_labelled_or_holds_a_pod_that_opted_in() {
    let server = ApiServer::new();
    server.put("namespaces", namespace("shop", opted_in()));
    server.put("namespaces", namespace("later", json!({})));
    server.put("namespaces", namespace("plain", json!({})));
    let running = start(server);
    running.until_held("shop", "bundle").await;
    running.server.put("namespaces", namespace("later", opted_in()));
    running.until_held("later", "bundle").await;
    let pod = json!({"metadata": {"name": "web", "namespace": "plain", "labels": opted_in()}});
    assert_eq!(running.held("plain"), None);
    running.server.put("pods", pod);
    running.until_held("plain", "bundle").await;
    let labels = &running.server.get("configmaps", "shop", "conduit-trust-bundle").unwrap()["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/managed-by"], "conduit-operator");
}

#[tokio::test(start_paused = true)]
async fn a_changed_or_deleted_bundle_is_put_back_and_a_rotated_one_follows_everywhere() {
    let server = ApiServer::new();
    server.put("namespaces", namespace("shop", opted_in()));
    let running = start(server);
    running.until_held("shop", "bundle").await;
    running.server.delete("configmaps", "shop", "conduit-trust-bundle");
    running.until_held("shop", "bundle").await;
    let mut changed = running.server.get("configmaps", "shop", "conduit-trust-bundle").unwrap();
    changed["data"]["ca.crt"] = json!("forged");
    running.server.put("configmaps", changed);
    running.until_held("shop", "bundle").await;
    running.bundle.send(Some("rotated".into())).unwrap();
    running.until_held("shop", "rotated").await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_no_longer_labelled_keeps_the_bundle_for_its_old_pods_up_to_date() {
    let server = ApiServer::new();
    server.put("namespaces", namespace("shop", opted_in()));
    let running = start(server);
    running.until_held("shop", "bundle").await;
    running.server.put("namespaces", namespace("shop", json!({})));
    running.server.delete("namespaces", "", "shop");
    running.bundle.send(Some("rotated".into())).unwrap();
    running.until_held("shop", "rotated").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_nothing_changed() {
    let server = ApiServer::new();
    server.put("namespaces", namespace("shop", opted_in()));
    let running = start(server);
    running.until_held("shop", "bundle").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.server.put("namespaces", namespace("shop", json!({"conduit.io/inject": "enabled", "more": "x"})));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.server.writes().len(), 1);
    let restarted = start(running.server.clone());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(restarted.server.writes().len(), 1, "a new replica finds everything as it should be");
}
