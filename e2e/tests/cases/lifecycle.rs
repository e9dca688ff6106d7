//! Pods of every shape live as they do without a proxy: init containers, Jobs, pods that call themselves.

use anyhow::ensure;
use conduit_e2e::{
    Case, Mesh, eventually,
    manifest::{self, IMAGE},
    workload,
};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use std::time::Duration;

#[test]
fn an_init_container_of_the_application_has_network() {
    Case::run("init", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.available("echo").await?;
        let init = format!(
            "  initContainers:
  - {{name: own, image: '{IMAGE}', args: [check, http1, 'http://echo']}}
"
        );
        case.apply(&format!("{}{init}", manifest::pod("client", "[sleep, 1h]", ""))).await?;
        let pod = case.pod_ready("client").await?;
        let statuses = pod.status.and_then(|status| status.init_container_statuses).unwrap_or_default();
        let own = statuses.iter().find(|status| status.name == "own");
        ensure!(own.is_some_and(|own| own.restart_count == 0), "it took more than one attempt: {own:?}");
        // Through the proxy, not around it.
        let requests = case.scrape_of("client").await?;
        ensure!(requests.sum("request_total", &[("dst_service", "echo")]) >= 1.0, "its requests are not counted");
        Ok(())
    });
}

#[test]
fn a_job_completes() {
    Case::run("job", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.available("echo").await?;
        case.apply(&format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  backoffLimit: 0
  template:
    metadata: {{labels: {{app: once}}}}
    spec:
      restartPolicy: Never
      containers:
      - {{name: app, image: '{IMAGE}', args: [check, grpc, 'http://echo:82']}}
"
        ))
        .await?;
        let jobs: Api<Job> = Api::namespaced(case.cluster.client.clone(), &case.namespace);
        eventually("the Job is complete", Duration::from_secs(60), || async {
            let status = jobs.get("once").await?.status.unwrap_or_default();
            ensure!(status.succeeded == Some(1), "{status:?}");
            Ok(())
        })
        .await?;
        ensure!(workload::is_meshed(&case.pod("once").await?), "it completed without a proxy");
        Ok(())
    });
}

#[test]
fn a_pod_calls_itself_through_its_service() {
    Case::run("itself", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 1)).await?;
        case.available("echo").await?;
        for (check, target) in [
            ("http1", "http://echo"),
            ("h2", "http://echo:81"),
            ("grpc", "http://echo:82"),
            ("half-close", "echo:9000"),
            // Its own address, and around the network.
            ("http1", "http://localhost:8080"),
        ] {
            case.check("echo", check, target).await?;
        }
        let address = case.pod("echo").await?.status.and_then(|status| status.pod_ip).unwrap_or_default();
        case.check("echo", "http1", &format!("http://{address}:8080")).await?;
        let connections = case.scrape_of("echo").await?.sum("tcp_open_total", &[("dst_service", "echo")]);
        ensure!(connections >= 4.0, "the proxy counted {connections} connections to the Service");
        Ok(())
    });
}
