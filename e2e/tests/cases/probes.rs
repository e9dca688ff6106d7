//! Probes of each kind tell the truth about the application, though a proxy listens in front of it.

use anyhow::ensure;
use conduit_e2e::{Case, Mesh, eventually, manifest, workload};
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use std::time::Duration;

/// The kinds, each with its probe of port 8080.
const PROBES: [(&str, &str); 4] = [
    ("http", "httpGet: {path: /ready, port: 8080}"),
    ("tcp", "tcpSocket: {port: 8080}"),
    ("grpc", "grpc: {port: 8080}"),
    ("exec", "exec: {command: [/conduit-demo, check, http1, 'http://localhost:8080']}"),
];

#[test]
fn probes_of_each_kind_pass_while_the_application_is_up() {
    Case::run("probes-up", Mesh::Enabled, async |case| {
        for (kind, probe) in PROBES {
            case.apply(&pod(kind, "[echo-server, --http, '8080']", probe)).await?;
        }
        for (kind, _) in PROBES {
            let ready = case.pod_ready(kind).await?;
            ensure!(workload::is_meshed(&ready), "{kind} has no proxy");
            let statuses = ready.status.and_then(|status| status.container_statuses).unwrap_or_default();
            ensure!(
                statuses.iter().all(|status| status.restart_count == 0),
                "{kind} was restarted by its liveness probe"
            );
        }
        Ok(())
    });
}

#[test]
fn probes_of_each_kind_fail_while_the_application_is_down() {
    Case::run("probes-down", Mesh::Enabled, async |case| {
        for (kind, probe) in PROBES {
            // The container runs, and nothing listens on its port.
            case.apply(&pod(kind, "[sleep, 1h]", probe)).await?;
        }
        let events: Api<Event> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
        for (kind, _) in PROBES {
            eventually(
                &format!("the {kind} probes fail and its container is restarted"),
                Duration::from_secs(60),
                || async {
                    let failed =
                        events.list(&ListParams::default().fields(&format!("involvedObject.name={kind}"))).await?;
                    for probe in ["Readiness probe", "Liveness probe"] {
                        let said = |event: &Event| event.message.as_deref().is_some_and(|text| text.starts_with(probe));
                        ensure!(failed.items.iter().any(said), "no event says that its {probe} failed");
                    }
                    let status = case.pod(kind).await?.status.unwrap_or_default();
                    let app = status.container_statuses.into_iter().flatten().find(|container| container.name == "app");
                    ensure!(app.is_some_and(|app| app.restart_count >= 1), "not restarted yet");
                    Ok(())
                },
            )
            .await?;
            ensure!(!workload::is_ready(&case.pod(kind).await?), "{kind} is ready");
        }
        // The proxies themselves were up all the time: what failed was the application.
        for pod in case.pods().list(&ListParams::default()).await? {
            let statuses = pod.status.and_then(|status| status.init_container_statuses).unwrap_or_default();
            let proxy = statuses.iter().find(|status| status.name == "conduit-proxy");
            ensure!(proxy.is_some_and(|proxy| proxy.ready && proxy.restart_count == 0), "the proxy: {proxy:?}");
        }
        Ok(())
    });
}

fn pod(kind: &str, arguments: &str, probe: &str) -> String {
    let probes = format!(
        "    readinessProbe: {{{probe}, periodSeconds: 1, timeoutSeconds: 5}}
    livenessProbe: {{{probe}, periodSeconds: 2, failureThreshold: 3, initialDelaySeconds: 3, timeoutSeconds: 5}}"
    );
    manifest::pod(kind, arguments, &probes)
}
