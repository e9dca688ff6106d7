//! Who gets a proxy, who does not, who is refused, and what each of them is told.

use anyhow::{Result, ensure};
use conduit_e2e::{Case, Mesh, eventually, manifest, workload};
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;

#[test]
fn an_unlabelled_namespace_is_untouched() {
    Case::run("unlabelled", Mesh::Absent, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        for app in ["echo", "client"] {
            let pod = case.pod(app).await?;
            let spec = pod.spec.unwrap_or_default();
            ensure!(spec.init_containers.is_none(), "{app} got init containers");
            ensure!(spec.containers.len() == 1, "{app} got containers");
            ensure!(pod.metadata.annotations.is_none(), "{app} got annotations: {:?}", pod.metadata.annotations);
            let ours = |volume: &&k8s_openapi::api::core::v1::Volume| volume.name.contains("conduit");
            ensure!(!spec.volumes.iter().flatten().any(|volume| ours(&volume)), "{app} got volumes");
        }
        case.reaches("client", "http1", "http://echo").await?;
        Ok(())
    });
}

#[test]
fn a_label_on_the_pod_decides_for_itself() {
    Case::run("pod-label", Mesh::Absent, async |case| {
        let labelled =
            manifest::pod("inside", "[sleep, 1h]", "").replace("labels: {", "labels: {conduit.io/inject: enabled, ");
        case.apply(&labelled).await?;
        ensure!(workload::is_meshed(&case.pod_ready("inside").await?), "a labelled pod got no proxy");
        label_namespace(&case, json!({"conduit.io/inject": "enabled"})).await?;
        let out =
            manifest::pod("out", "[sleep, 1h]", "").replace("labels: {", "labels: {conduit.io/inject: disabled, ");
        case.apply(&out).await?;
        ensure!(!workload::is_meshed(&case.pod_ready("out").await?), "a pod that opted out got a proxy");
        // Labelled a moment ago: the API server's match decides, not what the operator has seen so far.
        case.apply(&manifest::pod("now", "[sleep, 1h]", "")).await?;
        ensure!(workload::is_meshed(&case.pod_ready("now").await?), "a pod of a labelled namespace got no proxy");
        Ok(())
    });
}

#[test]
fn what_cannot_work_with_a_proxy_is_refused_with_what_to_change() {
    Case::run("refused", Mesh::Enabled, async |case| {
        let as_proxy = manifest::pod("user", "[sleep, 1h]", "    securityContext: {runAsUser: 2102}");
        let refusal = case.refused(&as_proxy).await?;
        ensure!(refusal.contains("2102") && refusal.contains("runAsUser"), "it does not name the field: {refusal}");

        let annotations = "annotations: {config.conduit.io/proxy-memory-limit: lots, \
                           config.conduit.io/skip-inbound-ports: '70000'}, labels: {";
        let bad = manifest::pod("bad", "[sleep, 1h]", "").replace("labels: {", annotations);
        let refusal = case.refused(&bad).await?;
        // Every fault at once, each with its key and what was expected.
        for part in
            ["config.conduit.io/proxy-memory-limit", "quantity", "config.conduit.io/skip-inbound-ports", "ports"]
        {
            ensure!(refusal.contains(part), "it does not say {part:?}: {refusal}");
        }

        let unknown = manifest::pod("unknown", "[sleep, 1h]", "")
            .replace("labels: {", "annotations: {config.conduit.io/proxy-colour: blue}, labels: {");
        let warnings = case.apply(&unknown).await?.join("\n");
        ensure!(warnings.contains("config.conduit.io/proxy-colour"), "no warning of an unknown key: {warnings:?}");

        label_namespace(&case, json!({"pod-security.kubernetes.io/enforce": "baseline"})).await?;
        let refusal = eventually("the operator sees the namespace's new label", Duration::from_secs(10), || async {
            case.refused(&manifest::pod(&format!("p{}", fresh()), "[sleep, 1h]", "")).await
        })
        .await?;
        ensure!(
            refusal.contains("pod-security.kubernetes.io/enforce=privileged"),
            "it does not say which label to set: {refusal}"
        );
        Ok(())
    });
}

#[test]
fn a_pod_in_its_node_s_network_is_left_alone_and_an_event_says_so() {
    Case::run("host-network", Mesh::Enabled, async |case| {
        let pod = manifest::pod("host", "[sleep, 1h]", "").replace("spec:\n", "spec:\n  hostNetwork: true\n");
        case.apply(&pod).await?;
        ensure!(!workload::is_meshed(&case.pod("host").await?), "it got a proxy");
        let events: Api<Event> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
        eventually("an Event InjectionSkipped", Duration::from_secs(10), || async {
            let events = events.list(&ListParams::default()).await?.items;
            let skipped = events.iter().find(|event| event.reason.as_deref() == Some("InjectionSkipped"));
            let note = skipped.and_then(|event| event.message.as_deref()).unwrap_or_default();
            ensure!(note.contains("spec.hostNetwork"), "{} events, none that says why: {note:?}", events.len());
            Ok(())
        })
        .await
    });
}

async fn label_namespace(case: &Case, labels: serde_json::Value) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(case.cluster.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    namespaces.patch(&case.namespace, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A number that no other call of this run gave: a pod that was let through by mistake must not stand in the way.
fn fresh() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
